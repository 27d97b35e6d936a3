"""Compare Macula's server with LitServe and BentoML: `make bench-serving ARGUMENTS="--case NAME MODEL IMAGES"`.

All serve the same ONNX file with onnxruntime to the same clients on the loopback interface, decode images with Pillow,
and have the same number of concurrent runs (in as many processes, or in one) and threads per run. MODEL is an image
classifier that `export` wrote, IMAGES a folder of JPEG or PNG files. The first files of the most frequent size are sent
in turn, so that a server can batch them. In each round 1, then 8, then 64 clients of `wrk` send requests to each server
in turn, while the others idle. Clients keep their connections and send the next request after each response. The next
round begins with another server. Ratios are within a round, so that other work on the machine affects all servers
alike.

`--endurance NAME MODEL IMAGES` runs the tests of `benchmarks.serving.endurance`. Results are written as soon as they
are measured; without arguments only the page is written.
"""

import argparse
import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
from PIL import Image

from benchmarks.result_pages import add_run_arguments, output_folder
from benchmarks.serving.endurance import TESTS, TINY_ENDURANCE, EnduranceSizes, run_tests
from benchmarks.serving.load_generator import ServingSizes, files_of_one_size, put_load
from benchmarks.serving.server_processes import LIBRARIES, PORT, SERVERS, RunningServer, post
from benchmarks.serving.serving_tables import CLIENTS, page
from stages.core.provenance import environment

WAKE_UP = 5  # requests of one client before each turn, which are not measured

Figures = dict[str, Any]


def run_case(case: Figures, model: Path, images: list[Path], sizes: ServingSizes, write: Callable[[], None]) -> None:
    """Run all rounds of a case.

    Args:
        case: receives the results.
        model: ONNX file.
        images: files that are sent.
        sizes: servers, rounds and load.
        write: called after each round.
    """
    first = images[0].read_bytes()
    case |= {"servers": {}, "rounds": []}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as running:
        servers: dict[str, RunningServer] = {}
        for number, name in enumerate(sizes.only):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            servers[name] = server = RunningServer(
                SERVERS[name], model, PORT + number, sizes.workers, sizes.threads, folder / "log.txt"
            )
            running.callback(server.end)
            case["servers"][name] = {"start": server.wait_until_ready(first)}
            put_load(server, images, CLIENTS[-1], sizes.warm_up, sizes.python)
            server.pause()
        for number in range(sizes.rounds):
            names = sizes.only[number % len(servers) :] + sizes.only[: number % len(servers)]
            figures: dict[str, Figures] = {name: {} for name in names}
            for clients, name in itertools.product(CLIENTS, names):
                figures[name][str(clients)] = run_turn(servers[name], images, clients, sizes)
            case["rounds"].append(figures)
            for name, server in servers.items():
                case["servers"][name] |= {"memory": server.memory(), "processes": len(server.processes())}
                print(f"{name}: " + ", ".join(_line(figures[name][str(clients)]) for clients in CLIENTS), flush=True)
            write()


def run_turn(server: RunningServer, images: list[Path], clients: int, sizes: ServingSizes) -> Figures:
    """Put load on one server while the others idle, and return the figures of `put_load`.

    Args:
        server: the server.
        images: files that are sent.
        clients: number of clients.
        sizes: duration and kind of the load.
    """
    server.resume()
    for _ in range(WAKE_UP):
        post(server.url, server.kind.form, images[0].read_bytes())
    try:
        return put_load(server, images, clients, sizes.seconds, sizes.python)
    finally:
        server.pause()


def _line(figures: Figures) -> str:
    return f"{figures['requests'] / figures['seconds']:.0f}/s p99 {figures['p99'] / 1e3:.0f} ms"


