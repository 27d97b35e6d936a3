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
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from stages import runtime
from stages.core.errors import UserError
from stages.export import OPSET, to_onnx
from stages.preprocessing.resize import fit_image
from stages.quantization.int8 import Quantizer
from stages.quantization.onnx_graph import extract_preprocessing, simplify
from stages.quantization.score_drop import DropEvaluator
from stages.quantization.selection import (
    INT8,
    LabelFreeImages,
    VariantSetup,
    open_with_openvino,
    select_variant,
    write_metadata,
    write_metadata_with_probe,
)
from stages.runtime import Model
from stages.runtime.engine_selection import PROBE_TOLERANCE, predict_probe_image, select_fastest
from stages.runtime.engines import OnnxRuntime, OpenVino, create_session
from stages.tasks.task_spec import TaskSpec
from tests.conftest import ROOT

SIDE = 16
SPEC = TaskSpec("classification", "class", "label", labels=("blue", "red"), size=SIDE)
SENSITIVE_LAYERS = 2
"""Number of layers of `SensitiveNetwork` that are sensitive to int8."""


class SensitiveNetwork(nn.Module):
    """Network that classifies red and blue images by a value 10,000 times smaller than another."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.project = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
        self.rest = nn.Sequential(*(nn.Conv2d(2, 2, 1, bias=False) for _ in range(6)))
        with torch.no_grad():
            self.encode.weight[:, :, 0, 0] = torch.tensor([[-0.1, 0.0, 0.1], [1000.0, 1000.0, 1000.0]])
            self.project.weight[:, :, 0, 0] = torch.tensor([[100.0, 0.0], [-100.0, 0.0]])
            for layer in self.rest:
                layer.weight[:, :, 0, 0] = torch.eye(2)  # type: ignore[operator]

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        return self.rest(self.project(self.encode(image_NCHW))).mean(dim=(2, 3))


class NonlinearNetwork(nn.Module):
    """Network of convolutions with an activation, and a mean."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 2, 3))

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        return self.layers(image_NCHW).mean(dim=(2, 3))


def export_float32(network: nn.Module, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Export a network; return the file and its metadata."""
    raw, file = folder / "raw.onnx", folder / "float32.onnx"
    to_onnx(network, SPEC, raw)
    simplify(raw, file)
    cut = extract_preprocessing(onnx.load(file))
    assert cut is not None
    metadata = SPEC.as_json() | {"version": "1", "opset": OPSET, "precision": "float32"}
    metadata |= {"preprocessing_output": cut[0], "preprocessing": base64.b64encode(cut[1]).decode()}
    write_metadata_with_probe(file, metadata)
    return file, metadata


def images(count: int, side: int = SIDE) -> list[np.ndarray]:
    """Return noise images with more blue in even ones and more red in odd ones."""
    image_NHWC = np.random.default_rng(0).integers(60, 140, (count, side, side, 3))
    for number, image in enumerate(image_NHWC):
        image[..., 0 if number % 2 else 2] += 25
    return list(image_NHWC.astype(np.uint8))


def encode_png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], VariantSetup]:
    """File of the sensitive network, its metadata, and the setup of its variants."""
    file, metadata = export_float32(SensitiveNetwork(), tmp_path_factory.mktemp("sensitive"))
    samples = images(200)
    files = [encode_png(image) for image in samples]
    evaluator = DropEvaluator([i % 2 for i in range(200)], np.arange(200), SPEC, "accuracy", 200, 0.95)
    return file, metadata, VariantSetup(lambda: files, len(files), evaluator, samples[:16], 0.02, 1, "onnxruntime")


def test_int8_keeps_sensitive_layers_in_float32(
    sensitive: tuple[Path, dict[str, Any], VariantSetup],
) -> None:
    file, metadata, setup = sensitive
    _, found = select_variant(file, metadata, ["int8"], setup)
    int8 = next(variant for variant in found if variant.name == "int8")
    expected = [node.name for node in onnx.load(file).graph.node if node.op_type == "Conv"][:SENSITIVE_LAYERS]
    assert sorted(int8.left) == sorted(expected)
    assert int8.holds, int8.verdict
    assert sorted(Model(file.with_name(int8.file)).metadata["left_in_float32"]) == sorted(expected)


def test_int8_is_rejected_if_every_layer_is_sensitive(
    sensitive: tuple[Path, dict[str, Any], VariantSetup], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The share allows one layer in float32, but two are sensitive.
    monkeypatch.setattr("stages.quantization.selection.FLOAT32_SHARES", (0.0, 1 / 8))
    file, metadata, setup = sensitive
    name, found = select_variant(file, metadata, ["int8"], setup)
    assert name == "float32"
    int8 = next(variant for variant in found if variant.name == "int8")
    assert not int8.holds
    assert "above export.max_score_drop 0.02" in int8.verdict


class PositiveNetwork(nn.Module):
    """Network with large positive weights: sums of two products exceed 16 bits for bright images.

    One layer is applied twice, so that two nodes share its weights.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        first, twice = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.layers = nn.Sequential(first, nn.ReLU(), twice, nn.ReLU(), twice, nn.ReLU())
        with torch.no_grad():
            for values in self.layers.parameters():
                values.abs_()

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        mean_NC = self.layers(image_NCHW).mean(dim=(2, 3))
        return torch.stack([mean_NC[:, 0], mean_NC[:, 1:].mean(dim=1)], dim=1)


@pytest.fixture(scope="module")
def positive_int8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """int8 file of the positive network without a stored probe output, and its metadata."""
    folder = tmp_path_factory.mktemp("positive")
    source, metadata = export_float32(PositiveNetwork(), folder)
    file = folder / "int8.onnx"
    Quantizer(source, bright_images(), folder).write(file)
    return file, metadata | {"precision": INT8}


def bright_images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(150, 256, (8, SIDE, SIDE, 3), np.uint8))


