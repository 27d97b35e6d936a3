"""Tests of the validation of untrusted model files."""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.core.errors import UserError
from stages.runtime import Model
from stages.runtime.engines import OpenVino
from stages.runtime.model_validation import refuse_malicious
from tests.shipped import colour_model


@pytest.fixture
def valid_model(tmp_path: Path) -> Path:
    return colour_model(tmp_path / "model.onnx")


def test_valid_model_passes(valid_model: Path) -> None:
    refuse_malicious(valid_model)
    assert Model(valid_model).spec.task == "classification"


def test_external_tensor_data_is_refused(valid_model: Path, tmp_path: Path) -> None:
    model = onnx.load(valid_model)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="in another file"):
        Model(tmp_path / "bad.onnx")


def test_tensor_larger_than_its_data_is_refused(valid_model: Path, tmp_path: Path) -> None:
    model = onnx.load(valid_model)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 20, 1 << 20])
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="has the shape"):
        Model(tmp_path / "bad.onnx")


HUGE = [1 << 20, 1 << 20]


def as_initializer(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array(HUGE, np.int64), "huge"))


def as_numbers(graph: onnx.GraphProto) -> None:
    graph.initializer.append(helper.make_tensor("huge", TensorProto.INT64, [2], HUGE))


def as_constant(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Constant", [], ["huge"], value=numpy_helper.from_array(np.array(HUGE))))


def as_constant_numbers(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Constant", [], ["huge"], value_ints=HUGE))


def behind_another_node(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array(HUGE, np.int64), "first"))
    graph.node.append(helper.make_node("Identity", ["first"], ["huge"]))


def computed(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 10, 1 << 10], np.int64), "root"))
    graph.node.append(helper.make_node("Mul", ["root", "root"], ["huge"]))


@pytest.mark.parametrize(
    "make", [as_initializer, as_numbers, as_constant, as_constant_numbers, behind_another_node, computed]
)
def test_creation_of_a_huge_tensor_is_refused(
    make: Callable[[onnx.GraphProto], None], valid_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(valid_model)
    make(model.graph)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["filled"]))
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="independently of the image"):
        Model(tmp_path / "bad.onnx")


def test_tensor_may_grow_with_the_image(valid_model: Path, tmp_path: Path) -> None:
    model = onnx.load(valid_model)
    model.graph.node.insert(0, helper.make_node("Shape", ["image"], ["shape"]))
    model.graph.node.insert(1, helper.make_node("ConstantOfShape", ["shape"], ["black"]))
    (tmp_path / "fine.onnx").write_bytes(model.SerializeToString())
    refuse_malicious(tmp_path / "fine.onnx")


def test_field_number_that_protobuf_truncates_is_refused(valid_model: Path, tmp_path: Path) -> None:
    graph, initializer = 7, 5
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    serialized = tensor.SerializeToString()
    hidden = _varint((initializer << 3 | 2) | 1 << 32) + _varint(len(serialized)) + serialized
    (tmp_path / "bad.onnx").write_bytes(
        valid_model.read_bytes() + _varint(graph << 3 | 2) + _varint(len(hidden)) + hidden
    )
    with pytest.raises(UserError, match="damaged"):
        refuse_malicious(tmp_path / "bad.onnx")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def test_preprocessing_graph_in_the_metadata_is_checked(valid_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    preprocessing = onnx.load(valid_model)
    tensor = preprocessing.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    metadata = {
        "preprocessing": base64.b64encode(preprocessing.SerializeToString()).decode(),
        "preprocessing_output": "level",
    }
    with pytest.raises(UserError, match="preprocessing graph stores a tensor in another file"):
        OpenVino(valid_model, metadata, ["probability"], "float32", 1)


def test_unknown_metadata_is_ignored(valid_model: Path, tmp_path: Path) -> None:
    model = onnx.load(valid_model)
    model.metadata_props.add(key="author", value="not JSON")
    onnx.save(model, tmp_path / "signed.onnx")
    assert "author" not in Model(tmp_path / "signed.onnx").metadata


@pytest.mark.parametrize(
    ("key", "value", "message"), [("labels", "red, green", "is not JSON"), ("precision", '"fp4"', "fp4")]
)
def test_invalid_metadata_is_reported(key: str, value: str, message: str, valid_model: Path, tmp_path: Path) -> None:
    model = onnx.load(valid_model)
    metadata = {prop.key: prop.value for prop in model.metadata_props} | {key: value}
    helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(UserError, match=message):
        Model(tmp_path / "bad.onnx")


def test_float_constant_is_not_a_shape(valid_model: Path, tmp_path: Path) -> None:
    model = onnx.load(valid_model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1.0], np.float32), "one"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "shape"))
    model.graph.node.append(helper.make_node("Expand", ["one", "shape"], ["ones"]))
    (tmp_path / "fine.onnx").write_bytes(model.SerializeToString())
    refuse_malicious(tmp_path / "fine.onnx")


def test_damaged_files_raise_user_errors(valid_model: Path, tmp_path: Path) -> None:
    data, rng = bytearray(valid_model.read_bytes()), np.random.default_rng(0)
    refused = 0
    for number in range(200):
        damaged = bytearray(data)
        for offset in rng.integers(0, len(data), 1 + number % 4):
            damaged[offset] = int(rng.integers(0, 256))
        (tmp_path / "bad.onnx").write_bytes(damaged[: int(rng.integers(1, len(data)))] if number % 3 == 0 else damaged)
        try:
            refuse_malicious(tmp_path / "bad.onnx")
        except UserError:
            refused += 1
    assert refused > 50
