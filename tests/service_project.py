"""Toy project with two stages and two flows, its services on free ports, and requests to them."""

import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil

from infra.retrain_demo.demo_services import free_ports
from infra.services import process_records
from tests.conftest import ROOT

STAGE = """
import pathlib, sys, time
name, out = sys.argv[1:]
print(name, "speaks", flush=True)
pathlib.Path("work").mkdir(exist_ok=True)
pathlib.Path("work", name).write_text("started")
while name == "two" and pathlib.Path("work/hold").exists():
    time.sleep(0.1)
pathlib.Path(out).write_text(name)
"""
DVC_YAML = """
stages:
  one:
    cmd: python stage.py one data/one
    deps: [version.txt]
    outs: [data/one]
  two:
    cmd: python stage.py two data/two
    deps: [data/one, version.txt]
    outs: [data/two]
"""
RETRAIN = '''
"""Flow that records where it ran: `python -m flows.retrain`."""
import os
from pathlib import Path
from prefect import flow

@flow(name="retrain")
def retrain(fail: bool = False) -> None:
    folder = Path(os.environ["MACULA_STATE"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "retrained").write_text(str(Path.cwd()))
    if fail:
        raise ValueError("seven pictures are black")
'''
IGNORED = "work/\nnode_modules\n__pycache__/\n/data/one\n/data/two\n"


def eventually(function: Callable[[], Any], seconds: float = 60) -> Any:
    """Call a function until its result is true, or until the time is over; return the last result."""
    deadline = time.monotonic() + seconds
    while not (result := function()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return result


def create_project(root: Path) -> Path:
    """Create a git and DVC repository with the flows of Macula, toy stages and a toy `retrain`; return its folder."""
    skipped = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("flows", "stages", "infra"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=skipped)
    (root / "infra/s3/node_modules").symlink_to(ROOT / "infra/s3/node_modules")
    for file in root.glob("flows/*.py"):
        if file.stem in ("retrain", "score", "release", "deploy"):
            file.unlink()
    texts = {"stage.py": STAGE, "dvc.yaml": DVC_YAML, "flows/retrain.py": RETRAIN, ".gitignore": IGNORED}
    for name, text in {
        **texts,
        "params.yaml": (ROOT / "params.yaml").read_text(),
        "version.txt": "0",
        "data/.gitkeep": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "work").mkdir()
    author = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "-A"],
        ["git", *author, "commit", "-q", "-m", "Toy"],
    ):
        subprocess.run(command, cwd=root, env=environment(), check=True)
    return root


def record(fault: str, outcome: str, seconds: float) -> None:
    """Append a measured time to the file that `MACULA_FAULTS` names, if it is set.

    Args:
        fault: what was done.
        outcome: what happened after the measured time.
        seconds: time from the fault to the outcome.
    """
    _append({"fault": fault, "outcome": outcome, "seconds": round(seconds, 1)})


def record_words(fault: str, outcome: str) -> None:
    """Append an outcome without a time to the file that `MACULA_FAULTS` names, if it is set."""
    _append({"fault": fault, "outcome": outcome})


def _append(row: dict[str, Any]) -> None:
    if file := os.environ.get("MACULA_FAULTS"):
        with Path(file).open("a") as stream:
            stream.write(json.dumps(row) + "\n")


