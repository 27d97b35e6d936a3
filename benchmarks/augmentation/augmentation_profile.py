"""Measure the time, the time by function and the peak memory of augmentation calls."""

import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no warnings of the profiler about missing GPUs
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no warnings of the profiler about memory that it did not record

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.augmentation.augmentation_competitors import (
    CLASSES,
    ON_THREADS,
    RECIPES,
    AugmentationRecipe,
    Augmenter,
    Tensor,
    call_alone,
    to_float,
)

Rates = dict[str, float]

MIN_SECONDS = 0.25  # minimum time for which an implementation is timed in a round


def mean_seconds(call: Callable[[], Any], min_seconds: float | None = None) -> float:
    """Return the mean seconds of a call, repeated until `min_seconds` (default: `MIN_SECONDS`) have passed."""
    least = MIN_SECONDS if min_seconds is None else min_seconds
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < least:
        call()
        calls += 1
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
    return (time.perf_counter() - began) / calls


def time_shares(name: str, recipe: AugmentationRecipe, device: str) -> dict[str, float]:
    """Return the shares of a call's time: of Macula's functions on the CPU, of torch's operators on a GPU.

    Args:
        name: the implementation.
        recipe: the augmentations and the size of the batch.
        device: `cpu` or `cuda`.

    Returns:
        Shares above 0.5 %, the largest first.
    """
    call = call_alone(name, recipe, device)
    call()
    if device == "cuda":
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            call()
        # Leave out the kernels, whose time is included in that of their operators.
        events = [event for event in found.key_averages() if event.device_type == DeviceType.CPU]
        spent = {event.key: float(event.self_device_time_total) for event in events}
    else:
        spent = seconds_by_function(call)
    total = sum(spent.values())
    shares = {function: seconds / total for function, seconds in spent.items() if seconds > 0.005 * total}
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def seconds_by_function(call: Callable[[], Any], calls: int = 5) -> dict[str, float]:
    """Return the seconds of several calls in each function of `stages`, including what it calls outside of `stages`.

    torch's profiler is not used: if it records stacks, it retains memory, which each call then maps and clears again.
    """
    spent: dict[str, float] = defaultdict(float)
    stack, last = ["elsewhere"], time.perf_counter()

    def follow(frame: FrameType, event: str, _: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[stack[-1]] += now - last
        last = now
        if event in ("call", "return") and "/stages/" in frame.f_code.co_filename:
            name = frame.f_code.co_qualname
            if event == "return":
                stack.pop()
            else:  # a lambda or comprehension counts as part of the function around it
                stack.append(stack[-1] if "<" in name else f"{Path(frame.f_code.co_filename).stem}: {name}")

    sys.setprofile(follow)
    for _ in range(calls):
        call()
    sys.setprofile(None)
    return dict(spent)


def peak_allocation(name: str, recipe: AugmentationRecipe, device: str) -> float:
    """Return the peak of the memory that a call allocates, including its result, in multiples of the float batch.

    Args:
        name: the implementation.
        recipe: the augmentations and the size of the batch.
        device: `cpu` or `cuda`.
    """
    call = call_alone(name, recipe, device)
    call()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            call()
        with TemporaryDirectory() as folder:
            file = Path(folder) / "trace.json"
            found.export_chrome_trace(str(file))
            events = json.loads(file.read_text())["traceEvents"]
        peak = max(event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")
    return peak / (recipe.images * 3 * recipe.size**2 * 4)


def time_training_steps(rounds: int, image_NHWC: Tensor, device: torch.device) -> Rates:
    """Return the milliseconds of a training step of ResNet-18 in bf16, and those that augmentation adds.

    Args:
        rounds: number of rounds.
        image_NHWC: images, uint8 [N, S, S, 3].
        device: device of the network.
    """
    from torchvision.models import resnet18

    network = resnet18(num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    index_B = torch.arange(len(image_NHWC), device=device) % CLASSES
    ready_BCHW = to_float(image_NHWC.numpy()).to(device)

    def step(augment: Augmenter | None) -> None:
        image_BCHW = ready_BCHW
        if augment:
            with torch.no_grad():
                image_BCHW, _ = augment(image_NHWC, None)
        with torch.autocast(device.type, torch.bfloat16):
            logit_BK = network(image_BCHW.contiguous(memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(logit_BK, index_B)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    steps: dict[str, Augmenter | None] = {"step alone": None}
    steps |= {name: make(RECIPES["images"], device) for name, make in ON_THREADS.items()}
    times = defaultdict(list)
    for _ in range(rounds + 1):  # the first one warms up
        for name, augment in steps.items():
            times[name].append(1000 * mean_seconds(partial(step, augment)))
    alone = statistics.median(times["step alone"][1:])
    added = {f"{name} adds": statistics.median(times[name][1:]) - alone for name in ON_THREADS}
    return {"step alone": alone} | added
