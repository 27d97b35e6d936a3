"""Tests of the server with a few hundred malformed requests from one seed; `make fuzz-serving` sends ten thousand."""

import urllib.request
from collections.abc import Iterator

import pytest

from benchmarks.serving.fuzz_requests import KINDS
from benchmarks.serving.fuzz_server import fuzz
from tests.conftest import png
from tests.shipped import colour_model, plain, served

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
