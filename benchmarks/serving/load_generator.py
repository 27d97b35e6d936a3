"""Put load on a server with `wrk`; measure the processor time of the server, of `wrk` and of other processes.

Tiny runs use a few Python threads in place of `wrk`, so that they run where it is not installed. Their figures are not
comparable with those of `wrk`.
"""

import http.client
import json
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from benchmarks.serving.server_processes import SERVERS, RunningServer, request_of

SCRIPT = Path(__file__).with_name("wrk_requests.lua")
WARM_UP = 2  # seconds of load that are not measured
MAX_IMAGES = 64  # number of different images

Figures = dict[str, Any]
Generate = Callable[[RunningServer, list[Path], int, float], Figures]


@dataclass(frozen=True)
class ServingSizes:
    """Servers, rounds and load."""

    only: list[str] = field(default_factory=lambda: list(SERVERS))
    """Names of the servers."""
    rounds: int = 8
    seconds: float = 4
    """Duration of the load for each number of clients in a round."""
    workers: int = 2
    """Worker processes; concurrent runs of a server that uses only one process."""
    threads: int = 1
    """Threads of a session."""
    warm_up: float = WARM_UP
    python: bool = False
    """Use Python threads in place of `wrk`."""


def put_load(server: RunningServer, images: list[Path], clients: int, seconds: float, python: bool = False) -> Figures:
    """Put load on a server.

    Args:
        server: a server that responds already.
        images: files that are sent in turn.
        clients: number of connections, each of which sends its next request after a response.
        seconds: duration.
        python: use Python threads in place of `wrk`.

    Returns:
        Requests, latencies in microseconds, errors by kind, and processor seconds of the server, of the load generator
        (`wrk`) and of all other processes of the machine (`elsewhere`, which includes the Python threads).
    """
    before = server.cpu_seconds(), _children_seconds(), _busy_seconds()
    figures = (_by_threads if python else _by_wrk)(server, images, clients, seconds)
    after = server.cpu_seconds(), _children_seconds(), _busy_seconds()
    used = [end - start for end, start in zip(after, before, strict=True)]
    return figures | {"server": used[0], "wrk": used[1], "elsewhere": max(0.0, used[2] - used[0] - used[1])}


def _by_wrk(server: RunningServer, images: list[Path], clients: int, seconds: float) -> Figures:
    """Run `wrk` and return its figures; the arguments are those of `put_load`."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(SCRIPT), server.url, "--"]
    done = subprocess.run([*command, server.kind.form, *map(str, images)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _by_threads(server: RunningServer, images: list[Path], clients: int, seconds: float) -> Figures:
    """Send requests from Python threads; the arguments and the figures are those of `_by_wrk`."""
    place, requests = urlsplit(server.url), [request_of(server.kind.form, file.read_bytes()) for file in images]
    began = time.perf_counter()

    def client(number: int) -> list[tuple[float, int]]:
        responses: list[tuple[float, int]] = []
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
        while not responses or time.perf_counter() - began < seconds:
            headers, body = requests[(number + len(responses)) % len(requests)]
            sent = time.perf_counter()
            connection.request("POST", place.path, body, headers)
            response = connection.getresponse()
            response.read()
            responses.append((1e6 * (time.perf_counter() - sent), response.status))
        connection.close()
        return responses

    with ThreadPoolExecutor(clients) as pool:
        responses = [one for each in pool.map(client, range(clients)) for one in each]
    latencies = [latency for latency, _ in responses]
    p50, p90, p99 = (float(value) for value in np.percentile(latencies, (50, 90, 99)))
    refused = sum(status != 200 for _, status in responses)
    return {"requests": len(responses), "seconds": time.perf_counter() - began, "p50": p50, "p90": p90, "p99": p99,
            "max": max(latencies), "refused": refused,
            "connect": 0, "read": 0, "write": 0, "timeout": 0}  # fmt: skip


def _children_seconds() -> float:
    """Return the processor seconds of child processes that have ended, such as wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _busy_seconds() -> float:
    """Return the processor seconds in which the machine was not idle, including those that its host used otherwise."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def files_of_one_size(folder: Path) -> list[Path]:
    """Return the first `MAX_IMAGES` JPEG and PNG files of the most frequent size in a folder and its subfolders.

    Raises:
        SystemExit: there is no JPEG or PNG file.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg", ".png")]
    sizes: dict[Path, tuple[int, int]] = {}
    for file in files:
        with Image.open(file) as image:
            sizes[file] = image.size
    if not sizes:
        raise SystemExit(f"error: {folder} contains no JPEG or PNG files; name a folder of images")
    size = Counter(sizes.values()).most_common(1)[0][0]
    return [file for file in files if sizes[file] == size][:MAX_IMAGES]
