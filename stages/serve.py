"""Answer over HTTP with an exported model: `python -m stages.serve MODEL`; its page at /, its routes at /docs.

Runs without torch. A new file in the model's place is taken over without a lost request.
"""

import argparse
import ipaddress
import os
import sys
import tempfile

import uvicorn

from stages.core.errors import UserError
from stages.runtime.engine_selection import ENGINES
from stages.serving.admission import log_lines
from stages.serving.app import create
from stages.serving.header_timeout import Impatient
from stages.serving.metrics import SHARED
from stages.serving.settings import KEY, Settings

CONNECTIONS = 2048  # at once; more are answered 503 before they are read
GRACE = 30  # seconds in which requests that are inside end
START = 60  # seconds in which a worker has its imports done; uvicorn's own 5 end it over and over on a busy machine


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let what is inside end."""
    arguments = _arguments(argv)
    known = {name: value for name, value in vars(arguments).items() if name in Settings.__dataclass_fields__}
    settings, key = Settings(**known), os.environ.get(KEY, "")
    try:
        _refuse_open(arguments.host, key, arguments.open)
        options = {
            "host": arguments.host,
            "port": arguments.port,
            "limit_concurrency": CONNECTIONS,
            "timeout_graceful_shutdown": GRACE,
            "timeout_worker_healthcheck": START,
            "access_log": False,
            "log_config": None,
            "server_header": False,
            "http": Impatient,
        }
        log_lines()
        if arguments.workers == 1:
            uvicorn.run(create(settings, key), **options)
            return
        settings.to_environment()
        with tempfile.TemporaryDirectory(prefix="macula-metrics-") as shared:
            os.environ[SHARED] = shared
            uvicorn.run("stages.serving.app:from_environment", factory=True, workers=arguments.workers, **options)
    except UserError as error:
        sys.exit(f"error: {error}")


def _refuse_open(host: str, key: str, meant: bool) -> None:
    """Nobody opens a server to a network by mistake."""
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    if not (near or key or meant):
        raise UserError(f"--host {host} lets others in: set {KEY} to the key they must show, or say --open")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    default = Settings(model="")
    parser = argparse.ArgumentParser(
        prog="python -m stages.serve",
        description="Answer over HTTP with an exported model.",
        epilog=f"The environment variable {KEY} holds the key that clients must show; without it none is asked for.",
    )
    parser.add_argument("model", help="ONNX file, as data/export/model.onnx; a new one in its place is taken over")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--open", action="store_true", help="other machines may ask without a key")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes, each with the model; one that dies is replaced; default: 1"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=default.engine, help="default: auto, the faster one on this machine"
    )
    for name, kind, words in (
        ("name", str, "of the model in the Open Inference Protocol; default: that of its data"),
        ("threads", int, "of one run of the model; default: all runs of all workers fill the cores"),
        ("parallel", int, "runs of the model at once; default: one a core, shared out among the workers"),
        ("batch", int, "images of one run at most"),
        ("latency", float, "seconds that a run of several images may take, or as long as they waited"),
        ("queue", int, "requests inside; more are answered 429"),
        ("megabytes", float, "of a request"),
        ("megapixels", float, "of an image"),
        ("memory", float, "GiB for all workers together; 0: what the container or the machine allows"),
        ("seconds", float, "from a request to its answer"),
        ("images", int, "in one request"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, default=getattr(default, name), help=f"{words}; default: %(default)s"
        )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
