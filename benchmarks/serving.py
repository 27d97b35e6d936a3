"""Macula's server beside LitServe's and BentoML's: `make bench-serving ARGUMENTS="--case NAME MODEL IMAGES"`.

All serve the same ONNX file by onnxruntime to the same clients on the loopback, images decoded by Pillow, with as many
processes and threads of a session. MODEL is an image classifier that `export` wrote, IMAGES a folder of JPEG or PNG
files; of those of the most frequent size the first are posted in turn, so that who gathers images into calls can.
Rounds: each server in turn is started, asked by 1, 8 and 64 clients of `wrk`, which keep their connections and ask anew
as soon as they are answered, and ended; the next round begins with another server. Ratios are those of a round.
`--holds NAME MODEL IMAGES` tries what a server has to hold: see `benchmarks.serving_holds`. What is measured is written
down at once; without arguments the page is written anew.
"""

import argparse
import json
import resource
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import psutil
from PIL import Image

from benchmarks.serving_holds import killed, reloaded, soak
from benchmarks.serving_servers import KINDS, PEERS, Server
from benchmarks.serving_tables import page
from stages.frame.provenance import environment

RESULT = Path("docs/results/serving.json")
LOAD = Path(__file__).with_name("serving_load.lua")
CLIENTS = (1, 8, 64)
IMAGES = 64
WARM = 2.0  # seconds of load that do not count
PORT = 8700
TRIED = {
    "killed": ("macula, processes", "litserve", "bentoml"),
    "reloaded": ("macula", "macula, processes"),
    "soaked": ("macula",),
}
"""Which servers have several workers, can exchange a model, and are loaded for minutes."""

Told = dict[str, Any]


def load(server: Server, images: list[Path], clients: int, seconds: float) -> Told:
    """What wrk saw, and what it took: processor seconds of the server, of wrk, and of all else on the machine."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(LOAD), server.url, "--"]
    before = server.processor(), _children(), _busy()
    said = subprocess.run([*command, server.kind.form, *map(str, images)], capture_output=True, text=True, check=True)
    took = [after - earlier for after, earlier in zip((server.processor(), _children(), _busy()), before, strict=True)]
    told = json.loads(said.stdout.splitlines()[-1])
    return told | {"server": took[0], "wrk": took[1], "elsewhere": max(0.0, took[2] - took[0] - took[1])}


def _children() -> float:
    """Processor seconds of ended children, such as wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _busy() -> float:
    """Processor seconds of the machine in which it was not idle; those that the host took away are in it."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def turn(name: str, model: Path, images: list[Path], folder: Path, arguments: argparse.Namespace) -> Told:
    """A server from its start to its end."""
    server = Server(KINDS[name], model, PORT, arguments.workers, arguments.threads, folder / "log.txt")
    try:
        told: Told = {"start": server.answered(images[0].read_bytes())}
        load(server, images, 8, WARM)
        for clients in CLIENTS:
            told[str(clients)] = load(server, images, clients, arguments.seconds)
        return told | {"memory": server.memory(), "processes": len(server.processes())}
    finally:
        server.end()


def race(
    case: Told, model: Path, images: list[Path], arguments: argparse.Namespace, written: Callable[[], None]
) -> None:
    """All rounds of a case; `written` is called after each."""
    names, case["rounds"] = arguments.only, []
    for number in range(arguments.rounds):
        first = number % len(names)
        told = {}
        for name in names[first:] + names[:first]:
            with tempfile.TemporaryDirectory() as folder:
                told[name] = turn(name, model, images, Path(folder), arguments)
            print(f"{name}: " + ", ".join(_line(told[name][str(clients)]) for clients in CLIENTS), flush=True)
        case["rounds"].append(told)
        written()


def _line(told: Told) -> str:
    return f"{told['requests'] / told['seconds']:.0f}/s p99 {told['p99'] / 1e3:.0f} ms"


def of_one_size(folder: Path) -> list[Path]:
    """The first files of the most frequent size; raises SystemExit where there are none."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg", ".png")]
    sizes = {file: Image.open(file).size for file in files}
    if not sizes:
        raise SystemExit(f"error: {folder} holds no JPEG or PNG files")
    size = Counter(sizes.values()).most_common(1)[0][0]
    return [file for file in files if sizes[file] == size][:IMAGES]


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


def hold(
    case: Told, source: Path, files: list[Path], arguments: argparse.Namespace, written: Callable[[], None]
) -> None:
    """A worker killed, another model in place of the file, minutes of load."""
    images = [file.read_bytes() for file in files]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, other = folder / "served.onnx", folder / "other.onnx"
        shutil.copyfile(source, model)
        retold(model, other, "another")

        def running(name: str) -> Server:
            server = Server(KINDS[name], model, PORT, arguments.workers, arguments.threads, folder / "log.txt")
            server.answered(images[0])
            load(server, files, 8, WARM)
            return server

        tries: dict[str, Callable[[Server], Told]] = {
            "killed": lambda server: killed(server, images),
            "reloaded": lambda server: reloaded(server, images, model, other),
            "soaked": lambda server: soak(
                server, lambda seconds: load(server, files, 8, seconds), 60 * arguments.minutes
            ),
        }
        asked = [(what, name) for what in arguments.tries for name in TRIED[what] if name in arguments.only]
        for what, name in asked:
            server = running(name)
            try:
                case[f"{what}, {name}"] = told = tries[what](server)
            finally:
                server.end()
            print(what, name, {key: told[key] for key in told if key not in ("memory", "failed_at")}, flush=True)
            written()


def retold(model: Path, other: Path, version_: str) -> None:
    """The same network under another version, as a later training would have it."""
    graph = onnx.load(model)
    for entry in graph.metadata_props:
        if entry.key == "version":
            entry.value = json.dumps(version_)
    onnx.save(graph, other)


def main() -> None:
    """Measure what is asked, and write the page."""
    arguments = _arguments()
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--case", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "IMAGES"))
    parser.add_argument("--holds", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "IMAGES"))
    parser.add_argument("--tries", nargs="+", choices=list(TRIED), default=list(TRIED), help="of --holds")
    parser.add_argument("--minutes", type=float, default=10.0, help="of load, memory watched")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each number of clients")
    parser.add_argument("--workers", type=int, default=2, help="processes with a session each")
    parser.add_argument("--threads", type=int, default=1, help="of a session")
    return parser.parse_args()


if __name__ == "__main__":
    main()
