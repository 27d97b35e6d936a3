"""Load on a server by `wrk`, and what all took of the processor."""

import json
import resource
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks.serving.server_processes import Server

LOAD = Path(__file__).with_name("wrk_requests.lua")
WARM = 2  # seconds of load that do not count
IMAGES = 64  # that are posted in turn

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


def of_one_size(folder: Path) -> list[Path]:
    """The first files of the most frequent size; raises SystemExit where there are none."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg", ".png")]
    sizes = {file: Image.open(file).size for file in files}
    if not sizes:
        raise SystemExit(f"error: {folder} holds no JPEG or PNG files")
    size = Counter(sizes.values()).most_common(1)[0][0]
    return [file for file in files if sizes[file] == size][:IMAGES]
