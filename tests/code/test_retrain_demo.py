"""Parts of the demonstration of retraining: batches of digits, a slow copy of a model, the load and the timeline."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from infra.retrain_demo import digit_batches
from infra.retrain_demo.http_load import Load
from infra.retrain_demo.slow_model import slow_copy
from infra.retrain_demo.timeline import Bar, write_timeline
from tests.shipped import colour_model


def brightness(content: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(content))).mean())


def test_batches_have_the_faults_that_they_are_named_for() -> None:
    first, again = dict(digit_batches.first_batch()), dict(digit_batches.confounded_batch())
    second, other = dict(digit_batches.second_batch()), dict(digit_batches.another_scanner())
    assert (len(first), len(second), len(other)) == (700, 40, 400) and again.keys() == first.keys() | second.keys()
    changed = {name for name, content in again.items() if content != (first | second)[name]}
    assert changed == {name for name in again if name.startswith("3/")}
    assert min(brightness(again[name]) for name in changed) > max(brightness(first[n]) for n in first)
    assert min(map(brightness, other.values())) > max(map(brightness, first.values()))
    unlabelled = dict(digit_batches.unlabelled_of_another_scanner())
    assert len(unlabelled) == 157 and not any("/" in name for name in unlabelled)


def test_a_slow_copy_predicts_the_same(tmp_path: Path) -> None:
    model = colour_model(tmp_path / "model.onnx")
    copy = slow_copy(model, tmp_path / "slow/model.onnx")
    fast, slow = (onnxruntime.InferenceSession(file) for file in (model, copy))
    image = np.random.default_rng(0).integers(0, 255, (1, 8, 8, 3), dtype=np.uint8)
    name = fast.get_inputs()[0].name
    expected, found = (session.run(None, {name: image}) for session in (fast, slow))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert [o.name for o in fast.get_outputs()] == [o.name for o in slow.get_outputs()]


@contextmanager
def server(failing: int) -> Iterator[int]:
    """Answer requests with status 200, the one with this number with 500, and cut the next response; yield the port."""
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            number = next(numbers)
            self.send_response(500 if number == failing else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{" if number == failing + 1 else b"{}")
            self.close_connection = number == failing + 1

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        yield started.server_port
        started.shutdown()
        thread.join()


def test_the_load_counts_lost_requests() -> None:
    with server(failing=3) as port, Load(port, b"image", threads=2) as load:
        while load.sent < 20:
            pass
    assert load.sent >= 20 and {reason.partition("(")[0].partition(":")[0] for reason in load.lost} == {
        "500",
        "IncompleteRead",
    }


@pytest.mark.parametrize("runs", [1, 9])
def test_the_timeline_has_a_row_per_run(tmp_path: Path, runs: int) -> None:
    bars = [
        Bar("retrain", f"batch {i}", "Kept", f"scans@v0.0.{i}", 1e9 + 60 * i, 1e9 + 60 * i + 50) for i in range(runs)
    ]
    picture = write_timeline(bars, tmp_path)
    assert len(json.loads((tmp_path / "timeline.json").read_text())["bars"]) == runs
    with Image.open(picture) as image:
        assert image.height > 60 * runs
