"""Simplify exported ONNX graphs and find their layers with weights, network nodes and preprocessing."""

from pathlib import Path

import onnx
from onnx import numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import fuse_hardswish_rules

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def simplify(source: Path, file: Path) -> None:
    """Fold constants, merge normalizations into convolutions, and write the result to `file`.

    ONNX Runtime splits HardSwish into several nodes. These are merged again, because OpenVINO fuses only a single
    HardSwish node with the convolution before it. The result does not depend on the machine.
    """
    quant_pre_process(str(source), str(file), skip_symbolic_shape=True)
    onnx.save(rewrite(onnx.load(file), fuse_hardswish_rules()), file)


def separate_shared_weights(model: onnx.ModelProto) -> None:
    """Give each node its own copy of its weights.

    ONNX Runtime cannot convert int8 weights that several nodes share to uint8 (`stages.runtime.engines`).
    """
    by_name = {tensor.name: tensor for tensor in model.graph.initializer}
    used: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if node.op_type in WEIGHTED and node.input[1] in by_name:
            name = node.input[1]
            if name in used:
                copy = model.graph.initializer.add()
                copy.CopyFrom(by_name[name])
                copy.name = node.input[1] = f"{name}_{number}"
            used.add(name)


def find_weighted_layers(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes with weights, in the order of the graph."""
    weights = {tensor.name for tensor in graph.initializer}
    return [n.name for n in graph.node if n.op_type in WEIGHTED and any(i in weights for i in n.input[1:2])]


def find_network_nodes(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes with weights and of all nodes on a path between two of them.

    This leaves out the preprocessing before them and the decoding of predictions after them.
    """
    weighted = set(find_weighted_layers(graph))
    after = _reached(graph, weighted, forwards=True)
    before = _reached(graph, weighted, forwards=False)
    return weighted | (after & before)


def _reached(graph: onnx.GraphProto, begin: set[str], forwards: bool) -> set[str]:
    """Return the names of nodes that follow, or precede, one of `begin`; the order of the graph must be topological."""
    reached: set[str] = set()
    tensors: set[str] = set()
    for node in graph.node if forwards else reversed(graph.node):
        inputs, outputs = (node.input, node.output) if forwards else (node.output, node.input)
        touched = any(tensor in tensors for tensor in inputs)
        if touched:
            reached.add(node.name)
        if touched or node.name in begin:
            tensors.update(outputs)
    return reached


def count_parameters(graph: onnx.GraphProto) -> int:
    """Return the number of weights and biases of the convolutions and linear layers in a float32 graph."""
    by_name = {tensor.name: tensor for tensor in graph.initializer}
    used = {i for node in graph.node if node.op_type in WEIGHTED for i in node.input[1:]}
    return sum(numpy_helper.to_array(by_name[name]).size for name in used if name in by_name)


def extract_preprocessing(model: onnx.ModelProto) -> tuple[str, bytes] | None:
    """Return the name of the tensor with the resized pixels, and the graph that computes it, as an ONNX file.

    Returns:
        The name and the content of the file; None if the model does not resize images.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    weighted = set(find_weighted_layers(graph))
    first = next((node for node in graph.node if node.name in weighted), None)
    node = producers.get(first.input[0]) if first is not None else None
    while node is not None and node.op_type != "Cast":
        node = producers.get(node.input[0])
    if node is None or not any(n.op_type == "Resize" for n in graph.node[: list(graph.node).index(node)]):
        return None
    working = node.input[0]
    nodes: list[onnx.NodeProto] = []
    wanted = {working}
    for earlier in reversed(graph.node):
        if wanted.intersection(earlier.output):
            nodes.insert(0, earlier)
            wanted.update(earlier.input)
    element_type = graph.input[0].type.tensor_type.elem_type
    output = onnx.helper.make_tensor_value_info(working, element_type, [None, None, None, None])
    initializers = [tensor for tensor in graph.initializer if tensor.name in wanted]
    subgraph = onnx.helper.make_graph(nodes, "front", [graph.input[0]], [output], initializers)
    preprocessing = onnx.helper.make_model(subgraph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(preprocessing, full_check=True)
    return working, preprocessing.SerializeToString()
