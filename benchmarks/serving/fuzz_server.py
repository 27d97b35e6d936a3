"""The server under thousands of requests that are broken on purpose: `make fuzz-serving ARGUMENTS="--model FILE"`.

Macula's server is started on the loopback, and granted `SECONDS` for a request. After a warm-up, which ends with the
largest images that are allowed, come requests from a seed (`benchmarks.serving.fuzz_requests`), by clients at once; between their
halves schemathesis asks what it makes of the server's own OpenAPI. No answer may be a 500, no request may hang or be
dropped, the log may hold no traceback, memory, open files and threads must stay where they were, and a plain image must
be answered as before. Writes `docs/results/fuzz.md`, and ends with an error where one of that is not so.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.serving.fuzz_images import png_of, saved
from benchmarks.serving.fuzz_requests import CLOSED, HANGS, LEFT, WAIT, drawn, fate
from stages.core.provenance import environment
from tests.shipped import colour_model

RESULT, LOG = Path("docs/results/fuzz.md"), Path("work/fuzz.log")
SCHEMATHESIS = Path(".venv-serving-clients/bin/schemathesis").absolute()
HOST, PORT = "127.0.0.1", 8790
CLIENTS = 6
BOMBS = 12  # of the warm-up
SECONDS = 4  # that the server grants a request
WARM = 0.15  # share of the requests behind which memory has to be flat
EVERY = 100  # requests between two looks at memory
REST = 14.0  # seconds, in which connections that were left open end
GROWTH = 0.2  # share by which the last three tenths may all be larger than the first three: large images come by lot
PLAIN = saved(Image.fromarray(np.full((40, 30, 3), (200, 30, 90), np.uint8)), "PNG")
LARGEST = png_of(7_000, 7_000, zlib.compress(bytes(7_001 * 7_000)))

Fates = Counter[tuple[str, str]]
"""By kind of request and what became of it."""


class Watched:
    """The process of a server, and what was seen of it."""

    def __init__(self, number: int) -> None:
        """Its process."""
        self.process = psutil.Process(number)
        self.megabytes: list[float] = []

    def look(self) -> None:
        """At its memory."""
        self.megabytes.append(self.process.memory_info().rss / 2**20)

    def held(self) -> dict[str, int]:
        """What must not become more and more."""
        return {"open files": self.process.num_fds(), "threads": self.process.num_threads()}

    def tenths(self) -> list[float]:
        """Median MB of ten parts, one after the other."""
        return [float(np.median(part)) for part in np.array_split(self.megabytes, 10) if len(part)]


def fuzz(seed: int, numbers: range, model: str, port: int, watched: Watched | None = None) -> tuple[Fates, list[str]]:
    """Send these requests of a seed, by clients at once: what became of them, and which must not have come to that."""
    fates, wrong = Fates(), []

    def send(number: int) -> tuple[str, str, str]:
        if watched and number % EVERY == 0:
            watched.look()
        asked = drawn(np.random.default_rng((seed, number)), model)
        became = fate(asked, HOST, port)
        return (
            asked.kind,
            became,
            f"request {number} of seed {seed}: {became}: {asked.head[:200]!r} {asked.body[:99]!r}",
        )

    with ThreadPoolExecutor(CLIENTS) as pool:
        for kind, became, words in pool.map(send, numbers):
            fates[kind, became] += 1
            dropped = became == CLOSED and kind not in ("wire", "slow")  # a head without an end has no better answer
            if dropped or became in ("500", HANGS):
                wrong.append(words)
    return fates, wrong


def schemathesis(seed: int, examples: int, folder: Path) -> tuple[int, list[str]]:
    """How many requests it made, and what it found wrong."""
    command = [
        SCHEMATHESIS, "run", f"http://{HOST}:{PORT}/openapi.json", "--seed", str(seed), "--max-examples", str(examples),
        "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--request-timeout", str(WAIT),
        "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    sent = re.search(r"(\d+) generated", ended.stdout)
    failed = ended.returncode != 0 or sent is None
    return int(sent[1]) if sent else 0, [f"schemathesis:\n{ended.stdout[-6000:]}{ended.stderr[-2000:]}"] * failed


def tried(arguments: argparse.Namespace, watched: Watched, folder: Path) -> tuple[list[str], list[str]]:
    """Lines of the page, and what is wrong."""
    model, count = _name(), arguments.requests
    before, started = answer(PLAIN), time.perf_counter()
    fates, wrong = fuzz(arguments.seed, range(int(WARM * count)), model, PORT)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(answer, [LARGEST] * BOMBS))
    time.sleep(REST)
    held = watched.held()
    for part in (range(int(WARM * count), count // 2), range(count // 2, count)):
        if part.start == count // 2:
            cases, failures = schemathesis(arguments.seed, arguments.examples, folder)
        more, worse = fuzz(arguments.seed, part, model, PORT, watched)
        fates, wrong = fates + more, wrong + worse
    seconds = time.perf_counter() - started
    time.sleep(REST)
    after, parts = watched.held(), watched.tenths()
    told = ", ".join(f"{part:.0f}" for part in parts)
    wrong += failures
    wrong += [f"memory grew: {told} MB"] * (min(parts[-3:]) > (1 + GROWTH) * max(parts[:3]))
    allowed = {"open files": 0, "threads": CLIENTS}  # pools make threads as long as they have none that is idle
    wrong += [f"{what}: {n} became {after[what]}" for what, n in held.items() if after[what] > n + allowed[what]]
    wrong += ["a plain image is answered otherwise than before"] * (answer(PLAIN) != before)
    lines = [
        f"Macula {str(environment()['commit'])[:12]}, {os.cpu_count()} cores, {model}: {count} requests of "
        f"`benchmarks/serving/fuzz_requests.py` (seed {arguments.seed}) by {CLIENTS} clients at once, and {cases} of schemathesis on "
        f"the server's OpenAPI with all its checks, but that any bytes be an image; {seconds:.0f} s.",
        "",
        f"Resident memory, MB, in ten parts one after the other: {told}; {max(watched.megabytes):.0f} at "
        f"most, behind a warm-up of {WARM:.0%} of the requests and {BOMBS} images of 49 megapixels. "
        f"{', '.join(f'{what} {held[what]}, then {after[what]}' for what in held).capitalize()}.",
        "",
        *table(fates),
    ]
    return lines, wrong


def table(fates: Fates) -> list[str]:
    """Of what became of each kind."""
    columns = sorted({became for _, became in fates})
    rows = [
        f"| {kind} | " + " | ".join(str(fates[kind, became] or "") for became in columns) + " |"
        for kind in sorted({kind for kind, _ in fates})
    ]
    total = [str(sum(n for (_, became), n in fates.items() if became == column)) for column in columns]
    return [
        "| requests | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *rows,
        "| **all** | " + " | ".join(total) + " |",
        "",
        f"`{LEFT}`: the client went away. `{CLOSED}`: the connection ended without an answer, as for a head that does "
        f"not end. 503: no answer within the {SECONDS} s that were granted, mostly because the body did not come.",
    ]


def answer(data: bytes) -> bytes:
    """The answer to an image, or the error."""
    try:
        asked = urllib.request.Request(f"http://{HOST}:{PORT}/v1/answer", data)
        with urllib.request.urlopen(asked, timeout=10 * WAIT) as told:  # noqa: S310 - our own loopback
            return told.read()
    except urllib.error.HTTPError as error:
        return error.read()


def _name() -> str:
    """The name of the model, once the server answers."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{PORT}/v1/model", timeout=5) as told:
            return str(json.load(told)["name"])
        time.sleep(0.1)
    raise SystemExit(f"the server does not answer; {LOG} says why")


