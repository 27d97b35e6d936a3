"""Measure the time and memory of ingest, validate and audit for several numbers of images.

Run `python -m benchmarks.pipeline.dataset_scaling 1000 10000 100000`. It generates photo-like JPEGs of 256x192 pixels
in ten classes and groups of a hundred images. Each stage runs as `dvc repro` would run it, while the memory of the
stage and its children is sampled. Then one image is added and ingest runs again.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.process_memory import peak_memory
from benchmarks.result_pages import add_run_arguments, output_folder
from stages.config import load as reading
from stages.config.resolved import RESOLVED, as_yaml

WIDTH, HEIGHT, CLASSES, PER_GROUP = 256, 192, 10, 100
INTERVAL = 0.2  # seconds between two samples of the memory
ROOT = Path(__file__).parents[2]
INGEST = ("source", "splits", "sealed", "ingested")
TINY_COUNT, TINY_PER_GROUP = 60, 2
Usage = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure all numbers of images, write scale.json, print the table, and return the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.dataset_scaling", description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", help="numbers of images to measure; mandatory without --tiny")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    counts = asked.counts or ([TINY_COUNT] if asked.tiny else [])
    if not counts:
        parser.error("give at least one number of images, such as 1000")
    runs = [_measure(count, TINY_PER_GROUP if asked.tiny else PER_GROUP) for count in counts]
    file = output_folder(asked.output, asked.tiny) / "scale.json"
    found = {"size": [WIDTH, HEIGHT], "cores": len(os.sched_getaffinity(0)), "runs": runs}
    file.write_text(json.dumps(found, indent=1))
    print(table(runs))
    return file


def table(runs: list[dict[str, Any]]) -> str:
    """Tabulate seconds, processor time per image and peak memory by stage and number of images, in Markdown."""
    lines = ["| stage | images | seconds | CPU ms per image | peak MiB |", "|---|---:|---:|---:|---:|"]
    for stage in runs[0]["stages"]:
        for run in runs:
            used, images = run["stages"][stage], run["images"]
            figures = f"{used['seconds']:.0f} | {1000 * used['cpu_seconds'] / images:.2f} | {used['mib']:.0f}"
            lines.append(f"| {stage} | {images:,} | {figures} |")
    return "\n".join(lines)


def _measure(count: int, per_group: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "splits").mkdir()
        _write_images(folder / "source", count, per_group)
        params = reading.read(ROOT / "params.yaml")
        params["ingest"] = {"name": "scale", "source": "source", "group_regex": r"/(\d+)_"}
        (folder / RESOLVED).parent.mkdir()
        (folder / RESOLVED).write_text(as_yaml(reading.check(params)))
        stages = {
            "ingest": run_stage(folder, "ingest", *INGEST),
            "validate": run_stage(folder, "validate", "ingested", "validated"),
            "audit": run_stage(folder, "audit", "ingested", str(ROOT / "data/image_features.txt"), "audited"),
        }
        (folder / "source" / "c0" / "0_new.jpg").write_bytes(photo_like(count + 1))
        stages["ingest, one image added"] = run_stage(folder, "ingest", *INGEST)
        return {"images": count, "stages": stages}


def _write_images(folder: Path, count: int, per_group: int) -> None:
    for label in range(CLASSES):
        (folder / f"c{label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        for number, data in enumerate(pool.map(photo_like, range(count), chunksize=64)):
            (folder / f"c{number % CLASSES}" / f"{number // per_group}_{number}.jpg").write_bytes(data)


def photo_like(number: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Generate a JPEG with smooth shapes, fine grain, and random brightness and colour.

    A decoder needs about as much time for the image as for a photo from a camera.

    Args:
        number: seed of the image.
        width: width in pixels.
        height: height in pixels.

    Returns:
        The bytes of the file.
    """
    rng = np.random.default_rng(number)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (3, 12, 48):
        coarse = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            level = Image.fromarray(coarse[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            image[:, :, channel] += np.asarray(level) * 100 / cells**0.5
    image += rng.uniform(70, 180, 3).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(80, 95)))
    return buffer.getvalue()


def run_stage(folder: Path, stage: str, *paths: str) -> Usage:
    """Run a stage in a workspace.

    Args:
        folder: the workspace, with the resolved params.
        stage: name of the stage.
        *paths: arguments of the stage.

    Returns:
        Seconds, processor seconds, and the highest memory of the stage and its children in MiB; pages that several
        processes share count once.

    Raises:
        SystemExit: the stage failed.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started, before = time.monotonic(), _children_seconds()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *paths], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    peak = peak_memory(process, INTERVAL)
    if process.returncode:
        raise SystemExit(f"error: {stage} failed with status {process.returncode}")
    return {"seconds": time.monotonic() - started, "cpu_seconds": _children_seconds() - before, "mib": peak / 2**20}


def _children_seconds() -> float:
    """Return the processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
