#!/usr/bin/env bash
# Versions:  openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, CPython 3.11
# Behaviour: NonMaxSuppression in ONNX removes a box if its overlap (intersection over union) with a chosen box is *above*
#            iou_threshold; ONNX Runtime and the reference implementation do so. The CPU plugin of OpenVINO also removes a
#            box if the overlap *equals* the threshold. With a threshold of 0, the default of ONNX, it therefore keeps one
#            box per class, although the boxes are disjoint.
# Remedy:    Use a threshold that no overlap equals: slightly above 0 for disjoint boxes, above 1 to keep all of them.
# Output:    see EXPECTED: the indices of the boxes that remain
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > compare_nms.py <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

CASES = {
    "half of the first box, threshold 0.5": (0.5, [[0, 0, 2, 2], [0, 0, 2, 1]]),
    "half of the first box, threshold 0.51": (0.51, [[0, 0, 2, 2], [0, 0, 2, 1]]),
    "disjoint, threshold 0": (0.0, [[0, 0, 2, 2], [5, 5, 6, 6]]),
    "identical, threshold 1": (1.0, [[0, 0, 2, 2], [0, 0, 2, 2]]),
}
for name, (threshold, boxes) in CASES.items():
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "threshold"], ["kept"])],
        "suppression",
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 2]),
        ],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, [None, 3])],
        [
            helper.make_tensor("most", TensorProto.INT64, [1], [10]),
            helper.make_tensor("threshold", TensorProto.FLOAT, [1], [threshold]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    values = {"boxes": np.array([boxes], np.float32), "scores": np.array([[[0.9, 0.8]]], np.float32)}
    runtime = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, values)[0]
    reference = ReferenceEvaluator(model).run(None, values)[0]
    plugin = openvino.compile_model("model.onnx", "CPU")(values)[0]
    kept = {"ONNX Runtime": runtime, "reference": reference, "OpenVINO": plugin}
    print(f"{name}: " + ", ".join(f"{who} {rows[:, 2].tolist()}" for who, rows in kept.items()))
PYTHON

env/bin/python compare_nms.py 2> messages.txt | tee seen.txt
diff seen.txt - <<'EXPECTED'
half of the first box, threshold 0.5: ONNX Runtime [0, 1], reference [0, 1], OpenVINO [0]
half of the first box, threshold 0.51: ONNX Runtime [0, 1], reference [0, 1], OpenVINO [0, 1]
disjoint, threshold 0: ONNX Runtime [0, 1], reference [0, 1], OpenVINO [0]
identical, threshold 1: ONNX Runtime [0, 1], reference [0, 1], OpenVINO [0]
EXPECTED
