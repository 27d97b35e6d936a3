"""What makes a training step faster on this machine's CPU: `python -m benchmarks.training.training_step_speed`.

ResNet-18 with AdamW on random images, one thread unless said; images a second of that processor, which other work on
the machine disturbs less than seconds of the clock. Settings take turns; medians of the rounds, and the median of each
round's ratio to the first setting.

- arithmetic: 32 bits, or bf16 where autocast allows it; channels first or last; compiled by torch or not, with the
  seconds that the first two steps took;
- optimizers: milliseconds of a step by itself, weights in a loop, in groups, or fused in one call;
- waiting: two threads, which by default spin for each other, against threads that sleep (OMP_WAIT_POLICY=PASSIVE), in
  processes of their own, in turn, by the clock. Says something of a machine that others use as well: the load is told.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
from torch.nn import functional

from stages.core.memory import keep_freed_memory
from stages.core.provenance import processor

RESULT = Path("docs/results/training-steps.json")
SHAPES = ((32, 64), (128, 32))  # pixels of a side, images of a batch
ROUNDS, LEAST = 4, 0.7  # seconds of a setting in a round
LAYOUTS = {"first": torch.contiguous_format, "last": torch.channels_last}
SPENT = time.process_time


def arithmetic(size: int, batch: int) -> dict[str, dict[str, float]]:
    """Precision, layout and compilation."""
    steps, first = {}, {}
    for compiled, bits, layout in product((False, True), (32, 16), LAYOUTS):
        name = f"{bits} bits, channels {layout}" + (", compiled" if compiled else "")
        steps[name], began = step(size, batch, bits, LAYOUTS[layout], compiled), time.perf_counter()
        for _ in range(2):
            steps[name]()
        first[name] = time.perf_counter() - began
    rates = defaultdict(list)
    for _ in range(ROUNDS):
        for name, call in steps.items():
            rates[name].append(batch / seconds(call))
    plain = next(iter(steps))
    return {
        name: {
            "images_per_cpu_second": statistics.median(mine),
            "ratio": statistics.median(a / b for a, b in zip(mine, rates[plain], strict=True)),
            "first_two_steps": first[name],
        }
        for name, mine in rates.items()
    }


def step(size: int, batch: int, bits: int, layout: torch.memory_format, compiled: bool) -> Callable[[], None]:
    """A training step."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    network = resnet18(num_classes=10).to(memory_format=layout)
    image_BCHW = torch.rand(batch, 3, size, size).contiguous(memory_format=layout)
    target_B = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    model: Any = torch.compile(network) if compiled else network

    def one() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bits == 16):
            raw_BK = model(image_BCHW)
        optimizer.zero_grad()
        functional.cross_entropy(raw_BK.float(), target_B).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return one


def seconds(call: Callable[[], None]) -> float:
    """Of the processor, the mean of at least two calls."""
    began, calls = SPENT(), 0
    while calls < 2 or SPENT() - began < LEAST:
        call()
        calls += 1
    return (SPENT() - began) / calls


def optimizers() -> dict[str, float]:
    """Milliseconds of a step over the weights of ResNet-18."""
    from torchvision.models import resnet18

    network, taken = resnet18(num_classes=10), defaultdict(list)
    made: dict[str, torch.optim.Optimizer] = {}
    for weight in network.parameters():
        weight.grad = 1e-3 * torch.randn_like(weight)
    ways: dict[str, dict[str, Any]] = {
        "loop": {"foreach": False},
        "groups": {"foreach": True},
        "fused": {"fused": True},
    }
    for way, how in ways.items():
        made[f"adamw, {way}"] = torch.optim.AdamW(network.parameters(), lr=1e-6, **how)
        made[f"sgd, {way}"] = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True, **how)
    for _ in range(3 * ROUNDS):
        for name, optimizer in made.items():
            began = SPENT()
            optimizer.step()
            taken[name].append(1000 * (SPENT() - began))
    return {name: statistics.median(mine[1:]) for name, mine in taken.items()}


def waiting(rounds: int = 3) -> dict[str, Any]:
    """Images a second by the clock, of processes in turn; and how busy the machine was."""
    ways = {"1 thread": ("1", ""), "2 threads, spinning": ("2", ""), "2 threads, sleeping": ("2", "PASSIVE")}
    found: dict[str, Any] = {way: {str(size): [] for size, _ in SHAPES} for way in ways} | {"load": []}
    for _ in range(rounds):
        for way, (threads, policy) in ways.items():
            env = {name: one for name, one in os.environ.items() if name != "OMP_WAIT_POLICY"}
            env |= {"OMP_NUM_THREADS": threads} | ({"OMP_WAIT_POLICY": policy} if policy else {})
            found["load"].append(os.getloadavg()[0])
            command = [sys.executable, "-m", "benchmarks.training.training_step_speed", "clock"]
            for size, rate in json.loads(subprocess.check_output(command, env=env)).items():
                found[way][size].append(rate)
    return found


def clock() -> dict[int, float]:
    """Images a second of plain steps: of each size the median of some seconds."""
    rates = {}
    for size, batch in SHAPES:
        call, taken = step(size, batch, 32, torch.contiguous_format, compiled=False), []
        call()
        began = time.perf_counter()
        while time.perf_counter() - began < 3:
            before = time.perf_counter()
            call()
            taken.append(time.perf_counter() - before)
        rates[size] = batch / statistics.median(taken)
    return rates


def main() -> None:
    """Measure all, and write it down."""
    keep_freed_memory()
    if sys.argv[1:] == ["clock"]:
        print(json.dumps(clock()))
        return
    torch.set_num_threads(1)
    found = {"processor": processor(), "torch": torch.__version__, "optimizers": optimizers(), "waiting": waiting()}
    for size, batch in SHAPES:
        found[f"arithmetic, {size} px"] = arithmetic(size, batch)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
