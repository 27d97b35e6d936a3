"""Macula's server beside LitServe's and BentoML's: `make bench-serving ARGUMENTS="--case NAME MODEL IMAGES"`.

All serve the same ONNX file by onnxruntime to the same clients on the loopback, images decoded by Pillow, with as many
processes and threads of a session. MODEL is an image classifier that `export` wrote, IMAGES a folder of JPEG or PNG
files; of those of the most frequent size the first are posted in turn, so that who gathers images into calls can.
In a round 1, then 8, then 64 clients of `wrk`, which keep their connections and ask anew as soon as they are answered,
ask each server in turn for some seconds, while all others idle; the next round begins with another server.
Ratios are those of a round, so that other work on the machine, as long as it lasts, meets all alike.
`--holds NAME MODEL IMAGES` tries what a server has to hold: see `benchmarks.serving.endurance`. What is measured is written
down at once; without arguments the page is written anew.
"""

import argparse
import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from PIL import Image

from benchmarks.serving.endurance import TRIED, hold
from benchmarks.serving.load_generator import WARM, load, of_one_size
from benchmarks.serving.server_processes import KINDS, PEERS, PORT, Server, ask
from benchmarks.serving.serving_tables import page
from stages.core.provenance import environment

RESULT = Path("docs/results/serving.json")
CLIENTS = (1, 8, 64)
STIRRING = 5  # requests of one client before each turn, which do not count

Told = dict[str, Any]


def race(
    case: Told, model: Path, images: list[Path], arguments: argparse.Namespace, written: Callable[[], None]
) -> None:
    """All rounds of a case; `written` is called after each."""
    first = images[0].read_bytes()
    case |= {"servers": {}, "rounds": []}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as running:
        servers: dict[str, Server] = {}
        for number, name in enumerate(arguments.only):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            servers[name] = server = Server(
                KINDS[name], model, PORT + number, arguments.workers, arguments.threads, folder / "log.txt"
            )
            running.callback(server.end)
            case["servers"][name] = {"start": server.answered(first)}
            load(server, images, CLIENTS[-1], WARM)
            server.rest()
        for number in range(arguments.rounds):
            names = arguments.only[number % len(servers) :] + arguments.only[: number % len(servers)]
            told: dict[str, Told] = {name: {} for name in names}
            for clients, name in itertools.product(CLIENTS, names):
                told[name][str(clients)] = turn(servers[name], images, first, clients, arguments.seconds)
            case["rounds"].append(told)
            for name, server in servers.items():
                case["servers"][name] |= {"memory": server.memory(), "processes": len(server.processes())}
                print(f"{name}: " + ", ".join(_line(told[name][str(clients)]) for clients in CLIENTS), flush=True)
            written()


def turn(server: Server, images: list[Path], first: bytes, clients: int, seconds: float) -> Told:
    """Load on one server, while the others rest."""
    server.go_on()
    for _ in range(STIRRING):
        ask(server.url, server.kind.form, first)
    try:
        return load(server, images, clients, seconds)
    finally:
        server.rest()


def _line(told: Told) -> str:
    return f"{told['requests'] / told['seconds']:.0f}/s p99 {told['p99'] / 1e3:.0f} ms"


def about(name: str, model: Path, files: list[Path], arguments: argparse.Namespace) -> Told:
    """What is asked of whom."""
    stored = {entry.key: json.loads(entry.value) for entry in onnx.load(model, load_external_data=False).metadata_props}
    return {
        "name": name,
        "model": {
            "megabytes": model.stat().st_size / 1e6,
            **{key: stored[key] for key in ("task", "size", "channels")},
        },
        "images": {"size": Image.open(files[0]).size, "files": len(files)},
        "bytes": sum(file.stat().st_size for file in files) // len(files),
        "machine": machine(),
        "workers": arguments.workers,
        "threads": arguments.threads,
        "seconds": arguments.seconds,
    }


def machine() -> Told:
    """Processor, cores, and the versions of both environments."""
    names = ("bentoml", "litserve", "onnxruntime", "pillow", "uvicorn", "fastapi")
    code = f"import json; from importlib.metadata import version as v; print(json.dumps({{n: v(n) for n in {names}}}))"
    peers = subprocess.run([PEERS / "python", "-c", code], capture_output=True, text=True, check=True).stdout
    own = environment()
    own["packages"] = {name: version(name) for name in names if name not in ("bentoml", "litserve")}
    return own | {"peers": json.loads(peers)}


def main() -> None:
    """Measure what is asked, and write the page."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what it started, as Control-C does
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"cases": {}}

    def written() -> None:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
        RESULT.with_suffix(".md").write_text(page(found))

    for name, model, images in arguments.case:
        files = of_one_size(Path(images))
        found["cases"][name] = case = about(name, Path(model), files, arguments)
        race(case, Path(model), files, arguments, written)
    for name, model, images in arguments.holds:
        files = of_one_size(Path(images))
        found["holds"] = case = about(name, Path(model), files, arguments)
        hold(case, Path(model), files, arguments, written)
    written()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.compare_serving", description=__doc__)
    parser.add_argument("--case", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "IMAGES"))
    parser.add_argument("--holds", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "IMAGES"))
    parser.add_argument("--tries", nargs="+", choices=list(TRIED), default=list(TRIED), help="of --holds")
    parser.add_argument("--minutes", type=float, default=10.0, help="of load, memory watched")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=4, help="of load for each number of clients in a round")
    parser.add_argument("--workers", type=int, default=2, help="processes with a session each")
    parser.add_argument("--threads", type=int, default=1, help="of a session")
    return parser.parse_args()


if __name__ == "__main__":
    main()
