"""Measure which precision, memory layout and compilation train fastest on this machine.

The result is stored, so that the same training makes the same choice again on this machine.
"""

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
from stages.training.devices import process_count, single_process_fabric, torch_device
from stages.training.trainer_state import TrainerState, build_state
from stages.training.training_plan import TrainingPlan

FOLDER = Path("work/autotune")
MAX_SHARE = 0.05  # share of the training time that the measurement may take
MIN_SECONDS, MIN_STEPS = 0.5, 2  # per setting
REQUIRED_SPEEDUP = {"32-true": 1.1, "bf16-mixed": 1.25, "16-mixed": 1.25}
"""Speed-up over the best setting before it that a setting must have; higher for 16 bits, which are less exact."""
VECTOR_UNITS_OF_BF16 = ("AVX512", "SVE")  # with AVX2, bf16 is emulated: a convolution took 50 times as long
Setting = tuple[str, str, str]
"""Precision, memory format and compile."""


@dataclass(frozen=True)
class ThroughputSettings:
    """Values of `train.precision`, `train.memory_format` and `train.compile`, and the reason for them."""

    precision: str
    memory_format: str
    compile: str
    why: str


def autotune(plan: TrainingPlan, steps: int) -> ThroughputSettings:
    """Choose `train.precision`, `train.memory_format` and `train.compile`, as far as they are `auto`.

    The settings are timed on a batch of the plan, beginning with the default one. The others are timed only if that
    would take at most 5 % of the training, and one of them is chosen only if it is clearly faster
    (`REQUIRED_SPEEDUP`). The choice is stored in `work/autotune`. A training with several processes uses the default
    setting without timing.

    Args:
        plan: plan of the training.
        steps: number of steps of the training.

    Raises:
        UserError: the device is not available, or the network, the optimizer or the loss cannot be built (see
            `build_state`).
    """
    settings = list(_candidates(plan))
    if len(settings) == 1:
        why = "the only possible setting"
        if process_count(plan.train.devices) > 1:
            why = "the default setting, because a training with several processes is not measured"
        return ThroughputSettings(*settings[0], why=why)
    file = FOLDER / f"{_key(plan, settings, steps)}.json"
    if file.exists():
        return ThroughputSettings(**json.loads(file.read_text()))
    chosen = _fastest(plan, settings, steps)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps(asdict(chosen), indent=1) + "\n")
    part.replace(file)
    return chosen


def _candidates(plan: TrainingPlan) -> Iterator[Setting]:
    """Return the possible settings; in the first one, every `auto` has its default value."""
    train, device = plan.train, torch_device(plan.train.device).type
    boxes = plan.data.spec.representation == "boxes"  # box coordinates require more than 16 bits
    precisions = ["32-true", *([] if boxes else _half_precision(device))]
    if train.precision != "auto":
        precisions = [train.precision]
    layouts = [train.memory_format] if train.memory_format != "auto" else ["channels_first", "channels_last"]
    compiled = [train.compile] if train.compile != "auto" else ["no"] + ["yes"] * (device == "cuda" and not boxes)
    if process_count(train.devices) > 1:  # a measurement in one process does not represent several
        precisions, layouts, compiled = precisions[:1], layouts[:1], compiled[:1]
    return ((p, layout, c) for c in compiled for p in precisions for layout in layouts)


def _half_precision(device: str) -> list[str]:
    """Return the 16-bit precision that a type of device computes without emulation, if any."""
    match device:
        case "cpu":
            fast = torch.backends.cpu.get_cpu_capability().startswith(VECTOR_UNITS_OF_BF16)
            return ["bf16-mixed"] if fast else []
        case "cuda" if not torch.cuda.is_bf16_supported(including_emulation=False):
            return ["16-mixed"]
    return ["bf16-mixed"]


def _fastest(plan: TrainingPlan, settings: list[Setting], steps: int) -> ThroughputSettings:
    """Return the first setting, or a later one that has the required speed-up over the best setting before it."""
    first, *others = settings
    started = time.perf_counter()
    seconds = {first: _seconds_per_step(plan, first)}
    training, spent = seconds[first] * steps, time.perf_counter() - started
    if spent * len(others) > MAX_SHARE * training:
        return ThroughputSettings(*first, why=f"the training is too short for measurements: about {training:.2g} s")
    for setting in others:
        seconds[setting] = _seconds_per_step(plan, setting)
    best = first
    for setting in others:
        if seconds[setting] * REQUIRED_SPEEDUP[setting[0]] < seconds[best]:
            best = setting
    measured = "; ".join(f"{_description(setting)} {1000 * t:.3g} ms" for setting, t in seconds.items())
    return ThroughputSettings(*best, why=f"measured per step: {measured}")


def _description(setting: Setting) -> str:
    precision, layout, compiled = setting
    return ", ".join([precision, layout.replace("_", " "), *(["compiled"] if compiled == "yes" else [])])


def _seconds_per_step(plan: TrainingPlan, setting: Setting) -> float:
    """Return the duration of the fastest of several steps, in seconds, after a first step for initialization."""
    precision, layout, compiled = setting
    update: dict[str, Any] = {
        "precision": precision,
        "memory_format": layout,
        "compile": compiled,
        "cache_on_device": "no",
    }
    rate = 1e-4 if plan.train.learning_rate == "auto" else plan.train.learning_rate
    timed = replace(plan, train=plan.train.model_copy(update=update | {"learning_rate": rate}))
    state = build_state(timed, single_process_fabric(plan.train.device, precision))
    state.model.train()
    batch = next(state.loader.at_full_size().batches(1, state.device))
    _step(state, batch)
    taken: list[float] = []
    while len(taken) < MIN_STEPS or sum(taken) < MIN_SECONDS:
        started = time.perf_counter()
        _step(state, batch)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _step(state: TrainerState, batch: Batch) -> None:
    loss = state.batch_loss(state.model, batch)
    state.optimizer.zero_grad(set_to_none=True)
    state.fabric.backward(loss)
    state.optimizer.step()
    if state.device.type == "cuda":
        torch.cuda.synchronize()


def _key(plan: TrainingPlan, settings: list[Setting], steps: int) -> str:
    """Return the digest by which a choice is stored: of the network, the settings, the device and the torch version."""
    device = torch_device(plan.train.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    parts = [asdict(plan.network_config), plan.train.batch_size, plan.train.optimizer, plan.loss, settings, steps,
             name, torch.get_num_threads(), torch.__version__]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
