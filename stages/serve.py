"""Answer over HTTP with an exported model: `python -m stages.serve MODEL`; its page at /, its routes at /docs.

Runs without torch. A new file in the model's place is taken over without a lost request.
"""

import ipaddress
import os
import runpy
import sys
import tempfile
from typing import Any

import uvicorn

from stages.core.errors import UserError
from stages.serving.admission import log_lines
from stages.serving.app import create
from stages.serving.header_timeout import Impatient
from stages.serving.metrics import SHARED
from stages.serving.settings import KEY, Settings

CONNECTIONS = 2048  # at once; more are answered 503 before they are read
GRACE = 30  # seconds in which requests that are inside end
START = 60  # seconds in which a worker has its imports done; uvicorn's own 5 end it over and over on a busy machine


def main(settings: Settings, host: str, port: int, open_to_all: bool) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that were accepted.

    Args:
        settings: model and limits.
        host: address to listen on.
        port: port to listen on.
        open_to_all: other machines may send requests without a key.

    Raises:
        UserError: other machines could send requests without a key, or the model cannot be opened.
    """
    key = os.environ.get(KEY, "")
    _refuse_open(host, key, open_to_all)
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "limit_concurrency": CONNECTIONS,
        "timeout_graceful_shutdown": GRACE,
        "timeout_worker_healthcheck": START,
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "http": Impatient,
    }
    log_lines()
    if settings.workers == 1:
        uvicorn.run(create(settings, key), **options)
        return
    settings.to_environment()
    with tempfile.TemporaryDirectory(prefix="macula-metrics-") as shared:
        os.environ[SHARED] = shared
        uvicorn.run("stages.serving.app:from_environment", factory=True, workers=settings.workers, **options)


def _refuse_open(host: str, key: str, meant: bool) -> None:
    """Nobody opens a server to a network by mistake."""
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    if not (near or key or meant):
        raise UserError(f"--host {host} lets others in: set {KEY} to the key they must show, or say --open")


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "serve")
    runpy.run_module("stages", run_name="__main__")
