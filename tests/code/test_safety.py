"""Models that are refused before they are opened."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.frame import UserError
from stages.runtime import Model
from stages.runtime.safety import refuse_malicious
from tests.shipped import colour_model


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return colour_model(tmp_path / "model.onnx")


def test_a_sound_model_passes(sound: Path) -> None:
    refuse_malicious(sound)
    assert Model(sound).outline.task == "classification"


def test_a_tensor_in_another_file_is_refused(sound: Path, tmp_path: Path) -> None:
    model = onnx.load(sound)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="in another file"):
        Model(tmp_path / "bad.onnx")


def test_a_tensor_that_says_it_is_huge_is_refused(sound: Path, tmp_path: Path) -> None:
    model = onnx.load(sound)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 20, 1 << 20])
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="has the shape"):
        Model(tmp_path / "bad.onnx")


def test_a_tensor_made_out_of_nothing_is_refused_where_it_is_huge(sound: Path, tmp_path: Path) -> None:
    model = onnx.load(sound)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "huge"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["filled"]))
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="out of nothing"):
        Model(tmp_path / "bad.onnx")


def test_the_bits_of_a_float_are_no_size(sound: Path, tmp_path: Path) -> None:
    model = onnx.load(sound)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1.0], np.float32), "one"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "shape"))
    model.graph.node.append(helper.make_node("Expand", ["one", "shape"], ["ones"]))
    (tmp_path / "fine.onnx").write_bytes(model.SerializeToString())
    refuse_malicious(tmp_path / "fine.onnx")


def test_no_damage_gets_past_with_a_traceback(sound: Path, tmp_path: Path) -> None:
    data, rng = bytearray(sound.read_bytes()), np.random.default_rng(0)
    refused = 0
    for number in range(200):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 1 + number % 4):
            damaged[place] = int(rng.integers(0, 256))
        (tmp_path / "bad.onnx").write_bytes(damaged[: int(rng.integers(1, len(data)))] if number % 3 == 0 else damaged)
        try:
            refuse_malicious(tmp_path / "bad.onnx")
        except UserError:
            refused += 1
    assert refused > 50
