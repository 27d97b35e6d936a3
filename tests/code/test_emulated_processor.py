"""int8 and bfloat16 on an emulated x86 processor with AVX2 but without VNNI: `make test-emulation`."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.quantization.int8 import Quantizer
from stages.quantization.selection import INT8, write_metadata
from stages.runtime import Model
from tests.code.test_quantization import PositiveNetwork, bright_images, export_float32
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.emulation,
    pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-x86_64 is not installed (Debian: qemu-user)"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the packages of this machine are not for x86-64"),
]
PROCESSORS = ("Haswell", "Skylake-Client")
CHANNELS = 64

ONNX_RUNTIME_SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, onnxruntime
from stages.runtime import Model
from stages.runtime.engines import create_session

folder, found = Path(sys.argv[1]), {}
for operator in ("Conv", "MatMul"):
    for saturating in (True, False):
        session = create_session(folder / f"{operator}.onnx", 1, saturating)
        image = np.ones(session.get_inputs()[0].shape, np.float32)
        name = f"{operator} {'saturating' if saturating else 'exact'}"
        found[name] = float(session.run(None, {"image": image})[0].max())
for name in ("int8", "shared"):
    model = Model(folder / f"{name}.onnx", 1, "onnxruntime")
    found[name] = [model.predict(image).tolist() for image in np.load(folder / "images.npy")]
print(json.dumps(found))
"""
OPENVINO_SCRIPT = """
import json, sys
from pathlib import Path
from stages.quantization.selection import computes_in_bfloat16, open_with_openvino
from stages.runtime import Model
from stages.runtime.engines import openvino_saturates

folder = Path(sys.argv[1])
bfloat16 = computes_in_bfloat16(open_with_openvino(folder / "float32.onnx", "bfloat16", 1))
engine = Model(folder / "int8.onnx", 1, "auto").engine.name
print(json.dumps({"saturates": openvino_saturates(), "bfloat16": bfloat16, "engine": engine}))
"""


def emulate(processor: str, script: str, folder: Path) -> Any:
    """Run a script on an emulated processor, with a folder as its argument; return the JSON value that it prints."""
    done = subprocess.run(
        ["qemu-x86_64", "-cpu", processor, sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_product(operator: str, file: Path) -> None:
    """Write an int8 graph that adds 64 products of the largest activation and weight; the exact output is 64."""
    shape = [1, CHANNELS] + [1, 1] * (operator == "Conv")
    weights = np.full((16, CHANNELS, 1, 1) if operator == "Conv" else (CHANNELS, 16), 127, np.int8)
    constants = {
        "image_scale": np.float32(1 / 255),
        "weights_scale": np.float32(1 / 127),
        "sum_scale": np.float32(CHANNELS / 255),
        "unsigned_zero": np.uint8(0),
        "signed_zero": np.int8(0),
        "weights": weights,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "image_scale", "unsigned_zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "image_scale", "unsigned_zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["weights", "weights_scale", "signed_zero"], ["real_weights"]),
        helper.make_node(operator, ["rounded", "real_weights"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "sum_scale", "unsigned_zero"], ["sum_levels"]),
        helper.make_node("DequantizeLinear", ["sum_levels", "sum_scale", "unsigned_zero"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two products, an int8 file, one whose nodes share weights, a float32 file, and images."""
    folder = tmp_path_factory.mktemp("models")
    for operator in ("Conv", "MatMul"):
        write_product(operator, folder / f"{operator}.onnx")
    np.save(folder / "images.npy", bright_images())
    source, metadata = export_float32(PositiveNetwork(), folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("int8", "shared"):
            if name == "shared":
                patch.setattr("stages.quantization.int8.separate_shared_weights", lambda model: None)
            Quantizer(source, bright_images(), folder).write(folder / f"{name}.onnx")
            write_metadata(folder / f"{name}.onnx", metadata | {"precision": INT8, "openvino_precisions": [INT8]})
    return folder


@pytest.mark.parametrize("processor", PROCESSORS)
def test_int8_in_onnx_runtime_is_exact_without_vnni(models: Path, processor: str) -> None:
    found = emulate(processor, ONNX_RUNTIME_SCRIPT, models)
    for operator in ("Conv", "MatMul"):
        assert found[f"{operator} saturating"] == pytest.approx(32.38, abs=0.01), "this processor does not saturate"
        assert found[f"{operator} exact"] == pytest.approx(CHANNELS, abs=0.01)
    for name in ("int8", "shared"):
        model = Model(models / f"{name}.onnx", 1, "onnxruntime")
        here = [model.predict(image) for image in bright_images()]
        assert np.array(found[name]) == pytest.approx(np.array(here), abs=1e-4)


def test_int8_and_bfloat16_in_openvino_are_not_used_without_vnni(models: Path) -> None:
    pytest.importorskip("openvino")
    found = emulate("Haswell", OPENVINO_SCRIPT, models)
    assert found == {"saturates": True, "bfloat16": False, "engine": "onnxruntime"}
