"""Tests of int8 quantization, of OpenVINO compared with ONNX Runtime, and of engine selection."""

import base64
import io
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from stages import runtime
from stages.core.errors import UserError
from stages.export import OPSET, to_onnx
from stages.preprocessing.resize import fit_image
from stages.quantization.onnx_graph import extract_preprocessing, simplify
from stages.quantization.score_drop import DropEvaluator
from stages.quantization.selection import (
    VariantSetup,
    open_with_openvino,
    select_variant,
    write_metadata,
    write_metadata_with_probe,
)
from stages.runtime import Model
from stages.runtime.engine_selection import predict_probe_image, select_fastest
from stages.runtime.engines import OpenVino, create_session
from stages.tasks.task_spec import TaskSpec
from tests.conftest import ROOT

SIDE = 16
OUTLINE = TaskSpec("classification", "class", "label", labels=("blue", "red"), size=SIDE)
FRAIL = 2
"""Layers of the network that are sensitive to int8."""


class SensitiveNetwork(nn.Module):
    """Classifies red and blue images; the difference is added to a value ten thousand times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out_of = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
        self.rest = nn.Sequential(*(nn.Conv2d(2, 2, 1, bias=False) for _ in range(6)))
        with torch.no_grad():
            self.into.weight[:, :, 0, 0] = torch.tensor([[-0.1, 0.0, 0.1], [1000.0, 1000.0, 1000.0]])
            self.out_of.weight[:, :, 0, 0] = torch.tensor([[100.0, 0.0], [-100.0, 0.0]])
            for layer in self.rest:
                layer.weight[:, :, 0, 0] = torch.eye(2)  # type: ignore[operator]

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        return self.rest(self.out_of(self.into(image_NCHW))).mean(dim=(2, 3))


class NonlinearNetwork(nn.Module):
    """A convolution, an activation and a mean."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 2, 3))

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        return self.layers(image_NCHW).mean(dim=(2, 3))


