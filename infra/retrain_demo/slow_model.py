"""Copy of a model whose predictions are the same, but take much longer."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

SIDE = 1500
"""Side of the matrices that are multiplied in each call: 7 GFLOP."""


def slow_copy(model: Path, copy: Path) -> Path:
    """Write a copy of an ONNX file that multiplies two large matrices in each call; return the copy.

    Args:
        model: file that `export` wrote.
        copy: file to write.
    """
    proto = onnx.load(model)
    output = proto.graph.output[0]
    (last,) = (node for node in proto.graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = "slow_copy_fast_prediction"
    zero = helper.make_tensor("slow_copy_zero", TensorProto.FLOAT, [], [0.0])
    proto.graph.initializer.append(zero)
    proto.graph.node.extend(
        [
            helper.make_node(
                "RandomUniform", [], ["slow_copy_noise"], shape=[SIDE, SIDE], dtype=TensorProto.FLOAT
            ),  # is not computed when the model is loaded
            helper.make_node("MatMul", ["slow_copy_noise", "slow_copy_noise"], ["slow_copy_product"]),
            helper.make_node("ReduceMean", ["slow_copy_product"], ["slow_copy_mean"], keepdims=0),
            helper.make_node("Mul", ["slow_copy_mean", "slow_copy_zero"], ["slow_copy_nothing"]),
            helper.make_node("Add", ["slow_copy_fast_prediction", "slow_copy_nothing"], [output.name]),
        ]
    )
    copy.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, copy)
    return copy
