"""Serve an exported model over HTTP: `macula serve MODEL`, with a page at / and the routes at /docs.

The server runs without torch. If the model file is replaced, the new one is loaded without losing a request.
"""

import ipaddress
import os
import runpy
import sys
import tempfile
from typing import Any

import uvicorn

from stages.core.errors import UserError
from stages.serving.admission import configure_logging
from stages.serving.app import create_app
from stages.serving.connection_timeouts import TimeoutProtocol
from stages.serving.metrics import SHARED
from stages.serving.settings import KEY, Settings

MAX_CONNECTIONS = 2048  # further connections get status 503
GRACE_SECONDS = 30  # for running requests after SIGTERM
START_SECONDS = 60  # for the imports of a worker; the default of uvicorn (5) is too short on a busy machine


def main(settings: Settings, host: str, port: int, open_to_all: bool) -> None:
    """Serve until SIGTERM or SIGINT, then finish the accepted requests, for at most `GRACE_SECONDS`.

    Args:
        settings: model and limits.
        host: address to listen on.
        port: port to listen on.
        open_to_all: whether other machines may send requests without a key.

    Raises:
        UserError: other machines could send requests without a key; or, with one worker, see `create_app`. Several
            workers raise it in their own processes.
    """
    key = os.environ.get(KEY, "")
    _refuse_open(host, key, open_to_all)
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "limit_concurrency": MAX_CONNECTIONS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "timeout_worker_healthcheck": START_SECONDS,
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "http": TimeoutProtocol,
        "timeout_keep_alive": settings.keep_alive,
    }
    configure_logging()
    if settings.workers == 1:
        uvicorn.run(create_app(settings, key), **options)
        return
    settings.to_environment()
    with tempfile.TemporaryDirectory(prefix="macula-metrics-") as shared:
        os.environ[SHARED] = shared
        uvicorn.run("stages.serving.app:from_environment", factory=True, workers=settings.workers, **options)


def _refuse_open(host: str, key: str, intended: bool) -> None:
    """Raise UserError if other machines could send requests without a key, unless this is intended."""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not (is_local or key or intended):
        raise UserError(
            f"--host {host} accepts requests from other machines, but no API key is set: set {KEY}, or pass --open to "
            "accept requests without a key"
        )


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "serve")
    runpy.run_module("stages", run_name="__main__")
