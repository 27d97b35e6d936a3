"""What `predict` costs beyond decoding and the model: `python -m benchmarks.inference.batch_prediction_speed photos MODEL IMAGES 2000 ...`.

Four words a case: its name, a model, a folder or archive whose images it takes, repeated where they are fewer, and
their number. In turns, on the same files and with as many processes: `predict`, and plain processes that read, decode
and run the model on their share and keep nothing. Then the memory of `predict`, by the number of images.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pipeline.dataset_scaling import ROOT, held
from stages.batch_prediction import asked
from stages.core.memory import keep_freed_memory
from stages.images.sandbox import WORKERS
from stages.runtime import Model

RESULT = Path("docs/results/predicting.json")
TURNS = 3
COUNTS = (1000, 10_000, 100_000)  # of images, where memory is watched
EVERY = 0.1  # seconds between two looks at it


def main() -> None:
    """Measure, print and write."""
    words = sys.argv[1:]
    if words[0] == "--plain":
        _plain(Path(words[1]), [Path(path) for path in sys.stdin.read().splitlines()])
        return
    result: dict[str, Any] = {"workers": WORKERS, "turns": TURNS, "cases": [], "memory": []}
    with tempfile.TemporaryDirectory() as name:
        for number in range(0, len(words), 4):
            case, model, source, count = words[number : number + 4]
            folder = _copied(source, Path(name) / case, int(count))
            result["cases"].append({"case": case, **_timed(Path(model).resolve(), folder)})
        for count in COUNTS:
            folder = _copied(source, Path(name) / str(count), count)
            seconds, most = _watched(_command(Path(model).resolve(), folder))
            result["memory"].append({"images": count, "mib": most / 2**20, "seconds": seconds})
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result["cases"]), memory_table(result["memory"]), sep="\n\n")


def table(cases: list[dict[str, Any]]) -> str:
    """Images a second beside the bound, in Markdown."""
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
    """The most memory that all processes held, by the number of images, in Markdown."""
    lines = ["| images | peak MiB of all processes | seconds |", "|---:|---:|---:|"]
    lines += [f"| {run['images']:,} | {run['mib']:.0f} | {run['seconds']:.0f} |" for run in runs]
    return "\n".join(lines)


def _copied(source: str, folder: Path, count: int) -> Path:
    """The files of a source, in folders of a thousand; one that comes again is a link."""
    first: dict[str, Path] = {}
    for number, image in enumerate(islice(cycle(asked([source])), count)):
        file = folder / f"{number // 1000:03d}" / f"{number:06d}{Path(image.path).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if image.path in first:
            os.link(first[image.path], file)
        else:
            file.write_bytes(image.read())
            if number < 10_000:
                first[image.path] = file
    return folder


def _timed(model: Path, folder: Path) -> dict[str, Any]:
    paths = [image.path for image in asked([str(folder)])]
    seconds: dict[str, list[float]] = {"plain_seconds": [], "predict_seconds": []}
    for _ in range(TURNS):
        started = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.inference.batch_prediction_speed", "--plain", str(model)]
        shares = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True) for _ in range(WORKERS)]
        for number, share in enumerate(shares):
            assert share.stdin is not None
            share.stdin.write("\n".join(paths[number::WORKERS]))
            share.stdin.close()
        if any(share.wait() for share in shares):
            raise SystemExit("a plain process failed")
        seconds["plain_seconds"].append(time.perf_counter() - started)
        started = time.perf_counter()
        subprocess.run(_command(model, folder), cwd=ROOT, check=True)
        seconds["predict_seconds"].append(time.perf_counter() - started)
    return {"images": len(paths), **seconds}


def _plain(model: Path, paths: list[Path]) -> None:
    keep_freed_memory()
    opened = Model(model, 1)
    for path in paths:
        opened.run([opened.decode_file(path.read_bytes())])


def _command(model: Path, folder: Path) -> list[str]:
    output = str(folder.parent / "answers.csv")
    return [sys.executable, "-m", "stages.predict", str(model), str(folder), "--output", output]


def _watched(command: list[str]) -> tuple[float, float]:
    started, most = time.perf_counter(), 0.0
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None:
        most = max(most, held(process.pid))
        time.sleep(EVERY)
    if process.returncode:
        raise SystemExit("predict failed")
    return time.perf_counter() - started, most


if __name__ == "__main__":
    main()
