"""The fastest arithmetic and layout on this machine, by a short trial: later trainings of the kind find it noted."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stages.core.provenance import processor
from stages.training.batch_loader import Batch
from stages.training.devices import device_of, fabric_on, processes
from stages.training.trainer_state import Training, set_up
from stages.training.training_plan import Plan

NOTES = Path("work/pace")
MOST = 0.05  # share of the training's own time that a trial may take
TIMED, LEAST = 0.5, 2  # seconds, and steps, of each setting
CLEAR = {"32-true": 1.1, "bf16-mixed": 1.25}  # times faster than what changes less
PLAIN = ("32-true", "channels_first", "no")


@dataclass(frozen=True)
class Pace:
    """A setting, and what speaks for it."""

    precision: str
    layout: str
    compile: str
    why: str


def pace(plan: Plan, steps: int) -> Pace:
    """The setting of `train.precision`, `layout` and `compile` for a plan, as far as they are auto.

    Each is tried on some batches of the plan's own; one that changes the arithmetic must be clearly faster. What was
    found is noted in `work/pace`, so that the same training is the same again on this machine. Where a trial would take
    long beside the training's own `steps`, nothing is tried.
    """
    settings = list(_settings(plan))
    if len(settings) == 1:
        return Pace(*settings[0], why="params.yaml says so")
    file = NOTES / f"{_key(plan, settings, steps)}.json"
    if file.exists():
        return Pace(**json.loads(file.read_text()))
    found = _tried(plan, settings, steps)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps(asdict(found), indent=1) + "\n")
    part.replace(file)
    return found


def _settings(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """What may be chosen, what changes least first."""
    train, device = plan.train, device_of(plan.train.device).type
    boxes = plan.material.spec.representation == "boxes"  # 16 bits are too coarse for the corners of boxes
    precisions = [train.precision] if train.precision != "auto" else ["32-true"] + ["bf16-mixed"] * (not boxes)
    layouts = [train.layout] if train.layout != "auto" else ["channels_first", "channels_last"]
    compiled = [train.compile] if train.compile != "auto" else ["no"] + ["yes"] * (device == "cuda" and not boxes)
    if processes(train.devices) > 1:  # a trial in one process says little of several
        precisions, layouts, compiled = precisions[:1], layouts[:1], compiled[:1]
    return ((p, one, c) for c in compiled for p in precisions for one in layouts)


def _tried(plan: Plan, settings: list[tuple[str, str, str]], steps: int) -> Pace:
    """The first, unless another is clearly faster."""
    started = time.perf_counter()
    seconds = {settings[0]: _seconds_a_step(plan, settings[0])}
    whole, spent = seconds[settings[0]] * steps, time.perf_counter() - started
    if spent * (len(settings) - 1) > MOST * whole:
        return Pace(*settings[0], why=f"some {whole:.2g} s of training are too short for a trial")
    for setting in settings[1:]:
        seconds[setting] = _seconds_a_step(plan, setting)
    best = settings[0]
    for setting in settings[1:]:
        if seconds[setting] * CLEAR[setting[0]] < seconds[best]:
            best = setting
    told = "; ".join(f"{', '.join(_words(s))} {1000 * t:.3g} ms" for s, t in seconds.items())
    return Pace(*best, why=f"a step took: {told}")


def _words(setting: tuple[str, str, str]) -> list[str]:
    precision, layout, compiled = setting
    return [precision, layout.replace("_", " "), *(["compiled"] if compiled == "yes" else [])]


def _seconds_a_step(plan: Plan, setting: tuple[str, str, str]) -> float:
    """The quickest of some steps, behind a first one in which all is set up."""
    precision, layout, compiled = setting
    update: dict[str, Any] = {"precision": precision, "layout": layout, "compile": compiled, "resident": "no"}
    rate = 1e-4 if plan.train.learning_rate == "auto" else plan.train.learning_rate
    planned = replace(plan, train=plan.train.model_copy(update=update | {"learning_rate": rate}))
    training = set_up(planned, fabric_on(plan.train.device, precision))
    training.model.train()
    batch = next(training.feed.batches(1, training.device))
    _step(training, batch)
    taken: list[float] = []
    while len(taken) < LEAST or sum(taken) < TIMED:
        started = time.perf_counter()
        _step(training, batch)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _step(training: Training, batch: Batch) -> None:
    loss = training.loss_of(training.model, batch)
    training.optimizer.zero_grad(set_to_none=True)
    training.fabric.backward(loss)
    training.optimizer.step()
    if training.device.type == "cuda":
        torch.cuda.synchronize()


def _key(plan: Plan, settings: list[tuple[str, str, str]], steps: int) -> str:
    """What a trial depends on."""
    device = device_of(plan.train.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    parts = [asdict(plan.network_config), plan.train.batch_size, plan.train.optimizer, plan.loss, settings, steps,
             name, torch.get_num_threads(), torch.__version__]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
