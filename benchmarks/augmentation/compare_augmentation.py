"""Compare Macula's augmentations with other libraries, in images per second: `make bench-augmentation`.

All start from uint8 images as in a pixel store and return float32 in 0..1 on the device, as a network requires. The
recipe: half of the images mirrored; rotated by up to 15 degrees, scaled by 0.9 to 1.1, shifted by up to 8 %; an elastic
deformation with an amplitude of 3 pixels (root mean square) and a wavelength of 56 pixels; brightness and contrast
changed by up to 10 %, saturation by 20 %, hue by 18 degrees. The implementations:

- `macula`: the whole batch as one `Policy`, on torch's threads.
- `kornia`: the whole batch as one `AugmentationSequential`, on torch's threads; its elastic noise is smoothed by a
  Gaussian of the requested wavelength, cut at three sigmas.
- `torchvision`: v2, image by image on uint8 tensors as in its documentation, one worker process per thread; the same
  Gaussian, cut at four sigmas.
- `albumentations`: image by image on uint8 arrays, one worker process per thread; the same Gaussian, which OpenCV cuts
  at four sigmas. `albumentations, rough` uses `approximate=True`, which cuts it at 8 pixels: the wavelength is about
  half of the requested one, the amplitude is the same.

A float batch takes 38 MB. The C library returns blocks of that size to the system when they are freed, which maps and
clears them again for the next batch. `memory kept` uses the setting of Macula's training (`keep_freed_memory`); on a
CPU with glibc, Macula and Kornia are timed with this setting and with the default.

Macula and Kornia have their own processes; the other implementations share worker processes. They take turns in rounds,
and each is compared with Kornia in the same round, because other work on the machine varies.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.augmentation.augmentation_competitors import (
    CLASSES,
    ON_PROCESSES,
    ON_THREADS,
    RECIPES,
    ROUGH,
    AugmentationRecipe,
    AugmentedBatch,
    Tensor,
    call_alone,
    call_shared,
    start_processes,
)
from benchmarks.augmentation.augmentation_profile import (
    Rates,
    mean_seconds,
    peak_allocation,
    time_shares,
    time_training_steps,
)
from benchmarks.result_pages import add_run_arguments, output_folder

REFERENCE, KEPT = "kornia", "memory kept"
TINY_RECIPES = {"images and masks": AugmentationRecipe(masks=True, images=4, size=64)}


def rate_alone(name: str, recipe: AugmentationRecipe, device: str) -> float:
    """Return the images per second of an implementation that runs in the calling process.

    Args:
        name: the implementation.
        recipe: the augmentations and the size of the batch.
        device: `cpu` or `cuda`.
    """
    call = call_alone(name, recipe, device)
    check_batch(name, call(), recipe)
    return recipe.images / mean_seconds(call)


def rate_shared(
    pool: ProcessPoolExecutor, count: int, shared: list[Tensor], name: str, recipe: AugmentationRecipe, device: str
) -> float:
    """Return the images per second of an implementation in several processes.

    Args:
        pool: the processes.
        count: number of processes.
        shared: input images and masks, output images and masks.
        name: the implementation.
        recipe: the augmentations and the size of the batch.
        device: device to which the batch is copied.
    """

    def call() -> AugmentedBatch:
        image_BCHW, mask_BHW = call_shared(pool, count, shared, name, recipe)
        return image_BCHW.to(device), None if mask_BHW is None else mask_BHW.to(device)

    check_batch(name, call(), recipe)
    return recipe.images / mean_seconds(call)


class Competition:
    """All implementations, with the same number of threads, and the processes in which they run."""

    def __init__(self, threads: int, shared: list[Tensor], device: str, kept: bool = True) -> None:
        """Start the processes.

        Args:
            threads: threads of each implementation.
            shared: input images and masks, output images and masks.
            device: `cpu` or `cuda`.
            kept: also measure with freed memory kept, where glibc allows it.
        """
        self.threads, self.shared, self.device = threads, shared, device
        self.alone = {}
        for name in ON_THREADS:
            self.alone[name] = start_processes(1, shared, threads)
            if kept and device == "cpu" and platform.libc_ver()[0] == "glibc":
                self.alone[f"{name}, {KEPT}"] = start_processes(1, shared, threads, keep_memory=True)
        self.workers = start_processes(threads, shared)
        self.on_processes = [name for name in ON_PROCESSES if find_spec(name.partition(",")[0])]
        for name in set(ON_PROCESSES) - set(self.on_processes):
            print(f"skipped: {name} is not installed", flush=True)

    def in_process(self, who: str, function: Callable[..., Any], recipe: AugmentationRecipe) -> Any:
        """Run a function in the process of an implementation and return its result.

        Args:
            who: key of `alone`.
            function: function of the implementation's name, the recipe and the device.
            recipe: the augmentations and the size of the batch.
        """
        return self.alone[who].submit(function, who.removesuffix(f", {KEPT}"), recipe, self.device).result()

    def rate(self, who: str, recipe: AugmentationRecipe) -> float:
        """Return the images per second of an implementation."""
        if who in self.alone:
            return self.in_process(who, rate_alone, recipe)
        return rate_shared(self.workers, self.threads, self.shared, who, recipe, self.device)

    def compare(self, recipe: AugmentationRecipe, rounds: int) -> dict[str, Rates]:
        """Time all implementations in turn, round by round, after one warm-up round; return their rates by name."""
        names = [*self.alone, *(name for name in self.on_processes if recipe.elastic or name != ROUGH)]
        rates = defaultdict(list)
        for turn in range(-1, rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                rates[name].append(self.rate(name, recipe))
        return {name: summarize(rates[name][1:], rates[REFERENCE][1:]) for name in names}

    def close(self) -> None:
        """End the processes."""
        for pool in (*self.alone.values(), self.workers):
            pool.shutdown()


def check_batch(name: str, batch: AugmentedBatch, recipe: AugmentationRecipe) -> None:
    """Assert that a batch has the shape, type and range that a network requires.

    Args:
        name: the implementation, for the message.
        batch: result of the implementation.
        recipe: the augmentations and the size of the batch.
    """
    image_BCHW, mask_BHW = batch
    size = recipe.size
    assert image_BCHW.shape == (recipe.images, 3, size, size) and image_BCHW.dtype == torch.float32, name
    assert -0.01 <= float(image_BCHW.min()) < 0.2 and 0.8 < float(image_BCHW.max()) <= 1.01, name
    assert recipe.masks == (mask_BHW is not None), name
    assert mask_BHW is None or (mask_BHW.shape == (recipe.images, size, size) and mask_BHW.dtype == torch.int64), name


def summarize(rates: list[float], reference: list[float]) -> Rates:
    """Return the median rate, and the median, lowest and highest ratio to the reference in the same round."""
    ratios = [rate / other for rate, other in zip(rates, reference, strict=True)]
    found = {"images_per_second": statistics.median(rates), "ratio": statistics.median(ratios)}
    return found | {"ratio_low": min(ratios), "ratio_high": max(ratios)}


def machine_facts(device: str) -> dict[str, Any]:
    """Return the processor, the GPU if it is used, and the versions of the libraries."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    facts = {"cpu": cpu, "cores": os.cpu_count(), "instructions": torch.backends.cpu.get_cpu_capability()}
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    versions = {"python": platform.python_version()}
    for name in ("torch", "kornia", "torchvision", "albumentations", "opencv-python-headless", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return facts | {"versions": versions}


def make_batch(recipe: AugmentationRecipe) -> list[Tensor]:
    """Return random input images and masks, and empty output images and masks, in shared memory."""
    generator = torch.Generator().manual_seed(0)
    count, size = recipe.images, recipe.size
    image_NHWC = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    mask_NHW = torch.randint(0, CLASSES, (count, size, size), dtype=torch.uint8, generator=generator)
    outputs = [torch.empty((count, 3, size, size)), torch.empty((count, size, size), dtype=torch.int64)]
    return [tensor.share_memory_() for tensor in (image_NHWC, mask_NHW, *outputs)]  # type: ignore[no-untyped-call]


def measure(
    threads: Sequence[int],
    rounds: int,
    device: str,
    recipes: dict[str, AugmentationRecipe] = RECIPES,
    kept: bool = True,
) -> dict[str, Any]:
    """Measure rates, memory and time by function, and on a GPU also training steps.

    Args:
        threads: numbers of threads to measure with.
        rounds: number of rounds.
        device: `cpu` or `cuda`.
        recipes: recipes by name, all with the same size of the batch; memory and time by function are measured with the
            first one and the last number of threads.
        kept: also measure with freed memory kept.

    Returns:
        The results, as they are written.
    """
    shared = make_batch(next(iter(recipes.values())))
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "device": device, "rounds": rounds}
    found |= {"machine": machine_facts(device), "load_before": os.getloadavg()[0], "rates": defaultdict(dict)}
    for count in threads:
        for name, recipe in recipes.items():
            # New processes for each recipe, because memory that one recipe leaves behind would help the next.
            competition = Competition(count, shared, device, kept)
            found["rates"][name][str(count)] = competition.compare(recipe, rounds)
            if name == next(iter(recipes)):
                alone = [who for who in competition.alone if "macula" in who]
                found["memory"] = {who: competition.in_process(who, peak_allocation, recipe) for who in ON_THREADS}
                found["breakdown"] = {who: competition.in_process(who, time_shares, recipe) for who in alone}
            competition.close()
    if device == "cuda":
        found["training"] = time_training_steps(rounds, shared[0], torch.device(device))
    return found