def exported(network: nn.Module, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Export a network; return the file and its metadata."""
    raw, file = folder / "raw.onnx", folder / "float32.onnx"
    to_onnx(network, OUTLINE, raw)
    simplify(raw, file)
    cut = extract_preprocessing(onnx.load(file))
    assert cut is not None
    about = OUTLINE.as_json() | {"version": "1", "opset": OPSET, "precision": "float32"}
    about |= {"preprocessing_output": cut[0], "preprocessing": base64.b64encode(cut[1]).decode()}
    write_metadata_with_probe(file, about)
    return file, about


def images(count: int, side: int = SIDE) -> list[np.ndarray]:
    """Return noise images with more blue in even ones and more red in odd ones."""
    drawn = np.random.default_rng(0).integers(60, 140, (count, side, side, 3))
    for number, image in enumerate(drawn):
        image[..., 0 if number % 2 else 2] += 25
    return list(drawn.astype(np.uint8))


def encoded(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], VariantSetup]:
    """File of the sensitive network, its metadata, and the setup of its variants."""
    file, about = exported(SensitiveNetwork(), tmp_path_factory.mktemp("frail"))
    seen = images(200)
    files = [encoded(image) for image in seen]
    judge = DropEvaluator([i % 2 for i in range(200)], np.arange(200), OUTLINE, "accuracy", 200, 0.95)
    return file, about, VariantSetup(lambda: files, len(files), judge, seen[:16], 0.02, 1, "onnxruntime")


def test_int8_keeps_sensitive_layers_in_float32(
    frail: tuple[Path, dict[str, Any], VariantSetup],
) -> None:
    file, about, bench = frail
    _, found = select_variant(file, about, ["int8"], bench)
    int8 = next(variant for variant in found if variant.name == "int8")
    first = [node.name for node in onnx.load(file).graph.node if node.op_type == "Conv"][:FRAIL]
    assert sorted(int8.left) == sorted(first)
    assert int8.holds, int8.verdict
    assert sorted(Model(file.with_name(int8.file)).metadata["left_in_float32"]) == sorted(first)


def test_int8_is_rejected_if_every_layer_is_sensitive(
    frail: tuple[Path, dict[str, Any], VariantSetup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stages.quantization.selection.FLOAT32_SHARES", (0.0, 1 / 8)
    )  # one of the two sensitive layers is not enough
    file, about, bench = frail
    name, found = select_variant(file, about, ["int8"], bench)
    assert name == "float32"
    int8 = next(variant for variant in found if variant.name == "int8")
    assert not int8.holds
    assert "above export.max_score_drop 0.02" in int8.verdict


def test_hard_swish_remains_one_node(tmp_path: Path) -> None:
    file, _ = exported(NonlinearNetwork(nn.Hardswish()), tmp_path)
    assert [node.op_type for node in onnx.load(file).graph.node if "Hard" in node.op_type] == ["HardSwish"]


def test_16_bit_letterbox_preprocessing_matches_training(tmp_path: Path) -> None:
    spec = replace(OUTLINE, channels=1, depth=16, fit="letterbox")
    raw, file = tmp_path / "raw.onnx", tmp_path / "float32.onnx"
    to_onnx(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), spec, raw)
    simplify(raw, file)
    cut = extract_preprocessing(onnx.load(file))
    assert cut is not None
    image = np.random.default_rng(0).integers(0, 65536, (1, 50, 23, 1), np.uint16)
    (working,) = create_session(cut[1], 1).run(None, {"image": image})
    expected = fit_image(torch.from_numpy(image), "letterbox", SIDE).numpy()
    assert np.array_equal(working.reshape(expected.shape), expected)
    assert (expected[0, :, -1] == 0).all(), "black beside it"
    create_session(file, 1).run(None, {"image": image})


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File that OpenVINO may run in float32."""
    pytest.importorskip("openvino")
    file, about = exported(NonlinearNetwork(nn.ReLU()), tmp_path_factory.mktemp("bent"))
    write_metadata_with_probe(file, about | {"openvino_precisions": ["float32"]})
    return file


@pytest.fixture
def shipped(bent: Path, tmp_path: Path) -> Path:
    """Copy of the file for tests that change it."""
    return Path(shutil.copy(bent, tmp_path))


def change_metadata(file: Path, **changes: Any) -> Path:
    stored = {prop.key: json.loads(prop.value) for prop in onnx.load(file).metadata_props}
    write_metadata(file, stored | changes)
    return file


@pytest.mark.parametrize("side", [SIDE, 37])
def test_openvino_matches_onnx_runtime_at_any_size(shipped: Path, side: int) -> None:
    first, other = Model(shipped, 1, "onnxruntime"), Model(shipped, 1, "openvino")
    assert (first.engine.name, other.engine.name) == ("onnxruntime", "openvino")
    for image in images(4, side):
        assert other.predict(image) == pytest.approx(first.predict(image), abs=1e-5)
    together = other.predict_batch(images(4, side))
    assert np.stack(together) == pytest.approx(np.stack(first.predict_batch(images(4, side))), abs=1e-5)


class SlowEngine:
    """Engine with a fixed latency."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.precision, self.seconds = name, "float32", seconds

    def run(self, image_NHWC: np.ndarray) -> list[np.ndarray]:
        time.sleep(self.seconds)
        return [image_NHWC]


@pytest.mark.parametrize(("seconds", "taken"), [(0.001, "openvino"), (0.02, "onnxruntime")])
def test_engine_is_selected_if_clearly_faster(seconds: float, taken: str) -> None:
    engines = [SlowEngine("onnxruntime", 0.01), SlowEngine("openvino", seconds)]
    assert select_fastest(engines, np.zeros((1, 2, 2, 3), np.uint8)).name == taken  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_uses_the_requested_precision(shipped: Path, precision: str) -> None:
    change_metadata(shipped, openvino_precisions=["float32", "bfloat16"])
    assert Model(shipped, 1, "openvino", precision).engine.precision == precision
    with pytest.raises(UserError, match="did not accept openvino in int8"):
        Model(shipped, 1, "openvino", "int8")


def test_openvino_requires_acceptance_by_export(shipped: Path) -> None:
    change_metadata(shipped, openvino_precisions=[])
    assert Model(shipped, 1, "auto").engine.name == "onnxruntime"
    with pytest.raises(UserError, match="did not accept openvino"):
        Model(shipped, 1, "openvino")


def test_engine_with_different_probe_output_is_rejected(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = OpenVino.run
    monkeypatch.setattr(OpenVino, "run", lambda self, image: [1.1 * values for values in run(self, image)])
    assert Model(shipped, 1, "auto").engine.name == "onnxruntime"
    with pytest.raises(UserError, match="outputs of openvino on this machine differ"):
        Model(shipped, 1, "openvino")


@pytest.mark.parametrize(("name", "engine"), [("float32", "onnxruntime"), ("float32/openvino", "openvino")])
def test_shipped_model_uses_the_selected_engine(shipped: Path, name: str, engine: str) -> None:
    folder = shipped.parent
    shipped.rename(folder / "model.onnx")
    found = [{"name": name, "engine": engine, "precision": "float32"}]
    (folder / "variants.json").write_text(json.dumps({"shipped": name, "variants": found}))
    assert runtime.open_shipped_model(folder, 1).engine.name == engine


def test_file_with_changed_probe_output_is_refused(shipped: Path) -> None:
    stored = json.loads(next(p.value for p in onnx.load(shipped).metadata_props if p.key == "self_test"))
    change_metadata(shipped, self_test=[1.1 * value for value in stored])
    with pytest.raises(UserError, match="on this machine differ from those at export"):
        Model(shipped, 1, "onnxruntime")


def test_bfloat16_is_close_to_float32(shipped: Path) -> None:
    half, exact = open_with_openvino(shipped, "bfloat16", 1), Model(shipped, 1, "onnxruntime")
    image = images(1)[0]
    assert half.predict(image) == pytest.approx(exact.predict(image), abs=0.02)


@pytest.mark.parametrize(
    ("spec", "answer", "kept"),
    [
        (
            TaskSpec("regression", "scalar", "scalars", scalars=("age",), mean=(1000.0,), deviation=(2.0,)),
            [[1004.0]],
            [2.0],
        ),
        (TaskSpec("landmarks", "heatmap", "points", points=("eye",)), [[[30.0, 4.0, 0.75]]], [0.75]),
        (OUTLINE, [[0.25, 0.75]], [0.25, 0.75]),
    ],
)
def test_probe_output_is_stored_in_comparable_units(spec: TaskSpec, answer: Any, kept: list[float]) -> None:
    class Fixed:
        def run(self, image_NHWC: np.ndarray) -> list[np.ndarray]:
            return [np.array(answer, np.float32)]

    assert predict_probe_image(Fixed(), spec) == kept  # type: ignore[arg-type]


GROWN = """
import sys
from pathlib import Path
import numpy as np, psutil
from stages.runtime import Model

model, image = Model(Path(sys.argv[1]), 1, "onnxruntime"), np.zeros((4800, 4800, 3), np.uint8)
model.predict(image[:1000])
before = psutil.Process().memory_info().rss
model.predict(image)
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


def test_memory_of_a_large_image_is_released(bent: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWN, str(bent)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200, "some 300 MB are kept otherwise"