def test_int8_does_not_saturate_on_any_processor(positive_int8: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    source, metadata = positive_int8
    file = Path(shutil.copy(source, tmp_path))
    write_metadata(file, metadata)
    model = Model(file, 1, "onnxruntime")
    for image in bright_images():
        assert model.predict(image) == pytest.approx(predict_in_float32(file, image), abs=2e-4)


@pytest.fixture
def shared_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """int8 file of the positive network in which two nodes share weights, as earlier versions wrote it."""
    monkeypatch.setattr("stages.quantization.int8.separate_shared_weights", lambda model: None)
    source, metadata = export_float32(PositiveNetwork(), tmp_path)
    file = tmp_path / "int8.onnx"
    Quantizer(source, bright_images(), tmp_path).write(file)
    write_metadata(file, metadata | {"precision": INT8})
    used = [name for node in onnx.load(file).graph.node if node.op_type == "Conv" for name in node.input[1:2]]
    assert len(used) == 3
    weights = [node.input[0] for name in used for node in onnx.load(file).graph.node if name in node.output]
    assert len(set(weights)) == 2, "no weights are shared"
    return file


def predict_in_float32(file: Path, image: np.ndarray) -> np.ndarray:
    """Return the output of an int8 file whose products are computed in float32."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image[None]})[0][0])


def test_int8_file_with_shared_weights_does_not_saturate(shared_int8: Path) -> None:
    model = Model(shared_int8, 1, "onnxruntime")
    for image in bright_images():
        assert model.predict(image) == pytest.approx(predict_in_float32(shared_int8, image), abs=2e-4)


def test_openvino_is_not_used_for_int8_where_it_saturates(shared_int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("stages.runtime.engine_selection.openvino_saturates", lambda: True)
    change_metadata(shared_int8, openvino_precisions=[INT8])
    assert Model(shared_int8, 1, "auto").engine.name == "onnxruntime"
    with pytest.raises(UserError, match="int8 in openvino saturates on this processor"):
        Model(shared_int8, 1, "openvino")


@pytest.mark.parametrize("saturates", [True, False])
def test_int8_in_openvino_is_measured_only_if_it_does_not_saturate(
    sensitive: tuple[Path, dict[str, Any], VariantSetup], monkeypatch: pytest.MonkeyPatch, saturates: bool
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("stages.quantization.selection.openvino_saturates", lambda: saturates)
    file, metadata, setup = sensitive
    _, found = select_variant(file, metadata, ["int8"], setup)
    verdict = next(variant for variant in found if variant.name == "int8/openvino").verdict
    assert ("saturates on this processor" in verdict) == saturates


def test_file_with_the_saturated_probe_output_of_an_earlier_version_is_opened(
    positive_int8: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, metadata = positive_int8
    file = Path(shutil.copy(source, tmp_path))
    saturated = predict_probe_image(OnnxRuntime(create_session(file, 1, saturating=True), INT8), SPEC)
    write_metadata(file, metadata | {"self_test": saturated})
    monkeypatch.setitem(PROBE_TOLERANCE, INT8, 1e-6)
    assert Model(file, 1, "onnxruntime").engine.precision == INT8


@pytest.fixture
def few_files(sensitive: tuple[Path, dict[str, Any], VariantSetup]) -> VariantSetup:
    """Setup with 12 validation images, too few to bound a drop by 0.001."""
    _, _, setup = sensitive
    files = [encode_png(image) for image in images(12)]
    evaluator = DropEvaluator([i % 2 for i in range(12)], np.arange(12), SPEC, "accuracy", 200, 0.95)
    return replace(setup, files=lambda: files, count=12, judge=evaluator, max_drop=0.001)


@pytest.mark.parametrize(("change", "accepted"), [(0.0, True), (1e-3, False)])
def test_float32_in_another_engine_requires_no_statistics(
    model_file: Path, few_files: VariantSetup, monkeypatch: pytest.MonkeyPatch, change: float, accepted: bool
) -> None:
    run = OpenVino.run
    monkeypatch.setattr(OpenVino, "run", lambda self, image: [values + change for values in run(self, image)])
    metadata = Model(model_file, 1, "onnxruntime").metadata
    _, found = select_variant(model_file, metadata, [], few_files)
    other = next(variant for variant in found if variant.name == "float32/openvino")
    assert other.rounding == pytest.approx(change, abs=1e-5)
    assert other.holds == accepted
    assert ("which is rounding" if accepted else "too few validation images") in other.verdict


def test_bfloat16_is_not_accepted_on_a_processor_without_it(
    model_file: Path, few_files: VariantSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.quantization.selection.computes_in_bfloat16", lambda model: False)
    _, found = select_variant(model_file, Model(model_file, 1, "onnxruntime").metadata, ["bfloat16"], few_files)
    half = next(variant for variant in found if variant.precision == "bfloat16")
    assert not half.holds and half.drop is None and "does not compute in bfloat16" in half.verdict


@pytest.mark.parametrize(("limit", "accepted"), [(0.04, True), (0.06, False)])
def test_images_without_labels_can_reject_a_variant(
    few_files: VariantSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, accepted: bool
) -> None:
    file, metadata = export_float32(NonlinearNetwork(nn.ReLU()), tmp_path)
    samples = images(8)
    measure = DropEvaluator.disagreement

    def disagreement(judge: DropEvaluator, exact: Any, *rest: Any) -> float | None:
        return limit if len(exact) == len(samples) else measure(judge, exact, *rest)

    monkeypatch.setattr(DropEvaluator, "disagreement", disagreement)
    model = Model(file, 1, "onnxruntime")
    clear = sorted(images(200), key=lambda image: abs(float(np.subtract(*model.predict(image)))))[-12:]
    judge = replace(few_files.judge, truths=[int(model.predict(image).argmax()) for image in clear])
    files = [encode_png(image) for image in clear]
    more = LabelFreeImages("more images", samples, np.arange(len(samples)))
    setup = replace(few_files, files=lambda: files, judge=judge, max_drop=0.05, label_free=[more])
    _, found = select_variant(file, metadata, ["int8"], setup)
    int8 = next(variant for variant in found if variant.name == "int8")
    assert int8.drop is not None and int8.drop.magnification > 1
    assert int8.holds == accepted, int8.verdict


def test_hard_swish_remains_one_node(tmp_path: Path) -> None:
    file, _ = export_float32(NonlinearNetwork(nn.Hardswish()), tmp_path)
    assert [node.op_type for node in onnx.load(file).graph.node if "Hard" in node.op_type] == ["HardSwish"]


def test_16_bit_letterbox_preprocessing_matches_training(tmp_path: Path) -> None:
    spec = replace(SPEC, channels=1, depth=16, fit="letterbox")
    raw, file = tmp_path / "raw.onnx", tmp_path / "float32.onnx"
    to_onnx(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), spec, raw)
    simplify(raw, file)
    cut = extract_preprocessing(onnx.load(file))
    assert cut is not None
    image = np.random.default_rng(0).integers(0, 65536, (1, 50, 23, 1), np.uint16)
    (working,) = create_session(cut[1], 1).run(None, {"image": image})
    expected = fit_image(torch.from_numpy(image), "letterbox", SIDE).numpy()
    assert np.array_equal(working.reshape(expected.shape), expected)
    assert (expected[0, :, -1] == 0).all(), "the padding is not black"
    create_session(file, 1).run(None, {"image": image})


@pytest.fixture(scope="module")
def openvino_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model file that OpenVINO may run in float32."""
    pytest.importorskip("openvino")
    file, metadata = export_float32(NonlinearNetwork(nn.ReLU()), tmp_path_factory.mktemp("openvino"))
    write_metadata_with_probe(file, metadata | {"openvino_precisions": ["float32"]})
    return file


@pytest.fixture
def model_file(openvino_file: Path, tmp_path: Path) -> Path:
    """Copy of the model file for tests that change it."""
    return Path(shutil.copy(openvino_file, tmp_path))


def change_metadata(file: Path, **changes: Any) -> Path:
    stored = {prop.key: json.loads(prop.value) for prop in onnx.load(file).metadata_props}
    write_metadata(file, stored | changes)
    return file


@pytest.mark.parametrize("side", [SIDE, 37])
def test_openvino_matches_onnx_runtime_at_any_size(model_file: Path, side: int) -> None:
    first, other = Model(model_file, 1, "onnxruntime"), Model(model_file, 1, "openvino")
    assert (first.engine.name, other.engine.name) == ("onnxruntime", "openvino")
    for image in images(4, side):
        assert other.predict(image) == pytest.approx(first.predict(image), abs=1e-5)
    batch = other.predict_batch(images(4, side))
    assert np.stack(batch) == pytest.approx(np.stack(first.predict_batch(images(4, side))), abs=1e-5)


class SlowEngine:
    """Engine with a fixed latency."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.precision, self.seconds = name, "float32", seconds

    def run(self, image_NHWC: np.ndarray) -> list[np.ndarray]:
        time.sleep(self.seconds)
        return [image_NHWC]


@pytest.mark.parametrize(("seconds", "selected"), [(0.001, "openvino"), (0.02, "onnxruntime")])
def test_engine_is_selected_if_clearly_faster(seconds: float, selected: str) -> None:
    engines = [SlowEngine("onnxruntime", 0.01), SlowEngine("openvino", seconds)]
    assert select_fastest(engines, np.zeros((1, 2, 2, 3), np.uint8)).name == selected  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_uses_the_requested_precision(model_file: Path, precision: str) -> None:
    change_metadata(model_file, openvino_precisions=["float32", "bfloat16"])
    assert Model(model_file, 1, "openvino", precision).engine.precision == precision
    with pytest.raises(UserError, match="did not accept openvino in int8"):
        Model(model_file, 1, "openvino", "int8")


def test_openvino_is_used_only_if_accepted_at_export(model_file: Path) -> None:
    change_metadata(model_file, openvino_precisions=[])
    assert Model(model_file, 1, "auto").engine.name == "onnxruntime"
    with pytest.raises(UserError, match="did not accept openvino"):
        Model(model_file, 1, "openvino")


def test_engine_with_different_probe_output_is_rejected(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = OpenVino.run
    monkeypatch.setattr(OpenVino, "run", lambda self, image: [1.1 * values for values in run(self, image)])
    assert Model(model_file, 1, "auto").engine.name == "onnxruntime"
    with pytest.raises(UserError, match="outputs of openvino on this machine differ"):
        Model(model_file, 1, "openvino")


@pytest.mark.parametrize(("name", "engine"), [("float32", "onnxruntime"), ("float32/openvino", "openvino")])
def test_shipped_model_uses_the_selected_engine(model_file: Path, name: str, engine: str) -> None:
    folder = model_file.parent
    model_file.rename(folder / "model.onnx")
    found = [{"name": name, "engine": engine, "precision": "float32"}]
    (folder / "variants.json").write_text(json.dumps({"shipped": name, "variants": found}))
    assert runtime.open_shipped_model(folder, 1).engine.name == engine


def test_file_with_changed_probe_output_is_rejected(model_file: Path) -> None:
    stored = json.loads(next(p.value for p in onnx.load(model_file).metadata_props if p.key == "self_test"))
    change_metadata(model_file, self_test=[1.1 * value for value in stored])
    with pytest.raises(UserError, match="on this machine differ from those at export"):
        Model(model_file, 1, "onnxruntime")


def test_file_whose_probe_output_is_not_finite_is_rejected(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = OnnxRuntime.run
    monkeypatch.setattr(OnnxRuntime, "run", lambda self, image: [np.nan * values for values in run(self, image)])
    with pytest.raises(UserError, match="on this machine are not finite, or their number differs"):
        Model(model_file, 1, "onnxruntime")


def test_bfloat16_is_close_to_float32(model_file: Path) -> None:
    half, exact = open_with_openvino(model_file, "bfloat16", 1), Model(model_file, 1, "onnxruntime")
    image = images(1)[0]
    assert half.predict(image) == pytest.approx(exact.predict(image), abs=0.02)


@pytest.mark.parametrize(
    ("spec", "output", "expected"),
    [
        (
            TaskSpec("regression", "scalar", "scalars", scalars=("age",), mean=(1000.0,), deviation=(2.0,)),
            [[1004.0]],
            [2.0],
        ),
        (TaskSpec("landmarks", "heatmap", "points", points=("eye",)), [[[30.0, 4.0, 0.75]]], [0.75]),
        (SPEC, [[0.25, 0.75]], [0.25, 0.75]),
    ],
)
def test_probe_output_is_stored_in_comparable_units(spec: TaskSpec, output: Any, expected: list[float]) -> None:
    class Fixed:
        def run(self, image_NHWC: np.ndarray) -> list[np.ndarray]:
            return [np.array(output, np.float32)]

    assert predict_probe_image(Fixed(), spec) == expected  # type: ignore[arg-type]


MEMORY_SCRIPT = """
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


def test_memory_of_a_large_image_is_released(openvino_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(openvino_file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200, "about 300 MB were not released"