def report(found: dict[str, Any]) -> str:
    """Return the results as text."""
    lines = ["images per second (ratio to Kornia, lowest to highest of the rounds)"]
    for recipe, by_threads in found["rates"].items():
        lines += ["", f"{recipe:24}" + "".join(f"{f'threads: {count}':>32}" for count in by_threads)]
        for name in next(iter(by_threads.values())):
            lines += [f"  {name:22}" + "".join(f"{cell(one[name]):>32}" for one in by_threads.values())]
    lines += ["", "peak memory, float batches: " + ", ".join(f"{n} {x:.1f}" for n, x in found["memory"].items())]
    for name, shares in found["breakdown"].items():
        lines += ["", f"time by function: {name}"]
        lines += [f"  {share:4.0%}  {name}" for name, share in shares.items()]
    if "training" in found:
        lines += ["training step of ResNet-18, ms: " + ", ".join(f"{n} {x:.1f}" for n, x in found["training"].items())]
    return "\n".join(lines)


def cell(rates: Rates) -> str:
    """Format a rate and its ratio."""
    ratios = f"{rates['ratio']:.2f}, {rates['ratio_low']:.2f} to {rates['ratio_high']:.2f}"
    return f"{rates['images_per_second']:.0f} ({ratios})"


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure all implementations, print and write the results, and return the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="device of Macula; default: cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads; default: 1 2")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds; default: 7")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    if asked.tiny:
        found = measure([1], 1, asked.device, TINY_RECIPES, kept=False)
    else:
        found = measure(asked.threads, asked.rounds, asked.device)
    print(report(found))
    file = output_folder(asked.output, asked.tiny) / "augmentation-speed.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file


if __name__ == "__main__":
    main()
