"""Compare training with torchvision, Lightning, fastai and Ultralytics.

Run `make bench-training ARGUMENTS="--data FOLDER"`.

All train ResNet-18 with random weights on the same files, with AdamW and a one-cycle schedule, at the same batch size,
number of epochs, maximum learning rate and weight decay. Half of the images are mirrored, with random crops of half to
all of their area, or the closest equivalent. All have the same number of threads; the other libraries also have that
number of worker processes for loading. FOLDER contains `cifar10.tar.xz` and `clothing10.zip`. Each competitor has its
own processes, which are stopped (SIGSTOP) while others run. In a round each competitor trains one epoch, and each is
compared with Macula in the same round. One clock outside of the processes measures the time while a competitor runs. On
a busy machine wall-clock time favours competitors with more processes, among which the cores are divided; processor
time does not.

- images/s: training images over the time between the first and the last step of an epoch, without the first epoch; the
  same over processor time, summed over cores and worker processes, which other work on the machine affects less;
- time to a score: from the start of the process, including imports, until a validation reaches the score. Macula's
  `prepare` is included; `ingest`, which has no equivalent, is reported separately. The score is the highest multiple of
  0.05 that all competitors reached with all seeds.

Threads wait without spinning (OMP_WAIT_POLICY): on a shared machine, two threads that spin while they wait for each
other are twenty times slower, for all libraries. Results are written after each seed, so that an interrupted run
resumes.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.result_pages import add_run_arguments, installed, output_folder
from benchmarks.training.training_cases import CASES, COMPETITORS, TINY_CASE, TrainingCase
from benchmarks.training.training_tables import Race, Run, table
from stages.core.provenance import processor

LIBRARIES_PYTHON = Path(".venv-training-peers/bin/python")
TIMEOUT = 600.0  # seconds without an event, after which a competitor is stopped
WARM_UP = 0.3  # share of the steps in which the learning rate rises
TINY = "digits, 32 px"


@dataclass
class TrainingProcess:
    """A competitor that trains in its own processes; its clock runs only in its turns."""

    name: str
    process: subprocess.Popen[bytes]
    events: int
    """File descriptor of the pipe for events."""
    log: Path
    seconds: float = 0.0
    received: list[dict[str, Any]] = field(default_factory=list)
    rest: bytes = b""

    def turn(self) -> bool:
        """Let the competitor train until it has validated an epoch; return False if it ended or was killed."""
        began = time.perf_counter()
        before = self.seconds
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
        last = began
        while time.perf_counter() - last < TIMEOUT:
            ended = self.process.poll() is not None
            ready = select.select([self.events], [], [], 0.0 if ended else 0.2)[0]
            now = time.perf_counter()
            self.seconds = before + now - began
            events = list(self._read()) if ready else []
            self.received += [event | {"at": self.seconds, "processor": self._cpu_seconds()} for event in events]
            last = now if events else last
            if ended:
                return False
            if any(event["event"] == "validated" for event in events):
                os.killpg(self.process.pid, signal.SIGSTOP)
                return True
        self.end()
        return False

    def end(self) -> None:
        """Kill all processes of the competitor and close the pipe."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.events >= 0:
            os.close(self.events)
            self.events = -1

    def _read(self) -> Iterator[dict[str, Any]]:
        *lines, self.rest = (self.rest + os.read(self.events, 65536)).split(b"\n")
        yield from map(json.loads, lines)

    def _cpu_seconds(self) -> float:
        """Return the processor seconds of the process and of its workers, living or ended; 0 if they cannot be read."""
        try:
            own = psutil.Process(self.process.pid)
            spent = sum(own.cpu_times()[:4])
            return float(spent + sum(sum(child.cpu_times()[:2]) for child in own.children(recursive=True)))
        except psutil.Error:
            return 0.0


