"""One JPEG to one answer, by Macula and by others: `python -m benchmarks.inference.compare_inference --data FOLDER`.

The same weights, images and machine; batches of 1 and 16, one thread and two. Everybody gets the bytes of the same
JPEGs (of clothing10, 16 of one size, in FOLDER/clothing10.zip) and decodes with Pillow; Macula by
`stages.runtime.Model` in the environment it is deployed in, others as their documentation teaches. Each has a process
of its own; they take turns in an order that moves on, and are compared within a round. Two clocks: that on the wall,
and the seconds of the processor, which other work on the machine changes less. With one thread the second is what an
idle machine would show; with more it counts waiting threads that spin.

Beside that: what share of the machine's peak is reached, how long a new process takes to its first answer and what
memory it needs (`benchmarks.inference.cold_start`), and what decoding takes (`benchmarks.inference.decoder_speed`). What is
measured is written down after each network; a run that was stopped goes on there.
"""

import argparse
import json
import os
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.inference.benchmark_models import CALIBRATION, NETWORKS, ROWS, YOLO
from benchmarks.inference.inference_competitors import CONTESTANTS, MACULA, PEERS, SERVING, TORCH
from benchmarks.inference.inference_tables import page

RESULT, PAGE = Path("docs/results/inference.json"), Path("docs/results/inference.md")
ROUNDS, SECONDS = 5, 0.2
"""Rounds, and how long a contestant is measured in each of them."""
JOBS = [("read", 1), ("network", 1), ("whole", 1), ("network", ROWS), ("whole", ROWS)]

Cell = dict[str, Any]


class Worker:
    """The process of a contestant."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        env |= {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
        python = Path(CONTESTANTS[name][0]).absolute() / "bin" / "python"
        self.name, self.log = name, (folder / "log.txt").open("a+")
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.inference.inference_competitors", name, str(folder), str(threads)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """Its next word.

        Raises:
            RuntimeError: it has ended.
        """
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.log.seek(0)
            raise RuntimeError(f"{self.name} ended:\n{self.log.read()[-2000:]}")
        return json.loads(line)

    def ask(self, **job: Any) -> dict[str, Any]:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        """Its process."""
        self.process.kill()
        self.process.wait()
        self.log.close()


def raced(names: list[str], folder: Path, threads: int, rounds: int) -> Cell:
    """Everybody answers, in turns; for each the medians of its rounds, and what it needs."""
    workers = [Worker(name, folder, threads) for name in names]
    try:
        found: Cell = {worker.name: {"ready": worker.hear()["ready"], "rounds": []} for worker in workers}
        for worker in workers:  # compilers compile now
            for what, count in JOBS:
                worker.ask(what=what, count=count, seconds=0)
        for turn in range(rounds):
            first = turn % len(workers)
            order = workers[first:] + workers[:first]
            seen: dict[str, dict[str, Any]] = {worker.name: {} for worker in workers}
            for what, count in JOBS:
                for worker in order:
                    if told := worker.ask(what=what, count=count, seconds=SECONDS):
                        seen[worker.name][f"{what} {count}"] = {key: median(values) for key, values in told.items()}
            for name, round_ in seen.items():
                found[name]["rounds"].append(round_)
            print(f"  round {turn + 1} of {rounds}", flush=True)
        for worker in workers:
            worker.ask(what="output", file=str(folder / "output.npy"))
            whole = worker.name.startswith(MACULA)
            found[worker.name] |= worker.ask(what="memory")
            found[worker.name]["difference"] = difference(np.load(folder / "output.npy"), whole, folder)
    finally:
        for worker in workers:
            worker.end()
    return found


def difference(output: Any, whole: bool, folder: Path) -> float | None:
    """Largest difference from torch eager, in probability; none where another network answers."""
    expected = np.load(folder / ("expected-whole.npy" if whole else "expected.npy")).astype(np.float64)
    if output.shape != expected.shape:
        return None
    if not whole:
        output, expected = softmax(output.astype(np.float64)), softmax(expected)
    return float(np.abs(output - expected).max())


def softmax(output: Any) -> Any:
    """Shares of 1 along axis 1."""
    shares = np.exp(output - output.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def unpacked(archive: Path, folder: Path) -> list[int]:
    """The JPEGs of the most frequent size; height and width."""
    import io

    from PIL import Image

    folder.mkdir()
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in sorted(packed.namelist()) if name.lower().endswith(".jpg")]
        sizes = {name: Image.open(io.BytesIO(packed.read(name))).size for name in names}
        common = Counter(sizes.values()).most_common(1)[0][0]
        for number, name in enumerate([name for name in names if sizes[name] == common][:CALIBRATION]):
            (folder / f"{number:03d}.jpg").write_bytes(packed.read(name))
    return [common[1], common[0]]


def made(environment: str, *arguments: str) -> dict[str, Any]:
    """What a run of `inference_files` says."""
    return told(environment, "benchmarks.inference.benchmark_models", *arguments)


def told(environment: str, module: str, *arguments: str) -> dict[str, Any]:
    """The last line of a module of the benchmark, run in an environment; what comes last is a folder."""
    python = Path(environment).absolute() / "bin" / "python"
    env = os.environ | {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": [tempfile.gettempdir(), *arguments][-1],
    }
    done = subprocess.run([python, "-m", module, *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(name: str, archive: Path, threads: list[int], rounds: int, keep: Cell) -> Iterator[None]:
    """A network with each number of threads; after each, what is in `keep` is worth writing down."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        keep["image"] = unpacked(archive, folder / "images")
        keep |= made(TORCH, name, str(folder))
        made(PEERS, "peers", str(folder))
        names = [one for one in CONTESTANTS if not one.startswith("ultralytics")]
        if keep["task"] == "classification":
            keep["yolo"] = made(PEERS, "yolo", str(folder))
            names.append(f"ultralytics, {YOLO}")
        for count in threads:
            print(f"{name}, threads {count}", flush=True)
            keep.setdefault("threads", {})[str(count)] = raced(names, folder, count, rounds)
            keep["machine"] = machine()
            yield


def started(data: Path) -> dict[str, Any]:
    """New processes, with the first network."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpacked(data / "clothing10.zip", folder / "images")
        made(TORCH, next(iter(NETWORKS)), str(folder))
        return told(SERVING, "benchmarks.inference.cold_start", str(folder))


def peak(_: Path) -> dict[str, Any]:
    """Products of matrices."""
    return told(PEERS, "benchmarks.inference.peak_flops")


def decoded(data: Path) -> dict[str, Any]:
    """Decoders, one beside the other."""
    return told(PEERS, "benchmarks.inference.decoder_speed", str(data))


def machine() -> dict[str, Any]:
    """What it is, and how busy."""
    from stages.core.provenance import processor

    return {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def main() -> None:
    """Measure what is not written yet, and write the page."""
    arguments = _arguments()
    found = json.loads(RESULT.read_text()) if RESULT.exists() and not arguments.anew else {}
    for name in arguments.networks if arguments.data else []:
        cell = found.setdefault("networks", {}).setdefault(name, {})
        missing = [count for count in arguments.threads if str(count) not in cell.get("threads", {})]
        if missing:
            for _ in measured(name, arguments.data / "clothing10.zip", missing, arguments.rounds, cell):
                RESULT.write_text(json.dumps(found, indent=1) + "\n")
    for part, measure in (("peak", peak), ("start", started), ("decoders", decoded)):
        if arguments.data and part not in found:
            found[part] = measure(arguments.data)
            RESULT.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(found))
    print(PAGE.read_text())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference.compare_inference", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the archives; without it, the page alone")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--anew", action="store_true", help="forget what is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
