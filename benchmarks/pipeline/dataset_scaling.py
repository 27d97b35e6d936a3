"""What ingest, validate and audit cost by the number of images: `python -m benchmarks.pipeline.dataset_scaling 1000 10000 100000`.

Photo-like JPEGs of 256x192 pixels in ten classes are made, a group a hundred; each stage runs as `dvc repro` would run
it, and the memory of it and its children is watched. Then one image is added, and ingest runs once more.
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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from stages.config import load as reading
from stages.config.resolved import RESOLVED, as_yaml

RESULT = Path("docs/results/scale.json")
WIDTH, HEIGHT, CLASSES, A_GROUP = 256, 192, 10, 100
EVERY = 0.2  # seconds between two looks at the memory
ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure, print, and write what is not written of this size yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="+", help="numbers of images")
    runs = [_measured(count) for count in parser.parse_args().counts]
    RESULT.write_text(
        json.dumps({"size": [WIDTH, HEIGHT], "cores": len(os.sched_getaffinity(0)), "runs": runs}, indent=1)
    )
    print(table(runs))


def table(runs: list[dict[str, Any]]) -> str:
    """Seconds, processor time an image and peak memory by stage and number of images, in Markdown."""
    lines = ["| stage | images | seconds | CPU ms an image | peak MiB |", "|---|---:|---:|---:|---:|"]
    for stage in runs[0]["stages"]:
        for run in runs:
            seen, images = run["stages"][stage], run["images"]
            figures = f"{seen['seconds']:.0f} | {1000 * seen['cpu_seconds'] / images:.2f} | {seen['mib']:.0f}"
            lines.append(f"| {stage} | {images:,} | {figures} |")
    return "\n".join(lines)


def _measured(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "splits").mkdir()
        _make(folder / "source", count)
        params = reading.read(ROOT / "params.yaml")
        params["ingest"] = {"name": "scale", "source": "source", "group_regex": r"/(\d+)_"}
        (folder / RESOLVED).parent.mkdir()
        (folder / RESOLVED).write_text(as_yaml(reading.check(params)))
        stages = {
            "ingest": _watched(folder, "ingest", "source", "splits", "sealed", "ingested"),
            "validate": _watched(folder, "validate", "ingested", "validated"),
            "audit": _watched(folder, "audit", "ingested", "audited"),
        }
        (folder / "source" / "c0" / "0_new.jpg").write_bytes(picture(count + 1))
        stages["ingest, one image added"] = _watched(folder, "ingest", "source", "splits", "sealed", "ingested")
        return {"images": count, "stages": stages}


def _make(folder: Path, count: int) -> None:
    for label in range(CLASSES):
        (folder / f"c{label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        for number, data in enumerate(pool.map(picture, range(count), chunksize=64)):
            (folder / f"c{number % CLASSES}" / f"{number // A_GROUP}_{number}.jpg").write_bytes(data)


def picture(number: int) -> bytes:
    """Smooth shapes, fine grain, another light and colour each: what a camera gives, as far as a decoder cares."""
    rng = np.random.default_rng(number)
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells in (3, 12, 48):
        coarse = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            level = Image.fromarray(coarse[:, :, channel]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            image[:, :, channel] += np.asarray(level) * 100 / cells**0.5
    image += rng.uniform(70, 180, 3).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(80, 95)))
    return buffer.getvalue()


def _watched(folder: Path, stage: str, *paths: str) -> dict[str, float]:
    """Seconds, processor time, and the most memory that the stage and its children held at once, shared pages once."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started, peak, before = time.monotonic(), 0.0, _used()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *paths], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        peak = max(peak, held(process.pid))
        time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{stage} failed with status {process.returncode}")
    return {"seconds": time.monotonic() - started, "cpu_seconds": _used() - before, "mib": peak / 2**20}


def _used() -> float:
    """Processor time of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def held(pid: int) -> float:
    """Bytes of memory of a process and its children, shared pages once."""
    total = 0.0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for one in tree:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has just ended
    return total


if __name__ == "__main__":
    main()
