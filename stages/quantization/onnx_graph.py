"""What of an exported graph is the network: its layers with weights, and what lies between them."""

from pathlib import Path

import onnx
from onnx import numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import fuse_hardswish_rules

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def simplify(source: Path, file: Path) -> None:
    """Constants folded and normalizations merged into convolutions, for any machine; written to `file`.

    ONNX Runtime takes HardSwish apart, and only the whole one goes into the convolution before it in OpenVINO.
    """
    quant_pre_process(str(source), str(file), skip_symbolic_shape=True)
    onnx.save(rewrite(onnx.load(file), fuse_hardswish_rules()), file)


def layers(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes with weights, in the order of the graph."""
    weights = {one.name for one in graph.initializer}
    return [n.name for n in graph.node if n.op_type in WEIGHTED and any(i in weights for i in n.input[1:2])]


def between(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes with weights and of all nodes on a way from one of them to another.

    Left out is what lies before, the preprocessing, and what lies behind, the decoding of answers.
    """
    weighted = set(layers(graph))
    behind = _reached(graph, weighted, forwards=True)
    before = _reached(graph, weighted, forwards=False)
    return weighted | (behind & before)


def _reached(graph: onnx.GraphProto, begin: set[str], forwards: bool) -> set[str]:
    """Nodes that follow, or lead to, one of `begin`; the order of the graph is topological."""
    reached: set[str] = set()
    tensors: set[str] = set()
    for node in graph.node if forwards else reversed(graph.node):
        comes, goes = (node.input, node.output) if forwards else (node.output, node.input)
        touched = any(tensor in tensors for tensor in comes)
        if touched:
            reached.add(node.name)
        if touched or node.name in begin:
            tensors.update(goes)
    return reached


def parameters(graph: onnx.GraphProto) -> int:
    """Numbers that were learned: those of the weights in the graph, in whatever arithmetic."""
    by_name = {one.name: one for one in graph.initializer}
    used = {i for node in graph.node if node.op_type in WEIGHTED for i in node.input[1:]}
    return sum(numpy_helper.to_array(by_name[name]).size for name in used if name in by_name)


def front(model: onnx.ModelProto) -> tuple[str, bytes] | None:
    """The tensor of working pixels, and a graph of its own that leads there; None where an image has no resize."""
    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    weighted = set(layers(graph))
    first = next((node for node in graph.node if node.name in weighted), None)
    node = made.get(first.input[0]) if first is not None else None
    while node is not None and node.op_type != "Cast":
        node = made.get(node.input[0])
    if node is None or not any(one.op_type == "Resize" for one in graph.node[: list(graph.node).index(node)]):
        return None
    working = node.input[0]
    leading: list[onnx.NodeProto] = []
    wanted = {working}
    for one in reversed(graph.node):
        if wanted.intersection(one.output):
            leading.insert(0, one)
            wanted.update(one.input)
    kind = graph.input[0].type.tensor_type.elem_type
    output = onnx.helper.make_tensor_value_info(working, kind, [None, None, None, None])
    held = [one for one in graph.initializer if one.name in wanted]
    small = onnx.helper.make_graph(leading, "front", [graph.input[0]], [output], held)
    made_of = onnx.helper.make_model(small, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(made_of, full_check=True)
    return working, made_of.SerializeToString()
