"""What a server has to hold: minutes of load, a killed worker, another model in place of its file.

Here every request is followed by itself, by clients that are threads: an answer, an error that the client was told
(a status, a connection that was closed), or neither within `PATIENCE`, which is a request that hangs.
"""

import argparse
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
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx

from benchmarks.serving.load_generator import WARM, load
from benchmarks.serving.server_processes import KINDS, PORT, Server, posted

PATIENCE = 15.0  # seconds, after which a request hangs
CLIENTS = 8
SAMPLE = 5.0  # seconds between two looks at memory
SETTLING = 0.2  # share of a soak, at its beginning, that the slope leaves out
SUITE = 25.0  # seconds of load around a kill or a reload
ACTS = (5.0, 15.0)  # seconds of it at which something is done

Told = dict[str, Any]

TRIED = {
    "killed": ("macula, processes", "litserve", "bentoml"),
    "reloaded": ("macula", "macula, processes"),
    "soaked": ("macula",),
}
"""Which servers have several workers, can exchange a model, and are loaded for minutes."""


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


def soak(server: Server, asking: Callable[[float], Told], seconds: float) -> Told:
    """Load, memory of all processes meanwhile, and its slope: least squares behind the settling.

    Args:
        server: answers already.
        asking: asks for that many seconds, and says what happened.
        seconds: how long.
    """
    seen: list[tuple[float, float, float]] = []
    ended = threading.Event()
    began = time.perf_counter()

    def look() -> None:
        while not ended.wait(SAMPLE):
            memory = server.memory()
            seen.append((time.perf_counter() - began, memory["resident"], memory["proportional"]))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        told = asking(seconds)
    finally:
        ended.set()
        watch.join()
    settled = np.array([row for row in seen if row[0] > SETTLING * seconds])
    slope, error = _slope(settled[:, 0] / 3600, settled[:, 1])
    return {"load": told, "seconds": seconds, "memory": seen, "slope": slope, "slope_error": error}


def _slope(x: Any, y: Any) -> tuple[float, float]:
    """Of the line of least squares, and its standard error."""
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))


def killed(server: Server, images: list[bytes]) -> Told:
    """Twice SIGKILL for the busiest process that is not the first one."""

    def kill() -> str:
        workers = [one for one in server.processes() if one.pid != server.process.pid] or server.processes()
        victim = max(workers, key=lambda one: sum(one.cpu_times()[:2]))
        victim.send_signal(signal.SIGKILL)
        return f"one of {len(workers)} workers"

    return _meanwhile(server, images, [kill, kill])


def reloaded(server: Server, images: list[bytes], model: Path, other: Path) -> Told:
    """Another model takes the place of the file at once, as `mv` does, and then the first one again."""

    def put(source: Path) -> str:
        fresh = model.with_suffix(".fresh")
        shutil.copyfile(source, fresh)
        fresh.replace(model)
        return source.stem

    first = model.with_suffix(".first")
    shutil.copyfile(model, first)
    return _meanwhile(server, images, [lambda: put(other), lambda: put(first)])


def _meanwhile(server: Server, images: list[bytes], acts: list[Callable[[], str]]) -> Told:
    """Clients that ask one after another, while something is done."""
    began = time.perf_counter()
    done = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(_client, server, images[k::CLIENTS] or images, began) for k in range(CLIENTS)]
        for act, at in zip(acts, ACTS, strict=True):
            time.sleep(max(0.0, began + at - time.perf_counter()))
            done.append({"at": time.perf_counter() - began, "what": act()})
        requests = sorted(row for client in clients for row in client.result())
    fates = Counter(fate for _, _, fate, _ in requests)
    return {
        "acts": done,
        "requests": len(requests),
        "fates": dict(fates),
        "hanging": sum(seconds >= PATIENCE for _, seconds, _, _ in requests),
        "longest": max(seconds for _, seconds, _, _ in requests),
        "failed_at": [round(at, 2) for at, _, fate, _ in requests if fate != "200"],
        "versions": _spells([(at, version) for at, _, _, version in requests if version]),
        "seconds": SUITE,
    }


def _spells(versions: list[tuple[float, str]]) -> list[Told]:
    """Of each version: the requests that it answered, and when the first and the last of them were sent."""
    found: dict[str, Told] = {}
    for at, version in versions:
        spell = found.setdefault(version, {"version": version, "answers": 0, "first": at})
        spell |= {"answers": spell["answers"] + 1, "last": at}
    return list(found.values())


def _client(server: Server, images: list[bytes], began: float) -> list[tuple[float, float, str, str]]:
    """When a request was sent, the seconds it took, what became of it, and which model answered."""
    place, rows = urlsplit(server.url), []
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=PATIENCE)
    while (at := time.perf_counter() - began) < SUITE:
        head, body = posted(server.kind.form, images[len(rows) % len(images)])
        try:
            connection.request("POST", place.path, body, head)
            answer = connection.getresponse()
            text = answer.read()
            fate, version = str(answer.status), _version(text) if answer.status == 200 else ""
        except (OSError, http.client.HTTPException) as error:
            fate, version = type(error).__name__, ""
            connection.close()
        rows.append((at, time.perf_counter() - began - at, fate, version))
        if fate != "200":
            time.sleep(0.05)  # as a client would before it asks again
    connection.close()
    return rows


def _version(text: bytes) -> str:
    """Of the model, where an answer says it."""
    answer = json.loads(text)
    return str(answer.get("model", {}).get("version", "")) if isinstance(answer, dict) else ""
