"""Start, watch and stop the servers that `compare_serving` compares, each in a session of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

LIBRARIES = Path(".venv-serving-peers/bin")
SERVING = Path(".venv-serving/bin/python")
PORT = 8700  # the other servers use the ports above
TIMEOUT = 60.0  # seconds until the first response; a quarter of it is the time to end after SIGTERM
MEBI = 2**20


@dataclass(frozen=True)
class ServerKind:
    """Command that starts a server, and the form of its requests."""

    command: tuple[str, ...]
    """Words with the fields {port}, {model}, {workers} and {threads}."""
    path: str
    """Path of the request."""
    form: str = "-"
    """Name of the form field of the image; `-` sends the bytes without a form."""
    batch: int = 1
    """Maximum number of images that LitServe or BentoML collect for a call."""
    busy_when_idle: bool = False
    """Whether it uses the processor without requests and must be stopped (SIGSTOP) while others are measured."""


OWN_PYTHON = str(SERVING if SERVING.exists() else sys.executable)
MACULA = (OWN_PYTHON, "-m", "stages.serve", "{model}", "--port", "{port}", "--threads", "{threads}")
LITSERVE = (str(LIBRARIES / "python"), "-m", "benchmarks.serving.litserve_service", "{port}")
BENTOML = (
    str(LIBRARIES / "bentoml"), "serve", "benchmarks.serving.bentoml_service:Classifier",
    "--host", "127.0.0.1", "--port", "{port}",
)  # fmt: skip
MAX_BATCH = 8
SERVERS = {
    "macula": ServerKind((*MACULA, "--parallel", "{workers}"), "/v1/predict"),
    "macula, form": ServerKind((*MACULA, "--parallel", "{workers}"), "/v1/predict", "image"),
    "macula, processes": ServerKind((*MACULA, "--workers", "{workers}", "--parallel", "1"), "/v1/predict"),
    "litserve": ServerKind(LITSERVE, "/predict", "image"),
    "litserve, batching": ServerKind(LITSERVE, "/predict", "image", MAX_BATCH, busy_when_idle=True),
    "bentoml": ServerKind(BENTOML, "/predict", "image"),
    "bentoml, batching": ServerKind(BENTOML, "/predict", "image", MAX_BATCH),
}


class RunningServer:
    """A running server and its processes."""

    def __init__(self, kind: ServerKind, model: Path, port: int, workers: int, threads: int, log: Path) -> None:
        """Start the server; `wait_until_ready` waits for its first response.

        Args:
            kind: command and requests.
            model: ONNX file.
            port: port on the loopback interface.
            workers: processes, or concurrent runs in one process.
            threads: threads of a session.
            log: file for the server's output.
        """
        fields = {"port": port, "model": model.absolute(), "workers": workers, "threads": threads}
        self.command = [word.format(**fields) for word in kind.command]
        env = os.environ | {"MODEL": str(model.absolute()), "THREADS": str(threads), "WORKERS": str(workers)}
        env |= {"BATCH": str(kind.batch), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path.cwd())}
        env |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(log.parent / "bentoml")}
        self.kind, self.url, self.log = kind, f"http://127.0.0.1:{port}{kind.path}", log
        self.began = time.perf_counter()
        with log.open("ab") as stream:
            self.process = subprocess.Popen(self.command, env=env, stdout=stream, stderr=stream, start_new_session=True)

    def wait_until_ready(self, image: bytes) -> float:
        """Wait for the first response that is not an error, and return the seconds since the start.

        Args:
            image: bytes of an image file.

        Raises:
            RuntimeError: the server has ended, or has not responded within `TIMEOUT`.
        """
        while time.perf_counter() - self.began < TIMEOUT and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                post(self.url, self.kind.form, image)
                return time.perf_counter() - self.began
            time.sleep(0.02)
        raise RuntimeError(
            f"the server ended or did not respond within {TIMEOUT:.0f} s: {' '.join(self.command)}\n"
            f"{self.log.read_text(errors='replace')[-3000:]}"
        )

    def processes(self) -> list[psutil.Process]:
        """Return the server's process and its descendants, including those of its session whose parent has ended."""
        found = {self.process.pid: psutil.Process(self.process.pid)} if psutil.pid_exists(self.process.pid) else {}
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                family = {parent.pid for parent in process.parents()} | {os.getsid(process.pid)}
                if self.process.pid in family:
                    found[process.pid] = process
        return [process for process in found.values() if process.is_running()]

    def cpu_seconds(self) -> float:
        """Return the processor seconds of living processes and of their children that have ended."""
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def memory(self) -> dict[str, float]:
        """Return the MiB of all processes: `resident` counts shared pages once per process, `proportional` once."""
        return {
            "resident": self._sum(lambda process: process.memory_info().rss / MEBI),
            "proportional": self._sum(lambda process: process.memory_full_info().pss / MEBI),
        }

    def _sum(self, of: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # the process has ended meanwhile
                total += of(process)
        return total

    def pause(self) -> None:
        """Stop a server that is busy when idle; others keep running, because BentoML counts a pause as a slow model."""
        if self.kind.busy_when_idle:
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the server continue after a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(which)

    def end(self) -> None:
        """Send SIGTERM, as an operator would, and then kill the remaining processes."""
        before = self.processes()
        self.resume()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TIMEOUT / 4)
        for process in {*before, *self.processes()}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


def request_of(form: str, image: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a request.

    Args:
        form: name of the form field; `-` sends the bytes without a form.
        image: bytes of an image file.
    """
    kind = "image/png" if image[1:4] == b"PNG" else "image/jpeg"
    if form == "-":
        return {"Content-Type": kind}, image
    head = f'------serving\r\nContent-Disposition: form-data; name="{form}"; filename="image"\r\n'
    body = f"{head}Content-Type: {kind}\r\n\r\n".encode() + image + b"\r\n------serving--\r\n"
    return {"Content-Type": "multipart/form-data; boundary=----serving"}, body


def post(url: str, form: str, image: bytes, timeout: float = 10.0) -> bytes:
    """Send an image and return the body of the response.

    Args:
        url: address of the server.
        form: name of the form field; `-` sends the bytes without a form.
        image: bytes of an image file.
        timeout: seconds.

    Raises:
        urllib.error.URLError: the server cannot be reached, or (its subclass HTTPError) the response is an error.
        ConnectionError, TimeoutError: the response is not received.
    """
    headers, body = request_of(form, image)
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - the loopback interface
    with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
        return response.read()