def main() -> None:
    """Fuzz, and write down what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.fuzz_server", description=__doc__)
    parser.add_argument("--model", type=Path, help="ONNX file that `export` wrote; default: one made by hand")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=300, help="of schemathesis, for each route")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    LOG.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, LOG.open("wb") as log:
        model = arguments.model or colour_model(Path(temporary) / "colours.onnx")
        command = [
            ".venv-serving/bin/python",
            "-m",
            "stages.serve",
            model,
            "--port",
            str(PORT),
            "--seconds",
            str(SECONDS),
        ]
        server = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            lines, wrong = tried(arguments, Watched(server.pid), Path(temporary))
        finally:
            server.terminate()
            server.wait(60)
    tracebacks = LOG.read_bytes().count(b"Traceback")
    wrong += [f"{LOG} holds {tracebacks} tracebacks"] * bool(tracebacks)
    sound = "No 500, none without an answer within 15 s, none dropped, no traceback in the log; answers as before."
    head = [
        "# The server under broken requests",
        "",
        "Made by `make fuzz-serving`; the head of `benchmarks/serving/fuzz_server.py` says how.",
        "",
    ]
    text = "\n".join([*head, *([f"- {one}" for one in wrong] or [f"**{sound}**"]), "", *lines, ""])
    RESULT.write_text(text)
    print(text)
    sys.exit(len(wrong) > 0)


if __name__ == "__main__":
    main()
