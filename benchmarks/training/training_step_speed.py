"""Measure what makes a training step faster on this machine's CPU: `python -m benchmarks.training.training_step_speed`.

ResNet-18 with AdamW trains on random images, with one thread unless stated otherwise. Rates are images per processor
second, which other work on the machine affects less than wall-clock time. The settings take turns.

- arithmetic: 32 bits, or bf16 where autocast allows it; channels first or last; compiled by torch or not, with the
  seconds of the first two steps. Figures are medians of the rounds, and of each round's ratio to the first setting;
- optimizers: median milliseconds of one optimizer step, with weights in a loop, in groups, or fused in one call;
- waiting: two threads that by default spin while they wait, and threads that sleep (OMP_WAIT_POLICY=PASSIVE), in
  separate processes in turn, in wall-clock time, with one figure per round. These figures depend on other work on the
  machine; its load is recorded.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
from torch.nn import functional

from benchmarks.result_pages import add_run_arguments, output_folder
from stages.core.memory import keep_freed_memory
from stages.core.provenance import processor

LAYOUTS = {"first": torch.contiguous_format, "last": torch.channels_last}
WAITING = {"1 thread": ("1", ""), "2 threads, spinning": ("2", ""), "2 threads, sleeping": ("2", "PASSIVE")}
"""Number of threads, and OMP_WAIT_POLICY."""
CPU = time.process_time


@dataclass(frozen=True)
class StepSizes:
    """Shapes and durations."""

    shapes: tuple[tuple[int, int], ...] = ((32, 64), (128, 32))
    """Pixels per side, and images per batch."""
    rounds: int = 4
    seconds: float = 0.7
    """Minimum processor time of a setting in a round."""
    compiled: tuple[bool, ...] = (False, True)
    waiting: tuple[str, ...] = tuple(WAITING)
    waiting_rounds: int = 3
    waiting_seconds: float = 3.0


TINY = StepSizes(((32, 4),), 1, 0.0, (False,), (), 1, 0.05)


def measure_arithmetic(size: int, batch: int, sizes: StepSizes) -> dict[str, dict[str, float]]:
    """Measure steps by precision, layout and compilation.

    Args:
        size: pixels per side.
        batch: images per batch.
        sizes: rounds and durations.

    Returns:
        By setting: images per processor second, the ratio to the first setting, and the wall-clock seconds of the first
        two steps.
    """
    steps, first = {}, {}
    for compiled, bits, layout in product(sizes.compiled, (32, 16), LAYOUTS):
        name = f"{bits} bits, channels {layout}" + (", compiled" if compiled else "")
        steps[name], began = make_step(size, batch, bits, LAYOUTS[layout], compiled), time.perf_counter()
        for _ in range(2):
            steps[name]()
        first[name] = time.perf_counter() - began
    rates = defaultdict(list)
    for _ in range(sizes.rounds):
        for name, step in steps.items():
            rates[name].append(batch / mean_cpu_seconds(step, sizes.seconds))
    plain = next(iter(steps))
    return {
        name: {
            "images_per_cpu_second": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(own, rates[plain], strict=True)),
            "first_two_steps": first[name],
        }
        for name, own in rates.items()
    }


def make_step(size: int, batch: int, bits: int, layout: torch.memory_format, compiled: bool) -> Callable[[], None]:
    """Return a function that runs one training step.

    Args:
        size: pixels per side.
        batch: images per batch.
        bits: 32, or 16 for bf16 by autocast.
        layout: memory format.
        compiled: whether torch compiles the network.
    """
    from torchvision.models import resnet18

    torch.manual_seed(0)
    network = resnet18(num_classes=10).to(memory_format=layout)
    image_BCHW = torch.rand(batch, 3, size, size).contiguous(memory_format=layout)
    target_B = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    model: Any = torch.compile(network) if compiled else network

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bits == 16):
            raw_BK = model(image_BCHW)
        optimizer.zero_grad()
        functional.cross_entropy(raw_BK.float(), target_B).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def mean_cpu_seconds(call: Callable[[], None], seconds: float) -> float:
    """Return the mean processor seconds of a call, repeated at least twice and for `seconds` of processor time."""
    began, calls = CPU(), 0
    while calls < 2 or CPU() - began < seconds:
        call()
        calls += 1
    return (CPU() - began) / calls


def measure_optimizers(rounds: int) -> dict[str, float]:
    """Return the median processor milliseconds of a step on ResNet-18's weights in 3 * `rounds` steps, by optimizer."""
    from torchvision.models import resnet18

    network, taken = resnet18(num_classes=10), defaultdict(list)
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for weight in network.parameters():
        weight.grad = 1e-3 * torch.randn_like(weight)
    variants: dict[str, dict[str, Any]] = {
        "loop": {"foreach": False},
        "groups": {"foreach": True},
        "fused": {"fused": True},
    }
    for variant, options in variants.items():
        optimizers[f"adamw, {variant}"] = torch.optim.AdamW(network.parameters(), lr=1e-6, **options)
        sgd = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True, **options)
        optimizers[f"sgd, {variant}"] = sgd
    for _ in range(3 * rounds):
        for name, optimizer in optimizers.items():
            began = CPU()
            optimizer.step()
            taken[name].append(1000 * (CPU() - began))
    return {name: statistics.median(own[1:]) for name, own in taken.items()}


def measure_waiting(sizes: StepSizes) -> dict[str, Any]:
    """Return the images per wall-clock second in each round, by way of waiting and size, and the machine's loads."""
    found: dict[str, Any] = {way: {str(size): [] for size, _ in sizes.shapes} for way in sizes.waiting} | {"load": []}
    for _ in range(sizes.waiting_rounds):
        for way in sizes.waiting:
            threads, policy = WAITING[way]
            env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
            env |= {"OMP_NUM_THREADS": threads} | ({"OMP_WAIT_POLICY": policy} if policy else {})
            found["load"].append(os.getloadavg()[0])
            command = [sys.executable, "-m", "benchmarks.training.training_step_speed", "--clock"]
            command += ["--tiny"] if sizes.shapes == TINY.shapes else []
            for size, rate in json.loads(subprocess.check_output(command, env=env)).items():
                found[way][size].append(rate)
    return found


def clock_steps(sizes: StepSizes) -> dict[int, float]:
    """Return the images per second of wall-clock time of plain steps, by size, from the median step."""
    rates = {}
    for size, batch in sizes.shapes:
        taken: list[float] = []
        step = make_step(size, batch, 32, torch.contiguous_format, compiled=False)
        step()
        began = time.perf_counter()
        while not taken or time.perf_counter() - began < sizes.waiting_seconds:
            before = time.perf_counter()
            step()
            taken.append(time.perf_counter() - before)
        rates[size] = batch / statistics.median(taken)
    return rates


def main(arguments: Sequence[str] | None = None) -> Path | None:
    """Measure everything, write training-steps.json, print it, and return the file (None with `--clock`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.training_step_speed", description=__doc__)
    parser.add_argument("--clock", action="store_true", help=argparse.SUPPRESS)
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    sizes = TINY if asked.tiny else StepSizes()
    keep_freed_memory()
    if asked.clock:
        print(json.dumps(clock_steps(sizes)))
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"processor": processor(), "torch": torch.__version__}
    found |= {"optimizers": measure_optimizers(sizes.rounds), "waiting": measure_waiting(sizes)}
    for size, batch in sizes.shapes:
        found[f"arithmetic, {size} px"] = measure_arithmetic(size, batch, sizes)
    torch.set_num_threads(threads)
    file = output_folder(asked.output, asked.tiny) / "training-steps.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return file


if __name__ == "__main__":
    main()
