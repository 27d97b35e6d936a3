"""Endurance tests of a server: a killed worker, a replaced model file, and minutes of load.

Clients are threads that follow each request, but `wrk` during minutes of load. The outcome of a request is a response,
an error that the client received (a status, or a closed connection), or neither within `TIMEOUT`: the request hangs.
"""

import http.client
import json
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx

from benchmarks.serving.load_generator import ServingSizes, put_load
from benchmarks.serving.server_processes import PORT, SERVERS, RunningServer, request_of

TIMEOUT = 15.0  # seconds, after which a request counts as hanging
CLIENTS = 8
SETTLING = 0.2  # share of a soak test, at its beginning, that the slope leaves out

Figures = dict[str, Any]

TESTS = {
    "killed": ("macula, processes", "litserve", "bentoml"),
    "reloaded": ("macula", "macula, processes"),
    "soaked": ("macula",),
}
"""Servers of each test: those with several workers, those that can replace a model, and the one under long load."""


@dataclass(frozen=True)
class EnduranceSizes:
    """Tests and durations in seconds."""

    tests: tuple[str, ...] = tuple(TESTS)
    load: float = 25.0
    """Load around a kill or a replaced model."""
    actions: tuple[float, float] = (5.0, 15.0)
    """Times of the two actions within the load."""
    soak: float = 600.0
    interval: float = 5.0
    """Time between two samples of the memory in a soak test."""


TINY_ENDURANCE = EnduranceSizes(load=3.0, actions=(0.5, 1.5), soak=4.0, interval=0.05)


def run_tests(
    case: Figures,
    source: Path,
    files: list[Path],
    settings: ServingSizes,
    sizes: EnduranceSizes,
    write: Callable[[], None],
) -> None:
    """Run the tests on all servers that they apply to.

    Args:
        case: receives the results.
        source: ONNX file.
        files: image files that are sent.
        settings: servers, processes and threads.
        sizes: tests and durations.
        write: called after each test.
    """
    images = [file.read_bytes() for file in files]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, other = folder / "served.onnx", folder / "other.onnx"
        shutil.copyfile(source, model)
        write_other_version(model, other, "another")

        def start(name: str) -> RunningServer:
            server = RunningServer(SERVERS[name], model, PORT, settings.workers, settings.threads, folder / "log.txt")
            server.wait_until_ready(images[0])
            put_load(server, files, CLIENTS, settings.warm_up, settings.python)
            return server

        def load(server: RunningServer, seconds: float) -> Figures:
            return put_load(server, files, CLIENTS, seconds, settings.python)

        tests: dict[str, Callable[[RunningServer], Figures]] = {
            "killed": lambda server: kill_workers(server, images, sizes),
            "reloaded": lambda server: replace_model(server, images, model, other, sizes),
            "soaked": lambda server: soak(server, lambda seconds: load(server, seconds), sizes.soak, sizes.interval),
        }
        for test, name in [(one, name) for one in sizes.tests for name in TESTS[one] if name in settings.only]:
            server = start(name)
            try:
                case[f"{test}, {name}"] = figures = tests[test](server)
            finally:
                server.end()
            shown = {key: figures[key] for key in figures if key not in ("memory", "failed_at")}
            print(test, name, shown, flush=True)
            write()


def write_other_version(model: Path, other: Path, version: str) -> None:
    """Write the same network with another version, as a later training would have it.

    Args:
        model: ONNX file.
        other: the file to write.
        version: version in the metadata of the new file.
    """
    graph = onnx.load(model)
    for entry in graph.metadata_props:
        if entry.key == "version":
            entry.value = json.dumps(version)
    onnx.save(graph, other)


def soak(server: RunningServer, load: Callable[[float], Figures], seconds: float, interval: float) -> Figures:
    """Put load on a server and sample the memory of all its processes.

    Args:
        server: a server that responds already.
        load: function that puts load on the server for a number of seconds and returns the figures.
        seconds: duration.
        interval: seconds between two samples.

    Returns:
        Figures of the load, samples of the memory (seconds, resident and proportional MiB), and the slope of resident
        memory with its standard error, by a least-squares line without the settling time, in MiB per hour.
    """
    seen: list[tuple[float, float, float]] = []
    ended = threading.Event()
    began = time.perf_counter()

    def sample() -> None:
        while not ended.wait(interval):
            memory = server.memory()
            seen.append((time.perf_counter() - began, memory["resident"], memory["proportional"]))

    watch = threading.Thread(target=sample)
    watch.start()
    try:
        figures = load(seconds)
    finally:
        ended.set()
        watch.join()
    settled = np.array([row for row in seen if row[0] > SETTLING * seconds])
    slope, error = _slope(settled[:, 0] / 3600, settled[:, 1])
    return {"load": figures, "seconds": seconds, "memory": seen, "slope": slope, "slope_error": error}


