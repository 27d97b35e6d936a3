"""Fuzz the server with thousands of malformed requests: `make fuzz-serving ARGUMENTS="--model FILE"`.

Macula's server is started on the loopback interface with a limit of `SECONDS` per request. After a warm-up, which ends
with images of the maximum size, several clients send requests that are drawn from a seed
(`benchmarks.serving.fuzz_requests`). Between the two halves of the requests, schemathesis tests the server's OpenAPI
description. No response may be a 500, no request may hang or be dropped, and the log may contain no traceback. Memory,
open files and threads must not grow beyond a tolerance, and the response to a plain image must stay the same. The
outcome is written to `docs/results/fuzz.md`; the exit status is 1 if one of these conditions fails.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.result_pages import add_run_arguments, installed, output_folder
from benchmarks.serving.fuzz_images import encode_image, png_of
from benchmarks.serving.fuzz_requests import CLOSED, HANGS, LEFT, TIMEOUT, draw_request, send_request
from benchmarks.serving.server_processes import OWN_PYTHON
from stages.core.plurals import quantity
from stages.core.provenance import environment
from tests.shipped import colour_model

SCHEMATHESIS = Path(".venv-serving-clients/bin/schemathesis").absolute()
HOST, PORT = "127.0.0.1", 8790
CLIENTS = 6
SECONDS = 4  # limit of the server per request
WARM_UP = 0.15  # share of the requests after which memory must not grow
GROWTH = 0.2  # tolerated growth from the first to the last three tenths, because large images come at random
PLAIN = encode_image(Image.fromarray(np.full((40, 30, 3), (200, 30, 90), np.uint8)), "PNG")
LARGEST = png_of(7_000, 7_000, zlib.compress(bytes(7_001 * 7_000)))

Outcomes = Counter[tuple[str, str]]
"""Number of requests by kind and outcome."""


@dataclass(frozen=True)
class FuzzSizes:
    """Numbers of requests and durations."""

    requests: int = 10_000
    examples: int = 300
    """Examples of schemathesis per route; 0 leaves schemathesis out."""
    seed: int = 1
    bombs: int = 12
    """Images of the maximum size in the warm-up."""
    rest: float = 14.0
    """Seconds to wait until connections that were left open have ended."""
    interval: int = 100
    """Requests between two samples of the memory."""


class ProcessMonitor:
    """Process of a server, and samples of its memory."""

    def __init__(self, number: int, interval: int) -> None:
        self.process, self.interval = psutil.Process(number), interval
        self.megabytes: list[float] = []

    def sample(self) -> None:
        """Record the resident memory."""
        self.megabytes.append(self.process.memory_info().rss / 2**20)

    def resources(self) -> dict[str, int]:
        """Return the numbers of open files and of threads."""
        return {"open files": self.process.num_fds(), "threads": self.process.num_threads()}

    def tenths(self) -> list[float]:
        """Return the median MiB of ten successive parts of the run, or every sample if there are fewer than ten."""
        return [float(np.median(part)) for part in np.array_split(self.megabytes, 10) if len(part)]


def fuzz(
    seed: int, numbers: range, model: str, port: int, monitor: ProcessMonitor | None = None
) -> tuple[Outcomes, list[str]]:
    """Send requests from several clients.

    Args:
        seed: seed of all requests.
        numbers: numbers of the requests; each number and seed give the same request.
        model: name of the served model.
        port: port of the server.
        monitor: monitor that samples the memory at intervals; None: no samples.

    Returns:
        The outcomes, and descriptions of the requests whose outcome is not allowed.
    """
    outcomes, failures = Outcomes(), []

    def send(number: int) -> tuple[str, str, str]:
        if monitor and number % monitor.interval == 0:
            monitor.sample()
        request = draw_request(np.random.default_rng((seed, number)), model)
        outcome = send_request(request, HOST, port)
        sent = f"{request.head[:200]!r} {request.body[:99]!r}"
        return request.kind, outcome, f"request {number} of seed {seed}: {outcome}: {sent}"

    with ThreadPoolExecutor(CLIENTS) as pool:
        for kind, outcome, description in pool.map(send, numbers):
            outcomes[kind, outcome] += 1
            dropped = outcome == CLOSED and kind not in ("wire", "slow")  # closing is right for an incomplete head
            if dropped or outcome in ("500", HANGS):
                failures.append(description)
    return outcomes, failures


def run_schemathesis(seed: int, examples: int, folder: Path) -> tuple[int, list[str]]:
    """Run schemathesis on the server's OpenAPI description.

    Args:
        seed: seed of schemathesis.
        examples: examples per route.
        folder: working folder.

    Returns:
        The number of requests, and a list that contains the output if schemathesis found a failure or did not run.
    """
    command = [
        SCHEMATHESIS, "run", f"http://{HOST}:{PORT}/openapi.json", "--seed", str(seed), "--max-examples", str(examples),
        "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--request-timeout", str(TIMEOUT),
        "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    sent = re.search(r"(\d+) generated", done.stdout)
    failed = done.returncode != 0 or sent is None
    return int(sent[1]) if sent else 0, [f"schemathesis:\n{done.stdout[-6000:]}{done.stderr[-2000:]}"] * failed


def run_all(sizes: FuzzSizes, monitor: ProcessMonitor, folder: Path) -> tuple[list[str], list[str]]:
    """Send all requests, and check the responses and the memory, open files and threads of the server.

    Args:
        sizes: numbers and durations.
        monitor: monitor of the server's process.
        folder: working folder of schemathesis.

    Returns:
        Lines of the page, and the failures.
    """
    model, count, warm_up = _model_name(), sizes.requests, int(WARM_UP * sizes.requests)
    before, started = respond(PLAIN), time.perf_counter()
    outcomes, failures = fuzz(sizes.seed, range(warm_up), model, PORT)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(respond, [LARGEST] * sizes.bombs))
    time.sleep(sizes.rest)
    first, cases = monitor.resources(), 0
    for part in (range(warm_up, count // 2), range(count // 2, count)):
        if part.start == count // 2 and sizes.examples:
            cases, found = run_schemathesis(sizes.seed, sizes.examples, folder)
            failures += found
        more, found = fuzz(sizes.seed, part, model, PORT, monitor)
        outcomes, failures = outcomes + more, failures + found
    seconds = time.perf_counter() - started
    time.sleep(sizes.rest)
    last, parts = monitor.resources(), monitor.tenths()
    memory = ", ".join(f"{part:.0f}" for part in parts)
    grew = min(parts[-3:]) > (1 + GROWTH) * max(parts[:3])
    failures += [f"memory grew over ten parts of the run: {memory} MB"] * grew
    allowed = {"open files": 0, "threads": CLIENTS}  # a pool starts threads as long as none is idle
    failures += [f"{what} grew from {n} to {last[what]}" for what, n in first.items() if last[what] > n + allowed[what]]
    failures += ["the response to a plain image has changed"] * (respond(PLAIN) != before)
    resources = ", ".join(f"{what} {first[what]}, then {last[what]}" for what in first).capitalize()
    lines = [
        f"Macula {str(environment()['commit'])[:12]}, {os.cpu_count()} cores, {model}: {count} requests of "
        f"`benchmarks/serving/fuzz_requests.py` (seed {sizes.seed}) by {CLIENTS} concurrent clients, and {cases} of "
        "schemathesis on the server's OpenAPI description with all its checks except that arbitrary bytes are accepted "
        f"as an image; {seconds:.0f} s.",
        "",
        f"Resident memory in MB, in ten successive parts: {memory}; {max(monitor.megabytes):.0f} at most, after a "
        f"warm-up with {WARM_UP:.0%} of the requests and {sizes.bombs} images of 49 megapixels. {resources}.",
        "",
        *table(outcomes),
    ]
    return lines, failures


def table(outcomes: Outcomes) -> list[str]:
    """Return the lines of a Markdown table: outcomes by kind of request, and their explanation."""
    columns = sorted({outcome for _, outcome in outcomes})
    rows = [
        f"| {kind} | " + " | ".join(str(outcomes[kind, outcome] or "") for outcome in columns) + " |"
        for kind in sorted({kind for kind, _ in outcomes})
    ]
    total = [str(sum(n for (_, outcome), n in outcomes.items() if outcome == column)) for column in columns]
    return [
        "| requests | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *rows,
        "| **all** | " + " | ".join(total) + " |",
        "",
        f"`{LEFT}`: the client closed the connection. `{CLOSED}`: the server closed the connection without a response, "
        f"as for an incomplete head. 503: no response within the limit of {SECONDS} s, mostly because the body did not "
        "arrive.",
    ]


def respond(data: bytes) -> bytes:
    """Send an image and return the body of the response, also if it is an error."""
    try:
        request = urllib.request.Request(f"http://{HOST}:{PORT}/v1/predict", data)
        with urllib.request.urlopen(request, timeout=10 * TIMEOUT) as response:  # noqa: S310 - the loopback interface
            return response.read()
    except urllib.error.HTTPError as error:
        return error.read()


def _model_name() -> str:
    """Wait until the server responds and return the model's name."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{PORT}/v1/model", timeout=5) as found:
            return str(json.load(found)["name"])
        time.sleep(0.1)
    raise SystemExit("error: the server does not respond; its log explains why")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Fuzz the server, write fuzz.md and return it.

    Raises:
        SystemExit: a condition failed, or the server does not respond; the status is 1.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.fuzz_server", description=__doc__)
    parser.add_argument("--model", type=Path, help="ONNX file that `export` wrote; default: a small hand-made one")
    parser.add_argument(
        "--requests", type=int, default=FuzzSizes.requests, help="number of malformed requests; default: %(default)s"
    )
    parser.add_argument(
        "--examples", type=int, default=FuzzSizes.examples, help="schemathesis examples per route; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=FuzzSizes.seed, help="seed of the requests; default: %(default)s")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    sizes = FuzzSizes(asked.requests, asked.examples, asked.seed)
    if asked.tiny:
        examples = 1 if installed(SCHEMATHESIS, "schemathesis") else 0
        sizes = FuzzSizes(requests=60, examples=examples, bombs=1, rest=0.5, interval=1)
    file = output_folder(asked.output, asked.tiny) / "fuzz.md"
    lines, failures = _fuzz_new_server(asked.model, sizes, (file.parent if asked.tiny else Path("work")) / "fuzz.log")
    success = "No 500, no request without a response within 15 s, none dropped, no traceback; responses unchanged."
    text = "\n".join(
        [
            "# The server under malformed requests",
            "",
            "Made by `make fuzz-serving`; `benchmarks/serving/fuzz_server.py` describes the method.",
            "",
            *([f"- {failure}" for failure in failures] or [f"**{success}**"]),
            "",
            *lines,
            "",
        ]
    )
    file.write_text(text)
    print(text)
    if failures:
        raise SystemExit(1)
    return file


def _fuzz_new_server(model: Path | None, sizes: FuzzSizes, log: Path) -> tuple[list[str], list[str]]:
    """Start a server, send all requests and stop it; return the lines of the page and the failures."""
    log.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, log.open("wb") as stream:
        served = model or colour_model(Path(temporary) / "colours.onnx")
        command = [OWN_PYTHON, "-m", "stages.serve", str(served), "--port", str(PORT), "--seconds", str(SECONDS)]
        server = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            lines, failures = run_all(sizes, ProcessMonitor(server.pid, sizes.interval), Path(temporary))
        finally:
            server.terminate()
            server.wait(60)
    tracebacks = log.read_bytes().count(b"Traceback")
    return lines, failures + [f"{log} contains {quantity(tracebacks, 'traceback')}"] * bool(tracebacks)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops the server, as Ctrl-C does
    main()
