"""Measure how many images per second Macula and other libraries read and describe.

All use one core and the same JPEGs. They take turns in rounds, and each is compared with cleanvision in the same round
by processor time, which other work on the machine affects less than wall-clock time. `macula` is all that ingest
computes for a file: decoding, image statistics, EXIF, two perceptual hashes, a thumbnail and the digest of the pixels.
`pipeline` is the stages ingest, validate and audit, started as `dvc repro` starts them, including imports and child
processes.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.audits.audit_competitors import PYTHON, LibraryProcess
from benchmarks.pipeline.dataset_scaling import photo_like
from benchmarks.result_pages import installed
from stages.config.load import check, read
from stages.config.resolved import RESOLVED, as_yaml

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 400, 300
LIBRARIES = ("cleanvision", "deepchecks properties", "imagededup")
REFERENCE = "cleanvision"
PHOTOS = {"clothing10": "400 to 888 pixels", "bccd": "640x480"}
STAGES = {
    "ingest": ("{images}", "splits", "sealed", "ingested"),
    "validate": ("ingested", "validated"),
    "audit": ("ingested", "{features}", "audited"),
}
Usage = dict[str, float]


@dataclass(frozen=True)
class SpeedSizes:
    """Numbers of generated images and rounds, and the pipeline stages to run."""

    images: int = 1000
    rounds: int = 3
    stages: tuple[str, ...] = tuple(STAGES)


TINY = SpeedSizes(images=60, rounds=1, stages=("ingest",))


def measure(data: Path | None, sizes: SpeedSizes) -> dict[str, Any]:
    """Measure the rate of each library on each set of JPEGs, and the times of Macula's description and stages.

    Args:
        data: folder of the reference data; None for generated images only.
        sizes: number of images, rounds and stages.

    Returns:
        `rounds`, `load` before the measurement and `cores`; by set of images: rates of each library, processor
        milliseconds per image of each part of a description, and seconds of each stage.

    Raises:
        SystemExit: a library or a stage failed.
    """
    found: dict[str, Any] = {"rounds": sizes.rounds, "load": os.getloadavg()[0]}
    found["cores"] = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name, use_one_core():
        for kind, folder in _write_images(Path(name), data, sizes.images).items():
            found[kind] = _compare(folder, sizes.rounds) | {"breakdown": json.loads(_in_process("breakdown", folder))}
            found[kind]["pipeline"] = _time_stages(folder, sizes.stages)
            print(kind, found[kind], flush=True)
            shutil.rmtree(folder)
    return found


class use_one_core:  # noqa: N801
    """Context in which this process and those that it starts share one core."""

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(self._before)})

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)


def _write_images(parent: Path, data: Path | None, count: int) -> dict[str, Path]:
    """Write the sets of images and return their folders."""
    sets = {f"{count} generated, {WIDTH}x{HEIGHT}": [photo_like(number, WIDTH, HEIGHT) for number in range(count)]}
    for name, size in PHOTOS.items():
        if data and (data / f"{name}.zip").exists():
            with zipfile.ZipFile(data / f"{name}.zip") as archive:
                files = [n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg"))]
                sets[f"{len(files)} of {name}, {size}"] = [archive.read(n) for n in files]
    for kind, contents in sets.items():
        folder = parent / kind
        rows = []
        for number, content in enumerate(contents):
            path = f"c{number % 10}/{number}.jpg"
            (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / path).write_bytes(content)
            rows.append({"path": path, "label": f"c{number % 10}", "split": "train"})
        (folder / "case.json").write_text(json.dumps(rows))
    return {kind: parent / kind for kind in sets}


def _compare(folder: Path, rounds: int) -> dict[str, Any]:
    count = len(json.loads((folder / "case.json").read_text()))
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    if installed(PYTHON, "the other libraries' part of audit speed"):
        with LibraryProcess(PYTHON.absolute()) as libraries, tempfile.TemporaryDirectory() as few:
            libraries.run(LIBRARIES, _copy_some(folder, Path(few)))  # imports are not timed
            for turn in range(rounds):
                names = ["macula", *LIBRARIES]
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    times[name].append(_timed(name, folder, libraries))
    else:
        times["macula"] = [_timed("macula", folder, None) for _ in range(rounds)]
    return {
        "images": count,
        "rates": {name: _rates(taken, times.get(REFERENCE), count) for name, taken in times.items()},
    }


def _timed(name: str, folder: Path, libraries: LibraryProcess | None) -> tuple[float, float]:
    """Return the wall-clock and processor seconds that a library takes for all images; Macula without `libraries`."""
    if libraries is None or name == "macula":
        wall, cpu = json.loads(_in_process("time", folder))
        return wall, cpu
    result = libraries.run([name], folder)[name]
    if "error" in result:
        raise SystemExit(f"error: {name} failed: {result['error']}")
    return result["seconds"], result["cpu_seconds"]


def _rates(taken: list[tuple[float, float]], reference: list[tuple[float, float]] | None, count: int) -> Usage:
    rates = {
        "images_per_second": count / statistics.median(wall for wall, _ in taken),
        "images_per_cpu_second": count / statistics.median(cpu for _, cpu in taken),
    }
    if reference:
        ratios = [other / cpu for (_, other), (_, cpu) in zip(reference, taken, strict=True)]
        rates |= {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
    return rates


def _copy_some(folder: Path, target: Path, count: int = 20) -> Path:
    """Copy the first images to another folder and return it."""
    rows = json.loads((folder / "case.json").read_text())[:count]
    for row in rows:
        (target / "images" / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "images" / row["path"], target / "images" / row["path"])
    (target / "case.json").write_text(json.dumps(rows))
    return target


def _in_process(what: str, folder: Path) -> str:
    """Run `description_speed` in a process of its own and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.audits.description_speed", what, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def _time_stages(folder: Path, stages: tuple[str, ...]) -> dict[str, Usage]:
    """Run each stage once; return its wall-clock and processor seconds."""
    used: dict[str, Usage] = {}
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        (workspace / "splits").mkdir()
        params = read(ROOT / "params.yaml")
        params["ingest"] = {"name": "speed", "source": str(folder / "images")}
        (workspace / RESOLVED).parent.mkdir()
        (workspace / RESOLVED).write_text(as_yaml(check(params)))
        for stage in stages:
            paths = [
                path.format(images=folder / "images", features=ROOT / "data/image_features.txt")
                for path in STAGES[stage]
            ]
            before, began = _children_seconds(), time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", f"stages.{stage}", *paths],
                check=False,
                cwd=workspace,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise SystemExit(f"error: {stage} failed with status {done.returncode}: {done.stderr[-2000:]}")
            used[stage] = {"seconds": time.perf_counter() - began, "cpu_seconds": _children_seconds() - before}
    return used


def _children_seconds() -> float:
    """Return the processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