def _slope(x: Any, y: Any) -> tuple[float, float]:
    """Return the slope of the least-squares line and its standard error."""
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))


def kill_workers(server: RunningServer, images: list[bytes], sizes: EnduranceSizes) -> Figures:
    """Send SIGKILL twice to the busiest worker process, under load; return figures of the requests.

    If the server has no process besides its main process, that one is killed.

    Args:
        server: a server with several processes.
        images: bytes of image files.
        sizes: durations.
    """

    def kill() -> str:
        workers = [one for one in server.processes() if one.pid != server.process.pid] or server.processes()
        busiest = max(workers, key=lambda one: sum(one.cpu_times()[:2]))
        busiest.send_signal(signal.SIGKILL)
        return f"one of {len(workers)} workers"

    return _under_load(server, images, [kill, kill], sizes)


def replace_model(
    server: RunningServer, images: list[bytes], model: Path, other: Path, sizes: EnduranceSizes
) -> Figures:
    """Replace the model file by another one, as `mv` does, and then by the first one again, under load.

    Figures of the requests are returned.

    Args:
        server: the server.
        images: bytes of image files.
        model: the served file.
        other: a file with another version.
        sizes: durations.
    """

    def put(source: Path) -> str:
        fresh = model.with_suffix(".fresh")
        shutil.copyfile(source, fresh)
        fresh.replace(model)
        return source.stem

    first = model.with_suffix(".first")
    shutil.copyfile(model, first)
    return _under_load(server, images, [lambda: put(other), lambda: put(first)], sizes)


def _under_load(
    server: RunningServer, images: list[bytes], actions: list[Callable[[], str]], sizes: EnduranceSizes
) -> Figures:
    """Run actions at `sizes.actions` while clients send one request after another; return figures of the requests."""
    began = time.perf_counter()
    done = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [
            pool.submit(_client, server, images[number::CLIENTS] or images, began, sizes.load)
            for number in range(CLIENTS)
        ]
        for action, at in zip(actions, sizes.actions, strict=True):
            time.sleep(max(0.0, began + at - time.perf_counter()))
            done.append({"at": time.perf_counter() - began, "what": action()})
        requests = sorted(row for client in clients for row in client.result())
    outcomes = Counter(outcome for _, _, outcome, _ in requests)
    return {
        "actions": done,
        "requests": len(requests),
        "outcomes": dict(outcomes),
        "hanging": sum(seconds >= TIMEOUT for _, seconds, _, _ in requests),
        "longest": max(seconds for _, seconds, _, _ in requests),
        "failed_at": [round(at, 2) for at, _, outcome, _ in requests if outcome != "200"],
        "versions": _versions([(at, version) for at, _, _, version in requests if version]),
        "seconds": sizes.load,
    }


def _versions(responses: list[tuple[float, str]]) -> list[Figures]:
    """Return for each version the number of its responses, and when the first and the last request were sent."""
    found: dict[str, Figures] = {}
    for at, version in responses:
        entry = found.setdefault(version, {"version": version, "responses": 0, "first": at})
        entry |= {"responses": entry["responses"] + 1, "last": at}
    return list(found.values())


def _client(
    server: RunningServer, images: list[bytes], began: float, seconds: float
) -> list[tuple[float, float, str, str]]:
    """Return for each request when it was sent, its duration, its outcome, and the version of the model."""
    place = urlsplit(server.url)
    rows: list[tuple[float, float, str, str]] = []
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=TIMEOUT)
    while (at := time.perf_counter() - began) < seconds:
        headers, body = request_of(server.kind.form, images[len(rows) % len(images)])
        try:
            connection.request("POST", place.path, body, headers)
            response = connection.getresponse()
            text = response.read()
            outcome, version = str(response.status), _version(text) if response.status == 200 else ""
        except (OSError, http.client.HTTPException) as error:
            outcome, version = type(error).__name__, ""
            connection.close()
        rows.append((at, time.perf_counter() - began - at, outcome, version))
        if outcome != "200":
            time.sleep(0.05)  # as a client would wait before it retries
    connection.close()
    return rows


def _version(text: bytes) -> str:
    """Return the model's version in a response, or an empty string."""
    response = json.loads(text)
    return str(response.get("model", {}).get("version", "")) if isinstance(response, dict) else ""
