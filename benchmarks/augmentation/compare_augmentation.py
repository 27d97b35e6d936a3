"""Macula's augmentations beside those of others, images a second: `make bench-augmentation`.

Everybody starts from the uint8 images of a pixel store and ends with float32 in 0..1 on the device, as a network wants
them. The recipe: half of the images mirrored; turned by up to 15 degrees, 0.9 to 1.1 times as large, shifted by up to
8 %; an elastic deformation of 3 pixels (root mean square) and 56 pixels from crest to crest; brightness and contrast by
up to 10 %, saturation by 20 %, hue by 18 degrees. What each is given:

- `macula`: the whole batch as one `Policy`, on torch's threads.
- `kornia`: the whole batch as one `AugmentationSequential` of its own modules, on torch's threads; noise smoothed by a
  Gaussian that has the wavelength asked for, cut at three sigmas.
- `torchvision`: v2, image by image on uint8 tensors as its documentation teaches, a worker process a thread; the same
  Gaussian, which it cuts at four sigmas.
- `albumentations`: image by image on uint8 arrays, a worker process a thread; the same Gaussian, which OpenCV cuts at
  four sigmas. `albumentations, rough` is the same with `approximate=True`, which cuts it at 8 pixels: the waves are
  about half as long as asked for; the amplitude is kept.

A batch as float takes 38 MB. Blocks of that size the C library gives back to the system when they are freed, which maps
and clears them anew for the next batch. `memory kept` is with the setting that Macula's training makes
(`frame.memory.keep_freed_memory`); Kornia is timed with it and, as people get it, without.

Each contestant has processes of its own. They take turns, round by round, and each is compared with Kornia of the same
round: these machines are noisy.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would speak of missing GPUs
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # and of memory that it does not know

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.augmentation.augmentation_competitors import (
    CLASSES,
    IMAGES,
    ON_PROCESSES,
    ON_THREADS,
    RECIPES,
    ROUGH,
    SIZE,
    Batch,
    Contestant,
    Recipe,
    Tensor,
    as_float,
    one_call,
    processes,
    shared_call,
)

REFERENCE, KEPT = "kornia", "memory kept"
LEAST_SECONDS = 0.25  # that a contestant is timed for in a round


def seconds(call: Callable[[], Any], least: float = LEAST_SECONDS) -> float:
    """Mean of as many calls as fill the time asked for."""
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < least:
        call()
        calls += 1
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    return (time.perf_counter() - began) / calls


def rate_alone(name: str, recipe: Recipe, device: str) -> float:
    """Images a second of a contestant, in its own process."""
    call = one_call(name, recipe, device)
    check(name, call(), recipe)
    return IMAGES / seconds(call)


def rate_shared(
    pool: ProcessPoolExecutor, count: int, shared: list[Tensor], name: str, recipe: Recipe, device: str
) -> float:
    """Images a second of a contestant in many processes."""

    def call() -> Batch:
        image_BCHW, mask_BHW = shared_call(pool, count, shared, name, recipe)
        return image_BCHW.to(device), None if mask_BHW is None else mask_BHW.to(device)

    check(name, call(), recipe)
    return IMAGES / seconds(call)


class Ring:
    """All contestants, each with as many threads, and processes that are its own."""

    def __init__(self, threads: int, shared: list[Tensor], device: str) -> None:
        self.threads, self.shared, self.device = threads, shared, device
        self.alone = {}
        for name in ON_THREADS:
            self.alone[name] = processes(1, shared, threads)
            if device == "cpu" and platform.libc_ver()[0] == "glibc":
                self.alone[f"{name}, {KEPT}"] = processes(1, shared, threads, kept=True)
        self.workers = processes(threads, shared)

    def inside(self, who: str, function: Callable[..., Any], recipe: Recipe) -> Any:
        """The answer of a function in the process of one that has it to itself."""
        return self.alone[who].submit(function, who.removesuffix(f", {KEPT}"), recipe, self.device).result()

    def rate(self, who: str, recipe: Recipe) -> float:
        """Images a second."""
        if who in self.alone:
            return self.inside(who, rate_alone, recipe)
        return rate_shared(self.workers, self.threads, self.shared, who, recipe, self.device)

    def compare(self, recipe: Recipe, rounds: int) -> dict[str, dict[str, float]]:
        """All in turn, round by round, after one to warm up."""
        names = [*self.alone, *(name for name in ON_PROCESSES if recipe.elastic or name != ROUGH)]
        rates = defaultdict(list)
        for turn in range(-1, rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                rates[name].append(self.rate(name, recipe))
        return {name: summary(rates[name][1:], rates[REFERENCE][1:]) for name in names}

    def close(self) -> None:
        """End the processes."""
        for pool in (*self.alone.values(), self.workers):
            pool.shutdown()


def check(name: str, batch: Batch, recipe: Recipe) -> None:
    """That a contestant gives what a network wants."""
    image_BCHW, mask_BHW = batch
    assert image_BCHW.shape == (IMAGES, 3, SIZE, SIZE) and image_BCHW.dtype == torch.float32, name
    assert -0.01 <= float(image_BCHW.min()) < 0.2 and 0.8 < float(image_BCHW.max()) <= 1.01, name
    assert recipe.masks == (mask_BHW is not None), name
    assert mask_BHW is None or (mask_BHW.shape == (IMAGES, SIZE, SIZE) and mask_BHW.dtype == torch.int64), name


def summary(rates: list[float], reference: list[float]) -> dict[str, float]:
    """Median of the rates, and of the ratios to the reference in the same round, with their spread."""
    ratios = [rate / other for rate, other in zip(rates, reference, strict=True)]
    found = {"images_per_second": statistics.median(rates), "ratio": statistics.median(ratios)}
    return found | {"ratio_low": min(ratios), "ratio_high": max(ratios)}


def where(name: str, recipe: Recipe, device: str) -> dict[str, float]:
    """Shares of the time: of Macula's functions on the CPU, of torch's operators on a GPU."""
    call = one_call(name, recipe, device)
    call()
    if device == "cuda":
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            call()
        events = [event for event in found.key_averages() if event.device_type == DeviceType.CPU]  # not kernels again
        spent = {event.key: float(event.self_device_time_total) for event in events}
    else:
        spent = by_function(call)
    whole = sum(spent.values())
    shares = {function: time / whole for function, time in spent.items() if time > 0.005 * whole}
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def by_function(call: Callable[[], Any], calls: int = 5) -> dict[str, float]:
    """Seconds in each function of `stages` and in what it calls elsewhere.

    Not by torch's profiler: with stacks it holds memory, which is then mapped and cleared anew in each call.
    """
    spent: dict[str, float] = defaultdict(float)
    within, last = ["elsewhere"], time.perf_counter()

    def follow(frame: FrameType, event: str, _: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[within[-1]] += now - last
        last = now
        if event in ("call", "return") and "/stages/" in frame.f_code.co_filename:
            name = frame.f_code.co_qualname
            if event == "return":
                within.pop()
            else:  # a lambda or a comprehension is part of who has it
                within.append(within[-1] if "<" in name else f"{Path(frame.f_code.co_filename).stem}: {name}")

    sys.setprofile(follow)
    for _ in range(calls):
        call()
    sys.setprofile(None)
    return dict(spent)


def memory(name: str, recipe: Recipe, device: str) -> float:
    """Peak of what a call allocates, multiples of the float batch; its result is part of it."""
    call = one_call(name, recipe, device)
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
    return peak / (IMAGES * 3 * SIZE * SIZE * 4)


def beside_training(rounds: int, image_NHWC: Tensor, device: torch.device) -> dict[str, float]:
    """Milliseconds of a training step of ResNet-18 in bf16, and what augmentation adds to it."""
    from torchvision.models import resnet18

    network = resnet18(num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    index_B = torch.arange(IMAGES, device=device) % CLASSES
    ready_BCHW = as_float(image_NHWC.numpy()).to(device)

    def step(contestant: Contestant | None) -> None:
        image_BCHW = ready_BCHW
        if contestant:
            with torch.no_grad():
                image_BCHW, _ = contestant(image_NHWC, None)
        with torch.autocast(device.type, torch.bfloat16):
            logit_BK = network(image_BCHW.contiguous(memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(logit_BK, index_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    steps: dict[str, Contestant | None] = {"step alone": None}
    steps |= {name: make(RECIPES["images"], device) for name, make in ON_THREADS.items()}
    times = defaultdict(list)
    for _ in range(rounds + 1):  # the first to warm up
        for name, contestant in steps.items():
            times[name].append(1000 * seconds(partial(step, contestant)))
    alone = statistics.median(times["step alone"][1:])
    added = {f"{name} adds": statistics.median(times[name][1:]) - alone for name in ON_THREADS}
    return {"step alone": alone} | added


def machine(device: str) -> dict[str, Any]:
    """What it was measured on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    names = ("torch", "kornia", "torchvision", "albumentations", "opencv-python-headless", "numpy")
    facts = {"cpu": cpu, "cores": os.cpu_count(), "instructions": torch.backends.cpu.get_cpu_capability()}
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts | {"versions": {"python": platform.python_version()} | {name: version(name) for name in names}}


