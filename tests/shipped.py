"""Hand-made ONNX model in the format of `export`, which predicts the dominant colour of an image, and its server."""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import uvicorn
from fastapi import FastAPI
from onnx import TensorProto, helper

from stages.serving.connection_timeouts import TimeoutProtocol
from stages.serving.settings import Settings

COLOURS = ("red", "green", "blue")
PATIENCE = 60.0  # seconds until a server responds


def colour_model(
    file: Path,
    labels: tuple[str, ...] = COLOURS,
    version: str = "colours-1",
    channels: tuple[int, ...] = (0, 1, 2),
) -> Path:
    """Write a model that returns the softmax of the channel means (0 to 255) divided by 16.

    Args:
        file: file to write.
        labels: class of each output.
        version: version of the data in the metadata.
        channels: channel of each output.
    """
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    divisor = helper.make_tensor("divisor", TensorProto.FLOAT, [], [16.0])
    order = helper.make_tensor("order", TensorProto.INT64, [3], channels)
    nodes = [
        helper.make_node("Cast", ["image"], ["level"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["level", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gather", ["mean", "order"], ["ordered"], axis=1),
        helper.make_node("Div", ["ordered", "divisor"], ["logit"]),
        helper.make_node("Softmax", ["logit"], ["probability"], axis=1),
    ]
    graph = helper.make_graph(nodes, "colours", [image], [probability], [axes, divisor, order])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    metadata = {
        "name": "colours", "version": version, "task": "classification", "representation": "class", "target": "label",
        "labels": list(labels), "channels": 3, "size": 32,
    }  # fmt: skip
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    return file


def plain(colour: str, size: int = 8) -> np.ndarray:
    """Return an image of one colour, uint8 [size, size, 3]."""
    image = np.zeros((size, size, 3), np.uint8)
    image[..., COLOURS.index(colour)] = 200
    return image


@contextmanager
def served(model: Path, *arguments: str, python: str = sys.executable) -> Iterator[tuple[str, int]]:
    """Run `python -m stages.serve` on a free port; yield its host and port once it responds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    command = [python, "-m", "stages.serve", str(model), "--port", str(port), *arguments]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _ready(f"http://{host}:{port}/v2/health/ready"):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command} does not respond:\n{log.read()}")
                time.sleep(0.05)
            yield host, port
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextmanager
def running(app: FastAPI, keep_alive: Any = Settings.keep_alive) -> Iterator[tuple[str, int]]:
    """Run a server in a thread of this process; yield its host and port."""
    config = uvicorn.Config(app, port=0, http=TimeoutProtocol, timeout_keep_alive=keep_alive, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False