def describe(name: str, model: Path, files: list[Path], sizes: ServingSizes) -> Figures:
    """Return the facts of a case: its name, model, images, machine and load.

    Args:
        name: name of the case.
        model: ONNX file.
        files: files that are sent.
        sizes: servers, rounds and load.
    """
    stored = {entry.key: json.loads(entry.value) for entry in onnx.load(model, load_external_data=False).metadata_props}
    with Image.open(files[0]) as image:
        size = image.size
    return {
        "name": name,
        "model": {
            "megabytes": model.stat().st_size / 1e6,
            **{key: stored[key] for key in ("task", "size", "channels")},
        },
        "images": {"size": size, "files": len(files)},
        "bytes": sum(file.stat().st_size for file in files) // len(files),
        "machine": describe_machine(),
        "workers": sizes.workers,
        "threads": sizes.threads,
        "seconds": sizes.seconds,
    }


def describe_machine() -> Figures:
    """Return commit and machine, and the versions of the packages here and in the other servers' environment."""
    names = ("bentoml", "litserve", "onnxruntime", "pillow", "uvicorn", "fastapi")
    facts = environment()
    facts["packages"] = {name: _version(name) for name in names if name not in ("bentoml", "litserve")}
    facts["peers"] = {}
    if LIBRARIES.exists():
        code = "import json; from importlib.metadata import version as v; "
        code += f"print(json.dumps({{n: v(n) for n in {names}}}))"
        done = subprocess.run([LIBRARIES / "python", "-c", code], capture_output=True, text=True, check=True)
        facts["peers"] = json.loads(done.stdout)
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure the requested cases, write serving.json and serving.md, and return the JSON file."""
    asked = _parse(arguments)
    file = output_folder(asked.output, asked.tiny) / "serving.json"
    found = json.loads(file.read_text()) if file.exists() else {"cases": {}}

    def write() -> None:
        file.write_text(json.dumps(found, indent=1) + "\n")
        file.with_suffix(".md").write_text(page(found))

    sizes = _sizes(asked)
    for name, model, images in asked.case:
        files = files_of_one_size(Path(images))
        found["cases"][name] = case = describe(name, Path(model), files, sizes)
        run_case(case, Path(model), files, sizes, write)
    for name, model, images in asked.endurance:
        files = files_of_one_size(Path(images))
        found["endurance"] = case = describe(name, Path(model), files, sizes)
        endurance = TINY_ENDURANCE if asked.tiny else EnduranceSizes(tuple(asked.tests), soak=60 * asked.minutes)
        run_tests(case, Path(model), files, sizes, endurance, write)
    write()
    return file


def _sizes(asked: argparse.Namespace) -> ServingSizes:
    """Return the sizes of a run; a tiny one skips servers that are not installed."""
    if not asked.tiny:
        return ServingSizes(asked.only, asked.rounds, asked.seconds, asked.workers, asked.threads)
    only = [name for name in asked.only if name.startswith("macula") or LIBRARIES.exists()]
    if not LIBRARIES.exists():
        print(f"skipped: LitServe and BentoML are not installed ({LIBRARIES})", flush=True)
    python = shutil.which("wrk") is None
    return ServingSizes(
        only, rounds=1, seconds=1 if not python else 0.2, warm_up=1 if not python else 0.1, python=python
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.compare_serving", description=__doc__)
    names = ("NAME", "MODEL", "IMAGES")
    parser.add_argument(
        "--case",
        nargs=3,
        action="append",
        default=[],
        metavar=names,
        help="compare the servers with this model, under this name, on a folder of images; may be repeated",
    )
    parser.add_argument(
        "--endurance",
        nargs=3,
        action="append",
        default=[],
        metavar=names,
        help="run the tests of endurance with this model, under this name, on a folder of images; may be repeated",
    )
    parser.add_argument(
        "--tests", nargs="+", choices=list(TESTS), default=list(TESTS), help="tests of --endurance; default: all"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="duration of the soak test, minutes; default: 10")
    parser.add_argument("--only", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="servers; default: all")
    parser.add_argument("--rounds", type=int, default=ServingSizes.rounds, help="rounds; default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=int,
        default=ServingSizes.seconds,
        help="seconds of load per number of clients; default: %(default)s",
    )
    parser.add_argument(
        "--workers", type=int, default=ServingSizes.workers, help="worker processes; default: %(default)s"
    )
    parser.add_argument(
        "--threads", type=int, default=ServingSizes.threads, help="threads per worker process; default: %(default)s"
    )
    add_run_arguments(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops the servers, as Ctrl-C does
    main()
