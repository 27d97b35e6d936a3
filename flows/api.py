"""The Prefect API that a flow talks to: a running server's, or one of its own for as long as it runs."""

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
"""Seconds that a server may take to start: importing it takes ten on a small machine."""


def connect() -> Callable[[], None]:
    """Prepare the environment, to be called before Prefect is imported; returns what waits for the API.

    Uses the server at `PREFECT_API_URL` if it answers. Else starts one under a guard, on Prefect's usual database,
    so that runs can be looked at later with `prefect server start`. Prefect would start one by itself, but as a plain
    child, which a killed flow leaves behind for ever.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", str(STARTUP))
    url = configured_url()
    if url and healthy(url, patience=15):
        return lambda: None
    if url:
        print(f"no Prefect server answers at {url}: using one of our own for this run", file=sys.stderr)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["PREFECT_API_URL"] = url = f"http://127.0.0.1:{port}/api"
    server, said = _serve(port)
    return lambda: _wait(url, server, said)


def configured_url() -> str | None:
    """Return the address of the Prefect API that the environment or the active profile names."""
    return os.environ.get("PREFECT_API_URL") or _url_of_profile()


def healthy(url: str, patience: float = 1.0) -> bool:
    """Whether a Prefect server answers at this URL."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=patience) as answer:  # noqa: S310 the user's own setting
            return json.load(answer) is True
    except HTTPError as error:
        return error.code in (401, 403)  # it answers; the key is Prefect's to send
    except (OSError, ValueError):
        return False


def _url_of_profile() -> str | None:
    """What `prefect config set PREFECT_API_URL=...` has stored; Prefect itself is not to be imported yet."""
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
    """Start a server as Prefect starts its own ephemeral one; returns its last words too, as they come."""
    app = [
        "uvicorn",
        "--factory",
        "prefect.server.api.server:create_app",
        "--host",
        "127.0.0.1",
        "--log-level",
        "error",
    ]
    # No pages, and only the services that record runs.
    light = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    server = supervisor.start([sys.executable, "-m", *app, "--port", str(port)], os.environ | light)
    assert server.stdout is not None
    said: deque[str] = deque(maxlen=20)
    threading.Thread(target=said.extend, args=(supervisor.lines(server.stdout),), daemon=True).start()
    return server, said


def _wait(url: str, server: subprocess.Popen[bytes], said: deque[str]) -> None:
    deadline = time.monotonic() + STARTUP
    while not healthy(url):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the Prefect server did not start; its last words:\n" + "\n".join(said))
        time.sleep(0.1)