@contextmanager
def open_folder() -> Iterator[Path]:
    """Create a temporary folder that the user of PostgreSQL can enter; pytest closes its own ones to other users."""
    with tempfile.TemporaryDirectory(prefix="macula-services-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def environment() -> dict[str, str]:
    """Return the environment of this process without settings of other services."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "AWS_", "MACULA_", "PYTEST"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


@dataclass
class Services:
    """Services of a toy project."""

    root: Path
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    workers: int = 1
    variables: dict[str, str] = field(default_factory=dict)
    """Further environment variables of the services."""
    supervisor: subprocess.Popen[str] | None = None

    @property
    def folder(self) -> Path:
        """Folder of the services."""
        return self.root / "work/services"

    @property
    def secrets(self) -> dict[str, str]:
        """Generated secrets by the name of their variable."""
        lines = (self.folder / "secrets.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def command(self, *words: str) -> list[str]:
        """Return a command of `python -m infra.services`."""
        return [sys.executable, "-m", "infra.services", *words]

    def start(self) -> str:
        """Start the services and return what they printed until they were ready."""
        names = ("--prefect-port", "--postgres-port", "--s3-port")
        options = [word for name, port in zip(names, self.ports, strict=True) for word in (name, str(port))]
        output = self.root / "work/output.txt"
        with output.open("w") as stream:
            self.supervisor = subprocess.Popen(
                self.command("start", *options, "--workers", str(self.workers)),
                cwd=self.root,
                env=environment() | self.variables,
                stdout=stream,
                stderr=stream,
                text=True,
            )
        supervisor = self.supervisor
        eventually(lambda: "Ctrl-C stops" in output.read_text() or supervisor.poll() is not None, 300)
        assert "Ctrl-C stops" in output.read_text(), output.read_text()
        return output.read_text()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `python -m infra.services` to its end."""
        return subprocess.run(self.command(*words), cwd=self.root, env=environment(), capture_output=True, text=True)

    def stop(self) -> int:
        """Interrupt the supervisor, as Ctrl-C does, and return its exit code."""
        assert self.supervisor
        self.supervisor.send_signal(signal.SIGINT)
        return self.supervisor.wait(120)

    def process(self, name: str) -> psutil.Process:
        """Return the running process of a service."""
        found = process_records.read(self.folder)[name].process()
        assert found, f"{name} is not running"
        return found

    def kill(self, name: str, number: int = signal.SIGKILL) -> float:
        """End a service, and return the seconds until it runs again with another process id and is healthy."""
        old = self.process(name)
        began = time.monotonic()
        old.send_signal(number)

        def restarted() -> bool:
            record = process_records.read(self.folder).get(name)
            process = record.process() if record else None
            return bool(process and process.pid != old.pid and self.healthy(name))

        assert eventually(restarted, 120), f"{name} did not start again"
        return time.monotonic() - began

    def healthy(self, name: str) -> bool:
        """Return whether a service responds."""
        from infra.services import postgres
        from infra.services.service_list import responds

        if name == "postgres":
            return postgres.accepts(self.ports[1])
        if name == "s3":
            return responds(f"http://127.0.0.1:{self.ports[2]}/-/health")
        return name == "worker" or responds(f"http://127.0.0.1:{self.ports[0]}/api/ready")

    def deployment(self, name: str) -> str:
        """Return the id of the deployment of a flow of the same name."""
        return str(self.api(f"deployments/name/{name}/{name}")["id"])

    def submit(self, name: str, **parameters: Any) -> str:
        """Create a run of a deployment and return its id."""
        path = f"deployments/{self.deployment(name)}/create_flow_run"
        return str(self.api(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"])

    def state(self, run: str) -> str:
        """Return the name of the state of a run."""
        return str(self.api(f"flow_runs/{run}")["state"]["name"])

    def ended(self, run: str, seconds: float = 180) -> str:
        """Wait until a run has ended and return the name of its state."""
        final = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")
        eventually(lambda: self.state(run) in final, seconds)
        return self.state(run)

    def run_process(self) -> psutil.Process:
        """Return the process of the run that the worker has started."""
        (process,) = self.process("worker").children()
        return process

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a request to the Prefect API and return its JSON."""
        token = b64encode(self.secrets["PREFECT_API_AUTH_STRING"].encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[0]}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def s3_headers(self, method: str, path: str, body: bytes, secret: str = "") -> dict[str, str]:
        """Return the headers of a request to the S3 store that is signed with its key, or another secret."""
        key, host = self.secrets["AWS_ACCESS_KEY_ID"], f"127.0.0.1:{self.ports[2]}"
        digest, now = hashlib.sha256(body).hexdigest(), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
        signed, scope = ";".join(headers), f"{now[:8]}/us-east-1/s3/aws4_request"
        canonical = "\n".join([method, path, "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, digest])
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signing = f"AWS4{secret or self.secrets['AWS_SECRET_ACCESS_KEY']}".encode()
        for part in scope.split("/"):
            signing = hmac.digest(signing, part.encode(), "sha256")
        signature = hmac.digest(signing, text.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        return {**headers, "Authorization": credential}

    def s3(self, method: str, path: str, body: bytes = b"", secret: str = "") -> tuple[int, bytes]:
        """Send a signed request to the S3 store; return its status and body."""
        headers = self.s3_headers(method, path, body, secret)
        address = f"http://127.0.0.1:{self.ports[2]}{path}"
        request = urllib.request.Request(address, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read()
        except HTTPError as error:
            return error.code, error.read()
