#!/usr/bin/env bash
# Versions:  onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, CPython 3.11
# Behaviour: onnx.version_converter converts three operators to a newer opset without an error, but the converted model
#            computes different values. Linear Upsample (opset 9) and Resize (opset 10) place pixels at multiples of the
#            scale; from opset 11 on that is coordinate_transformation_mode="asymmetric", which the converter does not set,
#            so that the new default, half_pixel, moves the image. Hardmax has one maximum per row of a flattened matrix up
#            to opset 11 and one per slice along `axis` from opset 13 on; the converter adds no reshapes. For Softmax,
#            whose definition changed in the same way, it does.
# Remedy:    Export again with the newer opset, or compare the outputs of both models after each conversion.
# Output:    see EXPECTED: the largest difference between the outputs of both models in ONNX Runtime
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > compare_opsets.py <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, version_converter

image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
table = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2])
CASES = {
    "Upsample, linear": (9, 11, image, (1, 1, 8, 8), ["x", "scales"], {"mode": "linear"}),
    "Resize, linear": (10, 11, image, (1, 1, 8, 8), ["x", "scales"], {"mode": "linear"}),
    "Hardmax, axis 1": (11, 13, table, (2, 3, 4), ["x"], {"axis": 1}),
    "Softmax, axis 1": (11, 13, table, (2, 3, 4), ["x"], {"axis": 1}),
}


def predict(model, values):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


for name, (old, new, values, shape, names, settings) in CASES.items():
    graph = helper.make_graph(
        [helper.make_node(name.split(",")[0], names, ["y"], **settings)],
        "one_operator",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [scales] if "scales" in names else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", old)], ir_version=4)
    onnx.checker.check_model(model, full_check=True)
    converted = version_converter.convert_version(model, new)
    onnx.checker.check_model(converted, full_check=True)
    difference = np.abs(predict(model, values) - predict(converted, values)).max()
    print(f"{name}: opset {old} to {new}, largest difference {difference:.2f}")
PYTHON

env/bin/python compare_opsets.py 2> messages.txt | tee seen.txt
diff seen.txt - <<'EXPECTED'
Upsample, linear: opset 9 to 11, largest difference 1.25
Resize, linear: opset 10 to 11, largest difference 1.25
Hardmax, axis 1: opset 11 to 13, largest difference 1.00
Softmax, axis 1: opset 11 to 13, largest difference 0.00
EXPECTED
