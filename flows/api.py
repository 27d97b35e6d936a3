"""Connect a flow to a Prefect API: a running server, or a temporary one for the duration of the flow."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError

from flows import supervisor

STARTUP = 180
"""Time limit in seconds for the start of a server; on a small machine, its imports take ten seconds."""


def connect() -> Callable[[], None]:
    """Set up the environment of Prefect; call this before Prefect is imported.

    Uses the server at `PREFECT_API_URL` if it responds. Otherwise starts a supervised one on Prefect's default
    database, so that `prefect server start` shows the runs later. Prefect would start one as a plain child process,
    which a killed flow leaves running.

    Returns:
        A function that waits until the API responds, and raises RuntimeError if the server does not start.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", str(STARTUP))
    url = configured_url()
    if url and healthy(url, patience=15):
        return lambda: None
    if url:
        print(f"no Prefect server responds at {url}: starting a temporary one for this run", file=sys.stderr)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["PREFECT_API_URL"] = url = f"http://127.0.0.1:{port}/api"
    server, output = _serve(port)
    return lambda: _wait(url, server, output)


def configured_url() -> str | None:
    """Return the address of the Prefect API that the environment or the active profile names; None if neither does."""
    return os.environ.get("PREFECT_API_URL") or _url_of_profile()


def healthy(url: str, patience: float = 1.0) -> bool:
    """Return whether a Prefect server responds at this URL within `patience` seconds, even if it requires a key."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=patience) as response:  # noqa: S310 the user's own setting
            return json.load(response) is True
    except HTTPError as error:
        return error.code in (401, 403)  # the server responds; Prefect sends the key
    except (OSError, ValueError):
        return False


def _url_of_profile() -> str | None:
    """Return the URL stored by `prefect config set PREFECT_API_URL=...`, without importing Prefect; None if not set."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect"))
    file = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser()
    try:
        stored = tomllib.loads(file.read_text())
    except (OSError, ValueError):
        return None
    active = os.environ.get("PREFECT_PROFILE", stored.get("active"))
    url: str | None = stored.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return url


def _serve(port: int) -> tuple[subprocess.Popen[bytes], deque[str]]:
    """Start a server like the ephemeral one of Prefect; return the process and its last lines of output."""
    app = [
        "uvicorn",
        "--factory",
        "prefect.server.api.server:create_app",
        "--host",
        "127.0.0.1",
        "--log-level",
        "error",
    ]
    # Disable the web pages, and all services except those that record runs.
    settings = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    server = supervisor.start([sys.executable, "-m", *app, "--port", str(port)], os.environ | settings)
    assert server.stdout is not None
    output: deque[str] = deque(maxlen=20)
    threading.Thread(target=output.extend, args=(supervisor.lines(server.stdout),), daemon=True).start()
    return server, output


def _wait(url: str, server: subprocess.Popen[bytes], output: deque[str]) -> None:
    deadline = time.monotonic() + STARTUP
    while not healthy(url):
        if server.poll() is not None or time.monotonic() > deadline:
            ended = "ended" if server.poll() is not None else f"did not respond within {STARTUP} s"
            shown = "its last output:\n" + "\n".join(output) if output else "it printed nothing"
            raise RuntimeError(f"the temporary Prefect server {ended}; {shown}")
        time.sleep(0.1)
