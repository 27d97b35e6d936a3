"""Training beside torchvision, Lightning, fastai and Ultralytics: `make bench-training ARGUMENTS="--data FOLDER"`.

All train ResNet-18 with random weights on the same files, with AdamW on one cycle, at the same batch size, number of
epochs, highest rate and weight decay; half of the images mirrored, with random crops of half to all of their area, or
what comes near it. They are given as many threads, and loaders as many worker processes. FOLDER holds `cifar10.tar.xz`
and `clothing10.zip`. Each contestant has processes of its own, which rest (SIGSTOP) while others have their turn: a
round is one epoch of everybody, and each is compared with Macula of the same round. The clock stands outside, is one
for all, and runs while a contestant has its turn. On a machine that is busy otherwise it favours those with more
processes, among which the cores are shared out; seconds of the processor do not:

- images/s: training images over the time between the first and the last step of an epoch, without the first epoch;
  the same over the seconds of the processor, all cores and worker processes together, which other work on the machine
  changes less;
- time to a score: from the start of the process, imports included, until a validation has said the score; Macula's
  `prepare` is in it, `ingest`, which has no counterpart, is told beside it. The score is the highest multiple of 0.05
  that everybody reached with every seed.

Threads wait without spinning (OMP_WAIT_POLICY): two that spin for each other on a machine that others use are twenty
times slower, whoever trains. What is measured is written down after each seed; a run that was stopped goes on there.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.training.training_cases import CASES, CONTESTANTS, Case
from benchmarks.training.training_tables import Race, Run, table

RESULT = Path("docs/results/training.json")
PEERS_PYTHON = Path(".venv-training-peers/bin/python")
PATIENCE = 600.0  # seconds without a word, after which a contestant is given up


@dataclass
class Contestant:
    """One that trains in processes of its own, and what was seen of it. Its clock runs in its turns alone."""

    name: str
    process: subprocess.Popen[bytes]
    events: int
    log: Path
    seconds: float = 0.0
    told: list[dict[str, Any]] = field(default_factory=list)
    rest: bytes = b""

    def turn(self) -> bool:
        """Until it has validated an epoch, or has ended: then False."""
        began = time.perf_counter()
        before = self.seconds
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
        heard = began
        while time.perf_counter() - heard < PATIENCE:
            ended = self.process.poll() is not None
            ready = select.select([self.events], [], [], 0.0 if ended else 0.2)[0]
            now = time.perf_counter()
            self.seconds = before + now - began
            events = list(self._read()) if ready else []
            self.told += [event | {"at": self.seconds, "processor": self._processor()} for event in events]
            heard = now if events else heard
            if ended:
                return False
            if any(event["event"] == "validated" for event in events):
                os.killpg(self.process.pid, signal.SIGSTOP)
                return True
        self.end()
        return False

    def end(self) -> None:
        """Its processes, whatever they do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _read(self) -> Iterator[dict[str, Any]]:
        *lines, self.rest = (self.rest + os.read(self.events, 65536)).split(b"\n")
        yield from map(json.loads, lines)

    def _processor(self) -> float:
        """Seconds of all cores: its own, those of workers that live, and of those that have ended."""
        try:
            own = psutil.Process(self.process.pid)
            spent = sum(own.cpu_times()[:4])
            return float(spent + sum(sum(child.cpu_times()[:2]) for child in own.children(recursive=True)))
        except psutil.Error:
            return 0.0


