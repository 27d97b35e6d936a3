#!/usr/bin/env bash
# Versions:  onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6, CPython 3.11
# Behaviour: Resize (opset 18 or later) with antialias=1 sets negative values of an int8 tensor to zero, in mode linear as
#            well as cubic. int8 without antialias, int32 and float32 keep them. An image that is stored as signed 8-bit
#            integers, as after quantization with a zero point of 0, loses its darker half. No error or warning is given.
# Remedy:    Cast to float32 or int32 before an antialiased Resize, or resize before quantization.
# Output:    see EXPECTED: a row of 8 pixels reduced to 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > resize.py <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

ROW = [-100, -60, -20, 0, 20, 40, 60, 100]


def resize(dtype, mode, antialias):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, antialias=antialias)],
        "resize",
        [helper.make_tensor_value_info("x", kind, [1, 1, 1, 8])],
        [helper.make_tensor_value_info("y", kind, [1, 1, 1, 4])],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array(ROW, dtype).reshape(1, 1, 1, 8)})[0].ravel()


for dtype, mode, antialias in [
    ("int8", "linear", 0), ("int8", "linear", 1), ("int8", "cubic", 1),
    ("int32", "linear", 1), ("int32", "cubic", 1), ("float32", "linear", 1),
]:
    values = ", ".join(f"{value:g}" for value in resize(dtype, mode, antialias))
    print(f"{dtype}, {mode}, antialias={antialias}: {values}")
PYTHON

env/bin/python resize.py 2> messages.txt | tee seen.txt
diff seen.txt - <<'EXPECTED'
int8, linear, antialias=0: -80, -10, 30, 80
int8, linear, antialias=1: 0, 0, 30, 78
int8, cubic, antialias=1: 0, 0, 29, 81
int32, linear, antialias=1: -75, -13, 30, 78
int32, cubic, antialias=1: -79, -10, 29, 81
float32, linear, antialias=1: -75, -12.5, 30, 77.5
EXPECTED
