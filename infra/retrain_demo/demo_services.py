"""Project of the demonstration, its services on free ports, and requests to the Prefect server and the S3 store."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.retrain_demo.digit_batches import Batch
from infra.services.service_settings import Settings, base_environment, client_environment, load_secrets
from stages.config.edit import edited
from stages.core.errors import UserError

ROOT = Path(__file__).parents[2]
SOURCE = "s3://macula-images/scans"
ARRIVING = "s3://macula-images/new"
DECISIONS: dict[str, dict[str, Any]] = {
    "objective": {"at_least": 0.8},
    "ingest": {"name": "scans", "source": SOURCE},
    "train": {"epochs": 8},
    "tune": {"trials": 0},
    "export": {"variants": []},
}
"""Changes of params.yaml: images from the store, and a short training without a search."""
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
START_SECONDS = 300.0
"""Time limit in seconds for the services to start."""
RUN_SECONDS = 1800.0
"""Time limit in seconds for a run."""
DELAY = 5.0
"""Seconds from the definition of a schedule to its first run."""
AUTHOR = ["-c", "user.name=Macula demonstration", "-c", "user.email=demonstration@localhost"]


def create_project(folder: Path) -> Path:
    """Clone this project, change its params, commit them, and return the folder of the clone.

    Args:
        folder: folder to create.
    """
    _git("clone", "--quiet", str(ROOT), str(folder), cwd=folder.parent)
    for environment in (".venv", "infra/s3/node_modules"):
        (folder / environment).symlink_to(ROOT / environment)
    params = folder / "params.yaml"
    params.write_text(edited(params.read_text(encoding="utf-8"), [DECISIONS], "the demonstration"), encoding="utf-8")
    _git(*AUTHOR, "commit", "--quiet", "--all", "--message", "Retrain on the scans of the store", cwd=folder)
    return folder


def _git(*words: str, cwd: Path) -> None:
    subprocess.run(["git", *words], cwd=cwd, check=True)


class Services:
    """Services that run while the block runs."""

    def __init__(self, project: Path) -> None:
        """Choose free ports; the services start at `__enter__`.

        Args:
            project: clone of the project, in which the worker runs flows.
        """
        self.project = project
        self.settings = Settings(project / "work/services", *free_ports(3))
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Services":
        """Start the services.

        Raises:
            UserError: they do not start in time.
        """
        log = self.project / "work/services.log"
        log.parent.mkdir(exist_ok=True)
        ports = {"prefect": "prefect_port", "postgres": "postgres_port", "s3": "s3_port"}
        options = [w for name, key in ports.items() for w in (f"--{name}-port", str(getattr(self.settings, key)))]
        with log.open("wb") as stream:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "infra.services", "start", *options],
                cwd=self.project, env=_plain_environment(), stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while b"Ctrl-C stops" not in log.read_bytes():
            if self._supervisor.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise UserError(f"the services did not start; see {log} and {self.settings.folder / 'logs'}")
            time.sleep(0.2)
        self._secrets = load_secrets(self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the services."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.send_signal(signal.SIGINT)
            self._supervisor.wait(180)

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that uses the services."""
        base = base_environment(self.settings)
        return {**base, **self._clients(), **{k: v for k, v in self._secrets.items() if k.startswith("AWS_")}}

    def _clients(self) -> dict[str, str]:
        names = ("MACULA_PROJECT", "MACULA_REPOSITORY", "MACULA_STATE", "MACULA_CACHE")
        mine = dict(
            zip(
                names,
                (self.project, self.project, self.project / "work/flows", self.project / ".dvc/cache"),
                strict=True,
            )
        )
        return client_environment(self.settings) | {name: str(path) for name, path in mine.items()}

    def upload(self, batch: Batch, address: str) -> None:
        """Write files to the store.

        Args:
            batch: names and contents.
            address: URL of a folder, such as s3://bucket/folder.
        """
        store = self._store()
        for name, content in batch:
            store.pipe_file(f"{address}/{name}", content)

    def _store(self) -> Any:
        from s3fs import S3FileSystem

        key, secret = (self._secrets[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        return S3FileSystem(key=key, secret=secret, endpoint_url=self.settings.s3_url, use_listings_cache=False)

    def assign_champion(self, version: str) -> None:
        """Make a version the champion, as a person does who accepts what held it back.

        Args:
            version: registered version, such as scans@v0.0.3.
        """
        name, _, number = version.partition("@")
        gto = str(Path(sys.executable).parent / "gto")
        words = ["assign", name, "--version", number, "--stage", "champion"]
        subprocess.run([gto, *words], cwd=self.project, env=_plain_environment(), check=True)

    def deployment(self, name: str) -> str:
        """Return the id of the deployment of a flow of the same name."""
        return str(self.api(f"deployments/name/{name}/{name}")["id"])

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Create a run of a deployment, wait for its end, and return it.

        Args:
            name: name of the flow.
            **parameters: parameters of the run.
        """
        path = f"deployments/{self.deployment(name)}/create_flow_run"
        created = self.api(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})
        return self.ended(created["id"])

    def scheduled_run(self, name: str) -> dict[str, Any]:
        """Define a schedule whose first run is due now, wait for the end of this run, and return it.

        Args:
            name: name of the flow.
        """
        deployment = self.deployment(name)
        due = datetime.now(UTC) + timedelta(seconds=DELAY)
        schedule = {"interval": 86400.0, "anchor_date": due.isoformat(), "timezone": "UTC"}
        (made,) = self.api(f"deployments/{deployment}/schedules", [{"active": True, "schedule": schedule}])
        try:
            # The server plans runs once a minute; this request plans the first one now.
            span = {"start_time": datetime.now(UTC).isoformat(), "end_time": (due + timedelta(seconds=5)).isoformat()}
            self.api(f"deployments/{deployment}/schedule", {**span, "min_runs": 1, "max_runs": 1})
            run = self.next_run(name, after=due - timedelta(seconds=2))
        finally:
            self.api(f"deployments/{deployment}/schedules/{made['id']}", method="DELETE")
        return self.ended(run["id"])

    def next_run(self, name: str, after: datetime, seconds: float = 180.0) -> dict[str, Any]:
        """Wait until a run of a flow that another program creates has begun, and return it.

        Args:
            name: name of the flow.
            after: earliest time at which the run is due.
            seconds: time limit.

        Raises:
            UserError: no run has begun in time.
        """
        wanted = {
            "deployments": {"id": {"any_": [self.deployment(name)]}},
            "flow_runs": {
                "expected_start_time": {"after_": after.isoformat()},
                "state": {"type": {"any_": ["RUNNING", *FINAL]}},
            },
        }
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for run in self.api("flow_runs/filter", wanted):
                return dict(run)
            time.sleep(1)
        raise UserError(f"no run of {name} has begun after {after:%H:%M:%S} UTC; see {self.settings.folder / 'logs'}")

    def ended(self, run: str) -> dict[str, Any]:
        """Wait for the end of a run and return it.

        Raises:
            UserError: the run has not ended in time.
        """
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.api(f"flow_runs/{run}")
            if found["state"]["type"] in FINAL:
                return found
            time.sleep(1)
        raise UserError(f"run {run} has not ended after {RUN_SECONDS:.0f} s; see {self.settings.folder / 'logs'}")

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a request to the Prefect API and return its JSON; None if the response is empty.

        Args:
            path: path below `/api/`.
            body: content of a POST request; None for GET.
            method: another method.
        """
        token = b64encode(self._secrets["PREFECT_API_AUTH_STRING"].encode()).decode()
        request = urllib.request.Request(  # noqa: S310  # the address is that of the services
            f"{self.settings.prefect_url}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            content = response.read()
        return json.loads(content) if content else None


def stop_leftovers(project: Path) -> None:
    """Stop the services that a killed demonstration left in a project."""
    if (project / "work/services").is_dir():
        command = [sys.executable, "-m", "infra.services", "stop"]
        subprocess.run(command, cwd=project, env=_plain_environment(), check=True)


def remove_project(folder: Path) -> None:
    """Stop the services in a folder and remove it."""
    stop_leftovers(folder)
    shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _plain_environment() -> dict[str, str]:
    """Return the environment without settings of other services."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_", "MACULA_"))}
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
