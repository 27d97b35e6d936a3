"""Compare the speed of `predict` with that of plain decoding and inference, and measure its peak memory.

Run `python -m benchmarks.inference.batch_prediction_speed photos MODEL IMAGES 2000 ...`. Each case has four arguments:
its name, a model, a folder or archive of images (which are repeated if there are too few), and the number of images.
`predict` takes turns with plain processes, each of which reads, decodes and predicts an equal share of the same files
and discards the predictions. Both use the same number of processes. Then the peak memory of `predict` is measured for
several numbers of images.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pipeline.dataset_scaling import ROOT
from benchmarks.process_memory import peak_memory
from benchmarks.result_pages import add_run_arguments, output_folder
from stages.batch_prediction import iterate_images
from stages.core.memory import keep_freed_memory
from stages.core.plurals import quantity
from stages.images.sandbox import WORKERS
from stages.runtime import Model

INTERVAL = 0.1  # seconds between two samples of the memory


@dataclass(frozen=True)
class PredictionSizes:
    """Number of turns, and the numbers of images for which memory is measured."""

    turns: int = 3
    counts: tuple[int, ...] = (1000, 10_000, 100_000)


def main(arguments: Sequence[str] | None = None) -> Path | None:
    """Measure, write batch-prediction.json, print the tables, and return the file (None with `--plain`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference.batch_prediction_speed", description=__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        help="mandatory; four arguments per case: name, ONNX file, folder or archive of images, number of images",
    )
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    add_run_arguments(parser)
    given = parser.parse_args(arguments)
    if given.plain:
        _run_plain(given.plain, [Path(path) for path in sys.stdin.read().splitlines()])
        return None
    if not given.cases or len(given.cases) % 4:
        count = quantity(len(given.cases), "argument")
        parser.error(f"each case requires four arguments, NAME MODEL IMAGES NUMBER, but {count} in total are given")
    sizes = PredictionSizes(turns=1, counts=(8,)) if given.tiny else PredictionSizes()
    cases = [given.cases[number : number + 4] for number in range(0, len(given.cases), 4)]
    result = measure(cases, sizes)
    file = output_folder(given.output, given.tiny) / "batch-prediction.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result["cases"]), memory_table(result["memory"]), sep="\n\n")
    return file


def measure(cases: list[list[str]], sizes: PredictionSizes) -> dict[str, Any]:
    """Measure all cases, and the memory with the last case's model and images.

    Args:
        cases: name, model, images and number of images of each case.
        sizes: number of turns, and the numbers of images for which memory is measured.

    Returns:
        The results, as they are written.
    """
    result: dict[str, Any] = {"workers": WORKERS, "turns": sizes.turns, "cases": [], "memory": []}
    with tempfile.TemporaryDirectory() as name:
        for case, model, source, number in cases:
            folder = _copy_images(source, Path(name) / case, int(number))
            result["cases"].append({"case": case, **_time(Path(model).resolve(), folder, sizes.turns)})
        for count in sizes.counts:
            folder = _copy_images(source, Path(name) / str(count), count)
            seconds, peak = _watch(_command(Path(model).resolve(), folder))
            result["memory"].append({"images": count, "mib": peak / 2**20, "seconds": seconds})
    return result


def table(cases: list[dict[str, Any]]) -> str:
    """Tabulate images per second of `predict` and of the plain processes (the upper bound), in Markdown."""
    lines = [
        "| files | images | bound, images/s | predict, images/s | predict / bound | by turn |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for case in cases:
        turns = [plain / own for plain, own in zip(case["plain_seconds"], case["predict_seconds"], strict=True)]
        plain, own = (case["images"] / median(case[key]) for key in ("plain_seconds", "predict_seconds"))
        each = ", ".join(f"{turn:.2f}" for turn in turns)
        lines.append(
            f"| {case['case']} | {case['images']:,} | {plain:.0f} | {own:.0f} | {median(turns):.2f} | {each} |"
        )
    return "\n".join(lines)


def memory_table(runs: list[dict[str, Any]]) -> str:
    """Tabulate the peak memory of all processes by the number of images, in Markdown."""
    lines = ["| images | peak MiB of all processes | seconds |", "|---:|---:|---:|"]
    lines += [f"| {run['images']:,} | {run['mib']:.0f} | {run['seconds']:.0f} |" for run in runs]
    return "\n".join(lines)


def _copy_images(source: str, folder: Path, count: int) -> Path:
    """Copy images of a source into folders of a thousand files; repetitions of the first 10,000 are hard links."""
    first: dict[str, Path] = {}
    for number, image in enumerate(islice(cycle(iterate_images([source])), count)):
        file = folder / f"{number // 1000:03d}" / f"{number:06d}{Path(image.path).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if image.path in first:
            os.link(first[image.path], file)
        else:
            file.write_bytes(image.read())
            if number < 10_000:
                first[image.path] = file
    return folder


def _time(model: Path, folder: Path, turns: int) -> dict[str, Any]:
    paths = [image.path for image in iterate_images([str(folder)])]
    seconds: dict[str, list[float]] = {"plain_seconds": [], "predict_seconds": []}
    for _ in range(turns):
        started = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.inference.batch_prediction_speed", "--plain", str(model)]
        shares = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True) for _ in range(WORKERS)]
        for number, share in enumerate(shares):
            assert share.stdin is not None
            share.stdin.write("\n".join(paths[number::WORKERS]))
            share.stdin.close()
        if any(share.wait() for share in shares):
            raise SystemExit("error: a plain process failed; its message is above")
        seconds["plain_seconds"].append(time.perf_counter() - started)
        started = time.perf_counter()
        subprocess.run(_command(model, folder), cwd=ROOT, check=True)
        seconds["predict_seconds"].append(time.perf_counter() - started)
    return {"images": len(paths), **seconds}


def _run_plain(model: Path, paths: list[Path]) -> None:
    """Read, decode and predict for some files in this process, and discard the predictions."""
    keep_freed_memory()
    opened = Model(model, 1)
    for path in paths:
        opened.run([opened.decode_file(path.read_bytes())])


def _command(model: Path, folder: Path) -> list[str]:
    output = str(folder.parent / "answers.csv")
    return [sys.executable, "-m", "stages.predict", str(model), str(folder), "--output", output]


def _watch(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    peak = peak_memory(process, INTERVAL)
    if process.returncode:
        raise SystemExit(f"error: predict failed with status {process.returncode}; its message is above")
    return time.perf_counter() - started, peak


if __name__ == "__main__":
    main()
