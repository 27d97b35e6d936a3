"""Compare inference from one JPEG to one prediction: `python -m benchmarks.inference.compare_inference --data FOLDER`.

All use the same images and machine, batches of 1 and 16, one or two threads and, except for Ultralytics' classifier,
the same weights. Each competitor reads the same JPEGs (from FOLDER/clothing10.zip, 16 of one size) and decodes with
Pillow. Macula uses `stages.runtime.Model` in the environment in which it is deployed; the others are used as in their
documentation. Each has its own process. They take turns in rounds, in an order that rotates, and are compared within a
round. Both wall-clock time and processor time are recorded. With one thread, processor time is what an idle machine
would show, because other work on the machine affects it less; with more threads it includes waiting threads that spin.

The page also contains the share of the machine's peak that is reached, the time and memory of a new process until its
first prediction (`cold_start`), and the time of decoders (`decoder_speed`). Results are written after each number
of threads, so that an interrupted run resumes.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.inference.benchmark_models import CALIBRATION, NETWORKS, ROWS, TINY_NETWORK, YOLO
from benchmarks.inference.inference_competitors import COMPETITORS, EAGER, LIBRARIES, MACULA, SERVING, TORCH
from benchmarks.inference.inference_tables import page
from benchmarks.pipeline.dataset_scaling import photo_like
from benchmarks.result_pages import add_run_arguments, installed, output_folder
from stages.core.provenance import processor

JOBS = [("read", 1), ("network", 1), ("whole", 1), ("network", ROWS), ("whole", ROWS)]
TINY_COMPETITORS = (MACULA, EAGER, "onnxruntime, plain export")

Cell = dict[str, Any]


@dataclass(frozen=True)
class InferenceSizes:
    """Numbers of rounds and threads, and the time of a measurement."""

    rounds: int = 5
    seconds: float = 0.2
    """Time for which each job of a competitor is measured in a round."""
    threads: tuple[int, ...] = (1, 2)


class Worker:
    """Process of a competitor."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        env |= {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
        self.name, self.log = name, (folder / "log.txt").open("a+")
        module = "benchmarks.inference.inference_competitors"
        self.process = subprocess.Popen(
            [interpreter(COMPETITORS[name][0]), "-m", module, name, str(folder), str(threads)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        """Return the process's next message.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.log.seek(0)
            raise RuntimeError(f"{self.name} ended:\n{self.log.read()[-2000:]}")
        return json.loads(line)

    def request(self, **job: Any) -> dict[str, Any]:
        """Send a job and return the result.

        Raises:
            RuntimeError: the process ended during the job.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self) -> None:
        """Kill the process and close its streams."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()


def interpreter(environment: str) -> Path:
    """Return the Python interpreter of an environment; for `.venv`, that of this process."""
    return Path(sys.executable) if environment == TORCH else Path(environment).absolute() / "bin" / "python"


def compare(names: Sequence[str], folder: Path, threads: int, sizes: InferenceSizes) -> Cell:
    """Run all competitors in turn.

    Args:
        names: keys of `COMPETITORS`.
        folder: folder with the images and models.
        threads: threads of each competitor.
        sizes: rounds and seconds.

    Returns:
        By competitor: seconds until it was ready, medians of each round, memory, and the difference from torch in eager
        mode.

    Raises:
        RuntimeError: the process of a competitor has ended.
    """
    workers = [Worker(name, folder, threads) for name in names]
    try:
        found: Cell = {worker.name: {"ready": worker.read()["ready"], "rounds": []} for worker in workers}
        for worker in workers:  # compile and warm up
            for what, count in JOBS:
                worker.request(what=what, count=count, seconds=0)
        for turn in range(sizes.rounds):
            first = turn % len(workers)
            order = workers[first:] + workers[:first]
            seen: dict[str, dict[str, Any]] = {worker.name: {} for worker in workers}
            for what, count in JOBS:
                for worker in order:
                    if taken := worker.request(what=what, count=count, seconds=sizes.seconds):
                        seen[worker.name][f"{what} {count}"] = {key: median(values) for key, values in taken.items()}
            for name, medians in seen.items():
                found[name]["rounds"].append(medians)
            print(f"  round {turn + 1} of {sizes.rounds}", flush=True)
        for worker in workers:
            worker.request(what="output", file=str(folder / "output.npy"))
            shipped = worker.name.startswith(MACULA)
            found[worker.name] |= worker.request(what="memory")
            found[worker.name]["difference"] = difference(np.load(folder / "output.npy"), shipped, folder)
    finally:
        for worker in workers:
            worker.end()
    return found


def difference(output: Any, shipped: bool, folder: Path) -> float | None:
    """Return the largest difference from torch in eager mode, in probability.

    Args:
        output: output of a competitor.
        shipped: whether it is Macula's model file, whose outputs are probabilities already.
        folder: folder with the expected outputs.

    Returns:
        The difference; None if the competitor uses another network.
    """
    expected = np.load(folder / ("expected-whole.npy" if shipped else "expected.npy")).astype(np.float64)
    if output.shape != expected.shape:
        return None
    if not shipped:
        output, expected = softmax(output.astype(np.float64)), softmax(expected)
    return float(np.abs(output - expected).max())


def softmax(output: Any) -> Any:
    """Return the softmax along axis 1."""
    shares = np.exp(output - output.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def write_images(archive: Path | None, folder: Path) -> list[int]:
    """Write the first `CALIBRATION` JPEGs of the most frequent size; without an archive, `ROWS` generated ones.

    Args:
        archive: zip of JPEGs, or None.
        folder: new folder for the files.

    Returns:
        Height and width.
    """
    folder.mkdir()
    if archive is None:
        for number in range(ROWS):
            (folder / f"{number:03d}.jpg").write_bytes(photo_like(number, 128, 96))
        return [96, 128]
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in sorted(packed.namelist()) if name.lower().endswith(".jpg")]
        sizes = {name: Image.open(io.BytesIO(packed.read(name))).size for name in names}
        common = Counter(sizes.values()).most_common(1)[0][0]
        for number, name in enumerate([name for name in names if sizes[name] == common][:CALIBRATION]):
            (folder / f"{number:03d}.jpg").write_bytes(packed.read(name))
    return [common[1], common[0]]


def run_module(environment: str, module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of this benchmark and return the JSON in its last line of output.

    Args:
        environment: folder of the environment.
        module: name of the module in `benchmarks.inference`.
        *arguments: its arguments; the last one, if any, is a folder.
    """
    settings = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    env = os.environ | settings | {"YOLO_CONFIG_DIR": [tempfile.gettempdir(), *arguments][-1]}
    command = [str(interpreter(environment)), "-m", f"benchmarks.inference.{module}", *arguments]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def usable(names: Sequence[str]) -> list[str]:
    """Return the competitors whose environment exists; print those that are skipped."""
    return [name for name in names if installed(interpreter(COMPETITORS[name][0]), name)]


def measure(name: str, archive: Path | None, sizes: InferenceSizes, cell: Cell) -> Iterator[None]:
    """Measure a network with each number of threads; yield after each, when `cell` can be written.

    Args:
        name: a key of `NETWORKS`, or `TINY_NETWORK`.
        archive: zip of JPEGs; None for a tiny run with generated images.
        sizes: rounds, seconds and threads.
        cell: receives the results.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cell["image"] = write_images(archive, folder / "images")
        cell |= run_module(TORCH, "benchmark_models", name, str(folder))
        names = [one for one in COMPETITORS if not one.startswith("ultralytics")]
        if archive is None:
            names = usable(TINY_COMPETITORS)
        else:
            run_module(LIBRARIES, "benchmark_models", "libraries", str(folder))
            if cell["task"] == "classification":
                cell["yolo"] = run_module(LIBRARIES, "benchmark_models", "yolo", str(folder))
                names.append(f"ultralytics, {YOLO}")
        for count in sizes.threads:
            print(f"{name}, threads {count}", flush=True)
            cell.setdefault("threads", {})[str(count)] = compare(names, folder, count, sizes)
            cell["machine"] = {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            yield


def measure_start(data: Path) -> dict[str, Any]:
    """Measure the start of new processes with the first network."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(data / "clothing10.zip", folder / "images")
        run_module(TORCH, "benchmark_models", next(iter(NETWORKS)), str(folder))
        return run_module(SERVING, "cold_start", str(folder))


def measure_peak(_: Path) -> dict[str, Any]:
    """Measure the peak rate of matrix products."""
    return run_module(LIBRARIES, "peak_flops")


def measure_decoders(data: Path) -> dict[str, Any]:
    """Measure the decoders on the archives of a folder."""
    return run_module(LIBRARIES, "decoder_speed", str(data))


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the measurements that have no result yet, write inference.json and inference.md, and return the JSON file."""
    asked = _parse(arguments)
    folder = output_folder(asked.output, asked.tiny)
    file = folder / "inference.json"
    found = json.loads(file.read_text()) if file.exists() and not asked.restart else {}

    def write() -> None:
        file.write_text(json.dumps(found, indent=1) + "\n")

    if asked.tiny:
        sizes = InferenceSizes(rounds=1, seconds=0.02, threads=(1,))
        for _ in measure(TINY_NETWORK, None, sizes, found.setdefault("networks", {}).setdefault(TINY_NETWORK, {})):
            write()
    elif asked.data:
        for name in asked.networks:
            cell = found.setdefault("networks", {}).setdefault(name, {})
            missing = tuple(count for count in asked.threads if str(count) not in cell.get("threads", {}))
            if missing:
                sizes = InferenceSizes(rounds=asked.rounds, threads=missing)
                for _ in measure(name, asked.data / "clothing10.zip", sizes, cell):
                    write()
        for part, function in (("peak", measure_peak), ("start", measure_start), ("decoders", measure_decoders)):
            if part not in found:
                found[part] = function(asked.data)
                write()
    text = page(found)
    (folder / "inference.md").write_text(text)
    print(text)
    return file


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference.compare_inference", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the archives; without it, only the page is written")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=list(NETWORKS),
        default=list(NETWORKS),
        help="networks to measure; default: all",
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=list(InferenceSizes.threads),
        help="numbers of threads; default: %(default)s",
    )
    parser.add_argument("--rounds", type=int, default=InferenceSizes.rounds, help="timed rounds; default: %(default)s")
    parser.add_argument("--restart", action="store_true", help="measure everything again")
    add_run_arguments(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
