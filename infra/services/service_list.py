"""The services with their commands, in the order in which they start."""

import json
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from signal import Signals
from urllib.error import URLError

from infra.services import postgres
from infra.services.service_settings import (
    BUCKETS,
    POOL,
    Settings,
    base_environment,
    server_environment,
    worker_environment,
)
from stages.core.errors import UserError

S3 = Path(__file__).parents[1] / "s3"
WORKER = "macula-worker"


@dataclass(frozen=True)
class Service:
    """A program that the supervisor keeps running."""

    name: str
    command: list[str]
    environment: dict[str, str]
    healthy: Callable[[], bool]
    """Whether the service responds."""
    address: str
    """Where it listens, for messages."""
    port: int | None = None
    """Port that must be free before the service starts."""
    stop: Signals = Signals.SIGTERM
    """Signal on which the program ends cleanly."""
    user: tuple[int, int] | None = None
    """User and group of the process; None for those of the supervisor."""
    startup: float = 60.0
    """Time limit in seconds until it is healthy."""
    patience: float = 20.0
    """Time limit in seconds between the signal and the kill."""
    children_first: bool = False
    """Whether its child processes are stopped before it, so that it can report how they ended."""


def services(settings: Settings, known: dict[str, str]) -> list[Service]:
    """Return the services in the order in which they start.

    Args:
        settings: folder and ports.
        known: secrets by the name of their variable.

    Raises:
        UserError: Node.js or the packages of the S3 store are not installed.
    """
    workers = [worker(number, settings, known) for number in range(1, settings.workers + 1)]
    return [_postgres(settings), _s3(settings, known), _prefect(settings, known), *workers]


def _postgres(settings: Settings) -> Service:
    user = postgres.owner()
    return Service(
        "postgres",
        postgres.command(settings.folder / "postgres", settings.postgres_port),
        base_environment(settings),
        lambda: postgres.accepts(settings.postgres_port),
        f"127.0.0.1:{settings.postgres_port}",
        settings.postgres_port,
        Signals.SIGINT,  # on SIGTERM the server waits for its clients
        (user.pw_uid, user.pw_gid) if user else None,
    )


def _s3(settings: Settings, known: dict[str, str]) -> Service:
    node = which("node") or which("node", path=str(Path(sys.prefix + "-node") / "bin"))
    if node is None or not (S3 / "node_modules").is_dir():
        raise UserError(f"the packages of {S3} are not installed; `make services` installs them")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment = {name: known[name] for name in names} | {"S3_BUCKETS": ",".join(BUCKETS)}
    return Service(
        "s3",
        [node, str(S3 / "server.js"), str(settings.folder / "s3"), str(settings.s3_port)],
        base_environment(settings) | environment,
        lambda: responds(f"{settings.s3_url}/-/health"),
        settings.s3_url,
        settings.s3_port,
    )


def _prefect(settings: Settings, known: dict[str, str]) -> Service:
    # The command that `prefect server start` runs, without its intermediate process.
    app = ["uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
    options = ["--port", str(settings.prefect_port), "--log-level", "warning", "--timeout-graceful-shutdown", "5"]
    return Service(
        "prefect",
        [sys.executable, "-m", *app, *options],
        server_environment(settings, known),
        lambda: responds(f"{settings.prefect_url}/api/ready"),
        settings.prefect_url,
        settings.prefect_port,
        startup=240,  # imports and migrations take half a minute on a small machine
    )


def worker(number: int, settings: Settings, known: dict[str, str]) -> Service:
    """Return a worker of this machine.

    Args:
        number: number of the worker, counted from 1.
        settings: folder and ports.
        known: secrets by the name of their variable.
    """
    suffix = f"-{number}" if number > 1 else ""
    name = f"{WORKER}{suffix}"
    return Service(
        f"worker{suffix}",
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name],
        worker_environment(settings, known),
        lambda: worker_online(settings, known["PREFECT_API_AUTH_STRING"], name),
        f"work pool {POOL!r}",
        startup=120,
        children_first=True,
    )


def responds(url: str) -> bool:
    """Return whether a GET request succeeds within five seconds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 an address on this machine
            return response.status == 200
    except (URLError, OSError):
        return False


def worker_online(settings: Settings, auth: str, name: str) -> bool:
    """Return whether a worker has sent a heartbeat to the Prefect server recently.

    Args:
        settings: folder and ports.
        auth: user and password of the server.
        name: name of the worker.
    """
    request = urllib.request.Request(  # noqa: S310 an address on this machine
        f"{settings.prefect_url}/api/work_pools/{POOL}/workers/filter",
        data=b"{}",
        headers={"Content-Type": "application/json", "Authorization": f"Basic {b64encode(auth.encode()).decode()}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 an address on this machine
            found = json.load(response)
    except (URLError, OSError, ValueError):
        return False
    return any(one["name"] == name and one["status"] == "ONLINE" for one in found)
