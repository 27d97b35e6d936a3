"""Toy models for deployments: variants of the colour model, their golden images, clients, and a proxy with faults."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from stages.deployment.deployment import Plan
from stages.deployment.golden_images import GOLDEN_FILE, write_golden
from stages.deployment.golden_selection import golden_set
from stages.runtime import Model
from tests.conftest import png
from tests.shipped import COLOURS, colour_model, plain

LARGEST = 64
"""Height from which `fragile` models fail."""
REPEATED = 512
"""Enlargement of an image in a slow model."""


def golden_pngs(count: int = 6) -> list[bytes]:
    """Return small images between plain colours."""
    rng = np.random.default_rng(0)
    images = [plain(COLOURS[i % 3]) // 4 + rng.integers(0, 60, (8, 8, 3), np.uint8) for i in range(count)]
    return [png(image) for image in images]


def exported(folder: Path, version: str = "colours-1", kind: str = "") -> Path:
    """Write a model with its golden images as `export` does; return the model.

    Args:
        folder: folder to create.
        version: version of the model, which changes the bytes of the file.
        kind: slow: each call takes long; fragile: fails for images of `LARGEST` rows or more; wrong: predicts other
            classes than its golden images record; empty: a good model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = colour_model(folder / "model.onnx", version=version)
    reference = Model(file, 1, "onnxruntime")
    golden = golden_set(file, reference, {"float32": reference}, "float32", golden_pngs, 6)
    write_golden(folder / GOLDEN_FILE, golden)
    if kind:
        _change_graph(file, kind)
    return file


def _change_graph(file: Path, kind: str) -> None:
    model = onnx.load(file)
    graph = model.graph
    cast = graph.node[0]
    assert cast.op_type == "Cast"
    match kind:
        case "slow":
            for name, scale in (("up", REPEATED), ("down", 1 / REPEATED)):
                graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [4], [1, scale, scale, 1]))
            cast.output[0] = "pixels"
            graph.node.insert(1, helper.make_node("Resize", ["pixels", "", "up"], ["large"], mode="nearest"))
            graph.node.insert(2, helper.make_node("Resize", ["large", "", "down"], ["level"], mode="nearest"))
        case "fragile":
            graph.initializer.append(helper.make_tensor("limit", TensorProto.INT64, [], [LARGEST]))
            graph.initializer.append(helper.make_tensor("row", TensorProto.INT64, [], [1]))
            graph.initializer.append(helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]))
            cast.output[0] = "pixels"
            nodes = [
                helper.make_node("Shape", ["image"], ["shape"]),
                helper.make_node("Gather", ["shape", "row"], ["height"], axis=0),
                helper.make_node("Div", ["height", "limit"], ["index"]),
                helper.make_node("Gather", ["zero", "index"], ["nothing"], axis=0),
                helper.make_node("Add", ["pixels", "nothing"], ["level"]),
            ]
            for position, node in enumerate(nodes, 1):
                graph.node.insert(position, node)
        case "wrong":
            graph.initializer.append(helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]))
            cast.output[0] = "pixels"
            graph.node.insert(1, helper.make_node("Sub", ["white", "pixels"], ["level"]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


def plan_for(model: Path, target: Path, server: tuple[str, int] | None = None, **changes: Any) -> Plan:
    """Return a plan with short times; `server` is a host and a port."""
    url = f"http://{server[0]}:{server[1]}" if server else ""
    times = {"monitor_seconds": 3.0, "baseline_seconds": 1.0, "load_seconds": 60.0}
    return Plan(model=model, target=target, server=url, **{**times, **changes})


class Clients(threading.Thread):
    """Client that sends requests all the time, each on a new connection, and keeps the results."""

    def __init__(self, server: tuple[str, int], image: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.url, self.data = f"http://{server[0]}:{server[1]}/v1/predict", png(image)
        self.failures: list[str] = []
        self.labels: list[str] = []
        self.digests: list[str] = []
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with urllib.request.urlopen(urllib.request.Request(self.url, self.data), timeout=30) as response:
                    body = json.load(response)
            except OSError as error:
                self.failures.append(str(error))
            else:
                self.labels.append(body["answer"]["label"])
                if body["model"]["digest"] not in self.digests[-1:]:
                    self.digests.append(body["model"]["digest"])

    def __enter__(self) -> "Clients":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


@contextmanager
def proxy(
    server: tuple[str, int], change: Callable[[str, int, dict[str, Any]], tuple[int, dict[str, Any]]]
) -> Iterator[tuple[str, int]]:
    """Run a proxy that passes requests on and changes JSON responses; yield its host and port.

    Args:
        server: host and port of the server.
        change: takes path, status and body, and returns status and body.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on(None)

        def do_POST(self) -> None:
            self._pass_on(self.rfile.read(int(self.headers["content-length"])))

        def _pass_on(self, data: bytes | None) -> None:
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(f"http://{server[0]}:{server[1]}{self.path}", data), timeout=30
                ) as response:
                    status, body, kind = response.status, response.read(), response.headers["content-type"]
            except urllib.error.HTTPError as error:
                status, body, kind = error.code, error.read(), error.headers["content-type"]
            if kind == "application/json":
                status, changed = change(self.path, status, json.loads(body))
                body = json.dumps(changed).encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield "127.0.0.1", listening.server_port
        listening.shutdown()
