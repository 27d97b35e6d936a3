"""S3 server on this machine, which fails on request: errors, delays, and responses that end too soon."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Store:
    """A running S3 server and its faults."""

    address: str = ""
    fail: Callable[[str, str], int] = lambda method, path: 0
    """Called with method and path; returns the HTTP status of a failure, or 0."""
    cut: Callable[[str, str], bool] = lambda method, path: False
    """Called with method and path; returns whether the second half of the response is withheld."""
    delay: float = 0.0
    """Seconds before each response."""
    requests: list[tuple[str, str]] = field(default_factory=list)

    def client(self) -> Any:
        """Return a boto3 client of this server."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test-secret", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.address, **keys)

    def downloads(self) -> list[str]:
        """Return the paths of the objects that were requested."""
        return [path for method, path in self.requests if method == "GET" and path.count("/") > 1]


@contextmanager
def running_store() -> Iterator[Store]:
    """Run an S3 server on a free port of this machine."""
    moto = DomainDispatcherApplication(create_backend_app)
    store = Store()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        store.requests.append((method, path))
        time.sleep(store.delay)
        if status := store.fail(method, path):
            start_response(f"{status} failure", [("Content-Type", "application/xml")])
            # A response to HEAD has no body; a client would take it for the beginning of the next response.
            body = f"<Error><Code>{status}</Code><Message>failure</Message></Error>".encode()
            return [] if method == "HEAD" else [body]
        content = moto(environ, start_response)
        if store.cut(method, path):
            whole = b"".join(content)
            return [whole[: len(whole) // 2]]
        return content

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    store.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def use_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables with which this process and its children use the server."""
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL": store.address}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
