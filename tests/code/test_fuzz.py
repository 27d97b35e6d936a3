"""Tests of the server with a few hundred malformed requests from one seed; `make fuzz-serving` sends ten thousand."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.fuzz_requests import KINDS
from benchmarks.serving.fuzz_server import fuzz
from stages.serving import header_timeout
from stages.serving.app import create_app
from stages.serving.settings import Settings
from tests.conftest import png
from tests.shipped import colour_model, plain, running, served

COUNT = 400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    model = colour_model(tmp_path_factory.mktemp("model") / "model.onnx")
    with served(model, "--seconds", "2", "--megapixels", "8") as address:
        yield address


def predict(server: tuple[str, int]) -> bytes:
    with urllib.request.urlopen(f"http://{server[0]}:{server[1]}/v1/predict", png(plain("green"))) as response:
        return response.read()


def test_malformed_requests_cause_no_500_hang_or_changed_prediction(server: tuple[str, int]) -> None:
    before = predict(server)
    outcomes, failures = fuzz(7, range(COUNT), "colours", server[1])
    assert not failures
    assert sum(outcomes.values()) == COUNT and {kind for kind, _ in outcomes} >= set(KINDS) - {"slow", "large"}
    assert {outcome for _, outcome in outcomes} >= {"200", "400", "404", "413", "422"}
    assert predict(server) == before


def test_a_connection_with_incomplete_headers_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_timeout, "HEADER_SECONDS", 0.3)
    with running(create_app(Settings(model=str(colour_model(tmp_path / "model.onnx"))))) as address:
        for head in (b"", b"POST /v1/predict HTTP/1.1\r\nHost: he", b"GET /v2 HTTP/1.1\r\nHost: here\r\n\r\nGET"):
            with socket.create_connection(address, timeout=3) as connection:
                connection.sendall(head)
                while connection.recv(1000):
                    pass