def start(name: str, recipe: dict[str, Any], threads: int) -> Contestant:
    """A contestant, at the beginning of its first turn."""
    who, own = name.partition(",")[0], who_runs(name)
    work = Path(recipe["work"])
    work.mkdir(parents=True)
    reading, writing = os.pipe()
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(Path.cwd())}
    env |= {"YOLO_CONFIG_DIR": str(work), "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [*own, who, json.dumps(recipe), str(writing)]
    with (work / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=work, env=env, stdout=log, stderr=log, pass_fds=[writing], start_new_session=True
        )
    os.close(writing)
    return Contestant(name, process, reading, work / "log.txt")


def who_runs(name: str) -> list[str]:
    """The interpreter and the module of a contestant."""
    if name.startswith("macula"):
        return [sys.executable, "-m", "benchmarks.training.macula_trainer"]
    return [str(PEERS_PYTHON.absolute()), "-m", "benchmarks.training.library_trainers"]


def race(names: list[str], recipe: dict[str, Any], folder: Path, threads: int) -> Race:
    """Everybody trains once, an epoch in turn; the first turn begins with the process."""
    racing: dict[str, Contestant] = {}
    left, turn, runs = list(names), 0, {}
    try:
        while left:
            first = turn % len(left)
            for name in left[first:] + left[:first]:
                if name not in racing:
                    own = recipe | CONTESTANTS[name] | {"work": str(folder / name.replace(", ", "-").replace(" ", "-"))}
                    racing[name] = start(name, own, threads)
                if not racing[name].turn():
                    left.remove(name)
                    runs[name] = summary(racing[name], recipe["epochs"])
            turn += 1
    except KeyboardInterrupt:
        print("interrupted: what was seen so far is kept", flush=True)
        runs |= {name: summary(racing[name], 0) for name in left if name in racing}
    finally:
        for contestant in racing.values():
            contestant.end()
    return runs


def summary(contestant: Contestant, epochs: int) -> Run:
    """What was seen of a contestant: of each epoch its seconds of training and all until its score was known."""
    found: Run = {"epochs": [], "seconds": contestant.seconds}
    began: dict[str, Any] = {}
    trained: dict[str, Any] = {}
    for event in contestant.told:
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
        found["error"] = contestant.log.read_text(errors="replace")[-2000:]
        print(f"{contestant.name} ended with {contestant.process.returncode}:\n{found['error']}", flush=True)
    return found


def ingested(case: Case, data: Path, folder: Path) -> float:
    """Macula's `ingest` of the files; seconds, imports left out."""
    from benchmarks.training.macula_trainer import sections_of
    from stages import ingest
    from stages.runner.stage import call

    sections = sections_of(case.recipe | {"score": "accuracy", "seed": 0, "warmup": 0.3, "work": str(Path.cwd())})
    sections["ingest"] = sections["ingest"].model_copy(update={"source": str(data), "form": "folders"})
    sections["split"] = sections["split"].model_copy(update={"by": "source"})
    (folder / "splits").mkdir(parents=True)
    places = [data, *(folder / part for part in ("splits", "sealed", "ingested"))]
    began = time.perf_counter()
    call(ingest.main, places, {name: sections[name] for name in ("ingest", "split")})
    return time.perf_counter() - began


def main() -> None:
    """Race on what is not written yet, and print the tables."""
    arguments = _arguments()
    found = json.loads(RESULT.read_text()) if RESULT.exists() and not arguments.anew else {}
    for name in arguments.cases if arguments.data else []:
        case = CASES[name]
        names = [one for one in case.contestants if one in arguments.only]
        cell = found.setdefault(name, {"recipe": case.recipe, "races": {}})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            case.unpack(arguments.data / case.archive, folder / "data")
            images = len(list((folder / "data" / "train").glob("*/*")))
            cell |= {"images": images, "ingest": ingested(case, folder / "data", folder), "threads": arguments.threads}
            cell["machine"] = machine()
            for seed in (seed for seed in arguments.seeds if str(seed) not in cell["races"]):
                recipe = case.recipe | {"seed": seed, "warmup": 0.3, "score": "accuracy", "data": str(folder / "data")}
                recipe |= {"ingested": str(folder / "ingested"), "workers": arguments.threads}
                recipe["threads"] = arguments.threads
                cell["races"][str(seed)] = race(names, recipe, folder / f"seed-{seed}", arguments.threads)
                RESULT.write_text(json.dumps(found, indent=1) + "\n")
                print(table(name, cell), flush=True)
    for name, cell in found.items():
        print(table(name, cell))


def machine() -> dict[str, Any]:
    """What it is, and how busy."""
    from stages.core.provenance import processor

    return {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.compare_training", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the archives; without it, the tables alone")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--anew", action="store_true", help="forget what is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
