"""The servers that `benchmarks.serving.compare_serving` compares: started, watched and ended, each in a session of its own."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

PEERS = Path(".venv-serving-peers/bin")
PORT = 8700  # and those above it
PATIENCE = 60.0  # seconds until the first answer, and until all processes have ended
MEBI = 2**20


@dataclass(frozen=True)
class Kind:
    """How a server is started and asked."""

    command: tuple[str, ...]
    """With {port}, {model}, {workers} and {threads}."""
    path: str
    """Of the request."""
    form: str = "-"
    """The field of the form in which the image is sent; `-` sends the bare bytes."""
    batch: int = 1
    """The most images that a peer gathers for a call."""
    restless: bool = False
    """It keeps the processor busy while nobody asks, and has to be stopped (SIGSTOP) while others have their turn."""


MACULA = (".venv-serving/bin/python", "-m", "stages.serve", "{model}", "--port", "{port}", "--threads", "{threads}")
LITSERVE = (str(PEERS / "python"), "-m", "benchmarks.serving.litserve_service", "{port}")
BENTOML = (
    str(PEERS / "bentoml"), "serve", "benchmarks.serving.bentoml_service:Classifier", "--host", "127.0.0.1", "--port", "{port}"
)  # fmt: skip
GATHERED = 8
KINDS = {
    "macula": Kind((*MACULA, "--parallel", "{workers}"), "/v1/answer"),
    "macula, form": Kind((*MACULA, "--parallel", "{workers}"), "/v1/answer", "image"),
    "macula, processes": Kind((*MACULA, "--workers", "{workers}", "--parallel", "1"), "/v1/answer"),
    "litserve": Kind(LITSERVE, "/predict", "image"),
    "litserve, batching": Kind(LITSERVE, "/predict", "image", GATHERED, restless=True),
    "bentoml": Kind(BENTOML, "/predict", "image"),
    "bentoml, batching": Kind(BENTOML, "/predict", "image", GATHERED),
}


class Server:
    """A server that runs, and its processes."""

    def __init__(self, kind: Kind, model: Path, port: int, workers: int, threads: int, log: Path) -> None:
        """Start it; `answered` waits until it answers."""
        told = {"port": port, "model": model.absolute(), "workers": workers, "threads": threads}
        command = [part.format(**told) for part in kind.command]
        env = os.environ | {"MODEL": str(model.absolute()), "THREADS": str(threads), "WORKERS": str(workers)}
        env |= {"BATCH": str(kind.batch), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path.cwd())}
        env |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(log.parent / "bentoml")}
        self.kind, self.url, self.log = kind, f"http://127.0.0.1:{port}{kind.path}", log
        self.began = time.perf_counter()
        with log.open("ab") as stream:
            self.process = subprocess.Popen(command, env=env, stdout=stream, stderr=stream, start_new_session=True)

    def answered(self, image: bytes) -> float:
        """Seconds from its start to its first answer."""
        while time.perf_counter() - self.began < PATIENCE and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                ask(self.url, self.kind.form, image)
                return time.perf_counter() - self.began
            time.sleep(0.02)
        raise RuntimeError(f"{self.process.args} gave no answer:\n{self.log.read_text(errors='replace')[-3000:]}")

    def processes(self) -> list[psutil.Process]:
        """It, its children and theirs; also those whose parent has ended, as long as they are of its session."""
        found = {self.process.pid: psutil.Process(self.process.pid)} if psutil.pid_exists(self.process.pid) else {}
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                family = {parent.pid for parent in process.parents()} | {os.getsid(process.pid)}
                if self.process.pid in family:
                    found[process.pid] = process
        return [process for process in found.values() if process.is_running()]

    def processor(self) -> float:
        """Seconds of all cores, of processes that live and of children that have ended."""
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def memory(self) -> dict[str, float]:
        """MB of all processes: `resident` counts what they share once for each, `proportional` once."""
        return {
            "resident": self._sum(lambda process: process.memory_info().rss / MEBI),
            "proportional": self._sum(lambda process: process.memory_full_info().pss / MEBI),
        }

    def _sum(self, of: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                total += of(process)
        return total

    def rest(self) -> None:
        """While others have their turn. Who idles by itself is not stopped: BentoML takes a pause for a slow model."""
        if self.kind.restless:
            self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a rest."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(which)

    def end(self) -> None:
        """SIGTERM, as an operator would; what is left after that is killed."""
        all_ = self.processes()
        self.go_on()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE / 4)
        for process in {*all_, *self.processes()}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


def posted(form: str, image: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request: in a form under this name, or the bare bytes where it is `-`."""
    kind = "image/png" if image[1:4] == b"PNG" else "image/jpeg"
    if form == "-":
        return {"Content-Type": kind}, image
    head = f'------serving\r\nContent-Disposition: form-data; name="{form}"; filename="image"\r\n'
    body = f"{head}Content-Type: {kind}\r\n\r\n".encode() + image + b"\r\n------serving--\r\n"
    return {"Content-Type": "multipart/form-data; boundary=----serving"}, body


def ask(url: str, form: str, image: bytes, patience: float = 10.0) -> bytes:
    """The body of one answer; raises `urllib.error.HTTPError` where it is an error."""
    head, body = posted(form, image)
    request = urllib.request.Request(url, body, head)  # noqa: S310 - our own loopback
    with urllib.request.urlopen(request, timeout=patience) as answer:  # noqa: S310
        return answer.read()