def measured(threads: list[int], rounds: int, device: str) -> dict[str, Any]:
    """Everything, as it is written down."""
    generator = torch.Generator().manual_seed(0)
    image_NHWC = torch.randint(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    mask_NHW = torch.randint(0, CLASSES, (IMAGES, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    wanted = [torch.empty((IMAGES, 3, SIZE, SIZE)), torch.empty((IMAGES, SIZE, SIZE), dtype=torch.int64)]
    shared = [one.share_memory_() for one in (image_NHWC, mask_NHW, *wanted)]
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "device": device, "rounds": rounds}
    found |= {"machine": machine(device), "load_before": os.getloadavg()[0], "rates": defaultdict(dict)}
    for count in threads:
        for name, recipe in RECIPES.items():
            ring = Ring(count, shared, device)  # anew: what a process keeps of one recipe would help it in the next
            found["rates"][name][str(count)] = ring.compare(recipe, rounds)
            if recipe == Recipe():
                found["memory"] = {who: ring.inside(who, memory, recipe) for who in ON_THREADS}
                found["where"] = {who: ring.inside(who, where, recipe) for who in ring.alone if "macula" in who}
            ring.close()
    if device == "cuda":
        found["training"] = beside_training(rounds, image_NHWC, torch.device(device))
    return found


def told(found: dict[str, Any]) -> str:
    """The measurements for people to read."""
    lines = [f"{IMAGES} images of {SIZE} px; images a second (times Kornia's, lowest to highest of the rounds)"]
    for recipe, by_threads in found["rates"].items():
        lines += ["", f"{recipe:24}" + "".join(f"{f'threads: {count}':>32}" for count in by_threads)]
        for name in next(iter(by_threads.values())):
            lines += [f"  {name:22}" + "".join(f"{cell(one[name]):>32}" for one in by_threads.values())]
    lines += ["", "peak memory, float batches: " + ", ".join(f"{n} {x:.1f}" for n, x in found["memory"].items())]
    for name, shares in found["where"].items():
        lines += ["", f"where the time goes: {name}"]
        lines += [f"  {share:4.0%}  {name}" for name, share in shares.items()]
    if "training" in found:
        lines += ["beside ResNet-18, ms: " + ", ".join(f"{n} {x:.1f}" for n, x in found["training"].items())]
    return "\n".join(lines)


def cell(one: dict[str, float]) -> str:
    """Rate and ratio in a table."""
    return f"{one['images_per_second']:.0f} ({one['ratio']:.2f}, {one['ratio_low']:.2f} to {one['ratio_high']:.2f})"


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("docs/results/augmentation-speed.json"))
    asked = parser.parse_args()
    found = measured(asked.threads, asked.rounds, asked.device)
    print(told(found))
    asked.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
