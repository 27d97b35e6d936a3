"""Tests of the time limits of a connection, with real sockets: the server never closes a connection that is in use."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from uvicorn.config import Config
from uvicorn.server import ServerState

from stages.serving import connection_timeouts
from stages.serving.connection_timeouts import TimeoutProtocol
from stages.serving.settings import Settings
from tests.conftest import ROOT
from tests.shipped import running

GET = b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n"
SHORT, LONG = 0.3, 30.0  # seconds; a limit that is awaited, and one that is not


@contextmanager
def connected(keep_alive: float, block: float = 0) -> Iterator[socket.socket]:
    """Connect to a server that responds to the headers of a request, and then blocks for `block` seconds."""
    app = FastAPI()

    @app.api_route("/x", methods=["GET", "POST"])
    async def respond(request: Request) -> PlainTextResponse:
        if block:
            asyncio.get_running_loop().call_later(SHORT / 2, time.sleep, block)
        return PlainTextResponse("yes")

    with running(app, keep_alive) as address, socket.create_connection(address, timeout=10) as connection:
        yield connection


def response(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"yes"):
        data = connection.recv(1000)
        assert data, "the server has closed the connection"
        received += data
    return received


def seconds_until_closed(connection: socket.socket) -> float:
    started = time.monotonic()
    assert connection.recv(1000) == b""
    return time.monotonic() - started


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET, GET + b"\r\n"])
def test_a_connection_without_a_request_is_closed_after_the_keep_alive_time(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_timeouts, "HEADER_SECONDS", SHORT / 3)
    with connected(SHORT) as connection:
        connection.sendall(sent)
        if GET in sent:
            response(connection)
        assert seconds_until_closed(connection) > 0.8 * SHORT


def test_the_limit_of_headers_does_not_apply_before_their_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_timeouts, "HEADER_SECONDS", SHORT / 3)
    with connected(LONG) as connection:
        for _ in range(2):
            connection.settimeout(SHORT)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)
            connection.sendall(GET)
            assert response(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"\r\nP", b"POST /x HTTP/1.1\r\nHost: he", GET + GET[:9]])
def test_a_connection_with_incomplete_headers_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_timeouts, "HEADER_SECONDS", SHORT)
    with connected(LONG) as connection:
        connection.sendall(sent)
        if sent.startswith(GET):
            response(connection)
        seconds_until_closed(connection)


def test_a_request_that_arrives_before_the_connection_expires_gets_a_response() -> None:
    with connected(SHORT, block=3 * SHORT) as connection:
        connection.sendall(GET)
        response(connection)
        connection.settimeout(0.75 * SHORT)  # by then the server is blocked, and the connection has not expired
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        connection.sendall(GET)
        assert response(connection).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_request_that_has_its_response_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_timeouts, "REST_SECONDS", SHORT)
    with connected(LONG) as connection:
        connection.sendall(POST)
        response(connection)
        connection.sendall(b"1")
        seconds_until_closed(connection)


def test_a_connection_is_used_again_after_the_rest_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_timeouts, "REST_SECONDS", LONG)
    with connected(SHORT) as connection:
        connection.sendall(POST)
        response(connection)
        connection.sendall(bytes(10) + GET)
        assert response(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(POST)
        response(connection)
        connection.sendall(bytes(10))
        seconds_until_closed(connection)


class Transport:
    """Transport whose write buffer has the given sizes, one after the other."""

    def __init__(self, *sizes: int) -> None:
        self.sizes, self.ended = list(sizes), ""

    def get_write_buffer_size(self) -> int:
        return self.sizes.pop(0)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.ended = "aborted"

    def close(self) -> None:
        self.ended = "closed"


@pytest.mark.parametrize(("sizes", "ended"), [([9, 5, 0], "closed"), ([9, 5, 5], "aborted"), ([0], "closed")])
def test_a_connection_is_not_idle_while_its_response_is_being_sent(sizes: list[int], ended: str) -> None:
    async def expire() -> str:
        keep_alive: Any = 0.01
        config = Config("tests.shipped:running", http=TimeoutProtocol, timeout_keep_alive=keep_alive, log_config=None)
        protocol: Any = TimeoutProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.transport = transport = Transport(*sizes)
        protocol.timeout_keep_alive_handler()
        while not transport.ended:
            await asyncio.sleep(0)
        assert not transport.sizes
        return transport.ended

    assert asyncio.run(asyncio.wait_for(expire(), 10)) == ended


def test_documented_values_exceed_the_idle_timeouts_of_proxies() -> None:
    text = Path(ROOT / "docs/guides/shipping.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (\d+) s [^|]*\| `--keep-alive (\d+)`", text, re.MULTILINE)
    assert {name.split(",")[0].split(" (")[0] for name, _, _ in rows} >= {"nginx", "AWS ALB", "Google Cloud", "Envoy"}
    assert all(float(idle) < float(ours) for _, idle, ours in rows)
    defaults = {name for name, idle, _ in rows if float(idle) < Settings.keep_alive}
    assert {"nginx", "AWS ALB"} <= {name.split(",")[0].split(" (")[0] for name in defaults}