def start(name: str, recipe: dict[str, Any], threads: int) -> TrainingProcess:
    """Start a competitor; call `turn`, which starts its clock, at once.

    Args:
        name: a key of `COMPETITORS`.
        recipe: data and settings of the training.
        threads: number of threads.
    """
    work = Path(recipe["work"])
    work.mkdir(parents=True)
    reading, writing = os.pipe()
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(Path.cwd())}
    env |= {"YOLO_CONFIG_DIR": str(work), "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [*trainer_command(name), name.partition(",")[0], json.dumps(recipe), str(writing)]
    with (work / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=work, env=env, stdout=log, stderr=log, pass_fds=[writing], start_new_session=True
        )
    os.close(writing)
    return TrainingProcess(name, process, reading, work / "log.txt")


def trainer_command(name: str) -> list[str]:
    """Return the interpreter and the module of a competitor."""
    if name.startswith("macula"):
        return [sys.executable, "-m", "benchmarks.training.macula_trainer"]
    return [str(LIBRARIES_PYTHON.absolute()), "-m", "benchmarks.training.library_trainers"]


def race(names: Sequence[str], recipe: dict[str, Any], folder: Path, threads: int) -> Race:
    """Train with all competitors in turn, one epoch per turn.

    Args:
        names: keys of `COMPETITORS`.
        recipe: data and settings of the training.
        folder: folder for their files.
        threads: number of threads of each.

    Returns:
        The run of each competitor; after an interrupt, with the epochs until then.
    """
    racing: dict[str, TrainingProcess] = {}
    left, turn = list(names), 0
    runs: Race = {}
    try:
        while left:
            first = turn % len(left)
            for name in left[first:] + left[:first]:
                if name not in racing:
                    work = str(folder / name.replace(", ", "-").replace(" ", "-"))
                    racing[name] = start(name, recipe | COMPETITORS[name] | {"work": work}, threads)
                if not racing[name].turn():
                    left.remove(name)
                    runs[name] = summarize(racing[name], recipe["epochs"])
            turn += 1
    except KeyboardInterrupt:
        print("interrupted: the results so far are saved", flush=True)
        runs |= {name: summarize(racing[name], 0) for name in left if name in racing}
    finally:
        for competitor in racing.values():
            competitor.end()
    return runs


def summarize(competitor: TrainingProcess, epochs: int) -> Run:
    """Return the seconds of training and the score of each epoch, and the error if epochs are missing.

    Args:
        competitor: a process that has ended or is stopped.
        epochs: expected number of epochs.
    """
    found: Run = {"epochs": [], "seconds": competitor.seconds}
    began: dict[str, Any] = {}
    trained: dict[str, Any] = {}
    for event in competitor.received:
        match event["event"]:
            case "training":
                began = event
            case "trained":
                trained = event
            case "validated":
                found["epochs"].append(
                    {
                        "training": trained["at"] - began["at"],
                        "training_processor": trained["processor"] - began["processor"],
                        "at": event["at"],
                        "processor": event["processor"],
                        "score": event["score"],
                    }
                )
            case "prepared":
                found["prepared"] = event["at"]
            case other:
                found[other] = event[other]
    if len(found["epochs"]) < epochs:
        found["error"] = competitor.log.read_text(errors="replace")[-2000:]
        print(f"{competitor.name} ended with status {competitor.process.returncode}:\n{found['error']}", flush=True)
    return found


def time_ingest(case: TrainingCase, data: Path, folder: Path) -> float:
    """Run Macula's `ingest` on the files and return its wall-clock seconds without imports.

    Args:
        case: case with the recipe of the training.
        data: folder of the images.
        folder: folder for the outputs.
    """
    from benchmarks.training.macula_trainer import params_sections
    from stages import ingest
    from stages.runner.stage import call

    recipe = case.recipe | {"score": "accuracy", "seed": 0, "warmup": WARM_UP, "work": str(Path.cwd())}
    sections = params_sections(recipe)
    sections["ingest"] = sections["ingest"].model_copy(update={"source": str(data), "format": "folders"})
    sections["split"] = sections["split"].model_copy(update={"by": "source"})
    (folder / "splits").mkdir(parents=True)
    paths = [data, *(folder / part for part in ("splits", "sealed", "ingested"))]
    began = time.perf_counter()
    call(ingest.main, paths, {name: sections[name] for name in ("ingest", "split")})
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the trainings that have no results yet, write training.json, print the tables, and return the file."""
    asked = _parse(arguments)
    file = output_folder(asked.output, asked.tiny) / "training.json"
    found = json.loads(file.read_text()) if file.exists() and not asked.restart else {}
    cases = {TINY: TINY_CASE} if asked.tiny else {name: CASES[name] for name in asked.cases if asked.data}
    for name, case in cases.items():
        names = [one for one in case.competitors if one in asked.only]
        if asked.tiny and not installed(LIBRARIES_PYTHON, "training with other libraries"):
            names = [one for one in names if one.startswith("macula")]
        cell = found.setdefault(name, {"recipe": case.recipe, "races": {}})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            case.unpack(asked.data / case.archive if asked.data else Path(), folder / "data")
            images = len(list((folder / "data" / "train").glob("*/*")))
            cell |= {"images": images, "ingest": time_ingest(case, folder / "data", folder), "threads": asked.threads}
            cell["machine"] = {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            for seed in (seed for seed in asked.seeds if str(seed) not in cell["races"]):
                recipe = case.recipe | {"seed": seed, "warmup": WARM_UP, "score": "accuracy"}
                recipe |= {"data": str(folder / "data"), "ingested": str(folder / "ingested")}
                recipe |= {"workers": asked.threads, "threads": asked.threads}
                cell["races"][str(seed)] = race(names, recipe, folder / f"seed-{seed}", asked.threads)
                file.write_text(json.dumps(found, indent=1) + "\n")
                print(table(name, cell), flush=True)
    for name, cell in found.items():
        print(table(name, cell))
    return file


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.compare_training", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the archives; without it, only the tables are printed")
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), default=list(CASES), help="data sets to train on; default: all"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(COMPETITORS), default=list(COMPETITORS), help="trainers; default: all"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the trainings; default: 0 1")
    parser.add_argument("--threads", type=int, default=2, help="threads per trainer; default: 2")
    parser.add_argument("--restart", action="store_true", help="measure everything again")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    if asked.tiny:
        asked.seeds, asked.threads = [0], 1
    return asked


if __name__ == "__main__":
    main()
