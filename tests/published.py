"""Helpers for tests of the published page: quickly created models, and control of the page."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from stages.export import to_onnx
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

PATIENCE = 120_000  # milliseconds


class RandomNetwork(nn.Module):
    """Random network whose predictions differ between images; for a watershed, it outlines red regions."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        kind = REPRESENTATIONS[spec.representation]
        self.vector, rings = kind.gives == "vector", spec.representation == "watershed"
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.first = nn.Conv2d(spec.channels, 8, 5, padding=2)
            self.last = nn.Conv2d(8, kind.outputs(spec), 5, padding=2)
        if rings:  # background, interior and boundary by how much redder than blue the neighbourhood is
            self.first = nn.Conv2d(3, 8, 5, padding=2, bias=False)
            self.last = nn.Conv2d(8, 3, 1)
            with torch.no_grad():
                self.first.weight.zero_()
                self.first.weight[0, 0], self.first.weight[0, 2] = 0.04, -0.04
                self.last.weight.zero_()
                self.last.weight[:, 0, 0, 0] = torch.tensor([0.0, 60.0, 30.0])
                assert self.last.bias is not None
                self.last.bias.copy_(torch.tensor([0.0, -24.0, -6.0]))
        self.rings, self.middle = rings, 0.5 if spec.task == "image" else 0.0

    def forward(self, image_BCSS: torch.Tensor) -> torch.Tensor:
        map_BKSS = self.last(self.first(image_BCSS).relu())
        mean_BK11 = map_BKSS.mean(dim=(2, 3), keepdim=True)
        if self.vector:
            return 4 * mean_BK11.flatten(1)
        return map_BKSS if self.rings else self.middle + 4 * (map_BKSS - mean_BK11)  # so that every class occurs


def spec(task: str, representation: str, target: str, **changes: Any) -> TaskSpec:
    return TaskSpec(task, representation, target, **{"size": 48, "radius": 2.0, **changes})


KINDS = ("disc", "square", "star")
NUMBERS = {"scalars": ("disc", "star"), "mean": (3.0, 40.0), "deviation": (2.0, 10.0), "units": {"star": "mm"}}
CASES = {
    "class": spec("classification", "class", "label", labels=KINDS),
    "class, grey": spec("classification", "class", "label", labels=KINDS, channels=1),
    "class, 16 bits": spec("classification", "class", "label", labels=KINDS, channels=1, depth=16),
    "classes": spec("multilabel", "classes", "labels", labels=KINDS),
    "grade": spec("ordinal", "class", "label", labels=KINDS),
    "cumulative": spec("ordinal", "cumulative", "label", labels=KINDS, fit="letterbox"),
    "scalar": spec("regression", "scalar", "scalars", **NUMBERS),
    "density": spec("regression", "density", "count", labels=KINDS, fit="letterbox", **NUMBERS),
    "mask, count": spec("regression", "mask", "count", labels=KINDS, **NUMBERS),
    "mask, area": spec("regression", "mask", "area", labels=KINDS, fit="tile", overlap=0.25, **NUMBERS),
    "coordinates": spec("landmarks", "coordinates", "points", points=("nose", "tail")),
    "heatmap": spec("landmarks", "heatmap", "points", points=("nose", "tail"), fit="letterbox"),
    "disc": spec("landmarks", "disc", "points", points=("nose", "tail")),
    "mask": spec("segmentation", "mask", "mask", labels=KINDS, fit="letterbox"),
    "mask, overlapping": spec("segmentation", "mask", "mask", labels=("background", "disc", "core + disc")),
    "mask, tiles": spec("segmentation", "mask", "mask", labels=("background", "disc"), fit="tile", overlap=0.25),
    "image": spec("image", "image", "image", channels=3),
    "image, tiles": spec("image", "image", "image", channels=1, fit="tile", overlap=0.5),
    "watershed": spec("instances", "watershed", "shapes", labels=("disc",), masks=True, fit="letterbox"),
    "watershed, boxes": spec("instances", "watershed", "shapes", labels=("disc",), fit="tile", overlap=0.25),
    "boxes": spec("instances", "boxes", "shapes", labels=KINDS[:2], fit="letterbox", size=64),
    "masks": spec("instances", "boxes", "shapes", labels=KINDS[:2], masks=True, fit="letterbox", size=64),
}


def exported(task_spec: TaskSpec, file: Path, **metadata: Any) -> Path:
    """Write the model file of an untrained network as `export` does."""
    if task_spec.representation == "boxes":
        from tests.code.test_instances import network  # the smallest network that predicts boxes

        untrained = network(task_spec.masks).eval()
        with torch.no_grad():  # so that some boxes have a high score
            untrained.body.detector.roi_heads.box_predictor.cls_score.weight *= 40
        to_onnx(untrained, task_spec, file)
    else:
        to_onnx(RandomNetwork(task_spec), task_spec, file)
    graph = onnx.load(file)
    about = {**task_spec.as_json(), "version": "abc", "name": "toy", **metadata}
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in about.items()})
    onnx.save(graph, file)
    return file


class Page:
    """A published page that is open in a browser."""

    def __init__(self, browser: Any, address: str) -> None:
        from playwright.sync_api import expect

        self.expect = expect
        self.page = browser.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.expect(self.page.locator("#state")).to_have_text("Ready", timeout=PATIENCE)

    def predict(self, files: dict[str, bytes]) -> list[dict[str, Any]]:
        """Predict files; return the rows of the page, where `file` holds the bytes of the file that can be saved."""
        given = [{"name": name, "mimeType": "", "buffer": data} for name, data in files.items()]
        self.page.set_input_files("#files", given)
        self.expect(self.page.locator(".waiting")).to_have_count(0, timeout=PATIENCE)
        rows = self.page.evaluate(
            """async () => {
              const { rows } = await import("./page.js");
              const text = async (blob) => btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())));
              return Promise.all(rows.map(async (row) => ({ ...row, file: row.file ? await text(row.file) : null })));
            }"""
        )
        assert not self.errors
        return [
            row | {"file": base64.b64decode(row["file"]) if row.get("file") else None} for row in rows[-len(files) :]
        ]


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
