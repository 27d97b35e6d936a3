"""Inference engines: ONNX Runtime, and OpenVINO if it is installed and `export` accepted it for the file.

OpenVINO resizes differently from torch and ONNX Runtime (version 2026.4, probabilities differ by up to 0.05). ONNX
Runtime therefore resizes to the working size, with a small graph that `export` stores in the metadata of the file.
OpenVINO runs the rest of the graph.
"""

import base64
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from stages.core.errors import UserError
from stages.core.shapes import Array, Integer
from stages.runtime.model_validation import refuse_malicious_bytes

INPUT = "image"
SHRINK_ABOVE = 64 * 2**20
"""Input size in bytes above which the memory arena is shrunk after the call.

ONNX Runtime would otherwise keep about four times the input size. Shrinking triples the duration of the call.
"""
EXACT_INT8 = "session.x64quantprecision"
"""Option of ONNX Runtime: 1 for exact int8 on x86 processors without VNNI; without effect on others."""
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""OpenVINO's name for the precision of the layers that are not int8."""


class Engine(Protocol):
    """Interface of an inference engine with an open graph."""

    name: str
    precision: str

    def run(self, image_NHWC: Integer[Array, "N H W C"]) -> list[Array]:
        """Return the outputs of the graph for a batch of images, in the order of the graph."""


class OnnxRuntime:
    """ONNX Runtime with its CPU execution provider."""

    name = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession, precision: str) -> None:
        self.session, self.precision = session, precision
        self.outputs = [output.name for output in session.get_outputs()]

    def run(self, image_NHWC: Integer[Array, "N H W C"]) -> list[Array]:
        """Return the outputs of the graph for a batch of images, in the order of the graph."""
        options = None
        if image_NHWC.nbytes > SHRINK_ABOVE:
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return [np.asarray(values) for values in self.session.run(self.outputs, {INPUT: image_NHWC}, options)]


class OpenVino:
    """OpenVINO with its CPU plugin."""

    name = "openvino"

    def __init__(self, file: Path, metadata: dict[str, Any], outputs: list[str], precision: str, threads: int) -> None:
        """Compile the graph.

        Args:
            file: ONNX file written by `export`.
            metadata: metadata of the file, with the preprocessing graph if it has one.
            outputs: names of the outputs to return.
            precision: float32, bfloat16 or int8.
            threads: threads per call; 0 for the default of OpenVINO.

        Raises:
            RuntimeError: OpenVINO does not support the graph; OpenVINO may raise other errors as well.
            UserError: the preprocessing graph is malicious or damaged, or the graph lacks its output.
        """
        import openvino

        self.precision = precision
        core = openvino.Core()
        model = core.read_model(file)
        self.preprocessing = None
        if metadata.get("preprocessing"):
            graph = base64.b64decode(metadata["preprocessing"])
            refuse_malicious_bytes(graph, f"{file}, preprocessing graph")
            self.preprocessing = create_session(graph, 1)
            model = _replace_preprocessing(model, metadata["preprocessing_output"])
        hints: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            hints["INFERENCE_NUM_THREADS"] = threads
        self.compiled = core.compile_model(model, "CPU", hints)
        self.inputs = [parameter.get_friendly_name() for parameter in model.get_parameters()]
        self.ports = [self.compiled.output(name) for name in outputs]

    def run(self, image_NHWC: Integer[Array, "N H W C"]) -> list[Array]:
        """Return the outputs of the graph for a batch of images, in the order of the graph."""
        inputs_by_name = {INPUT: image_NHWC}
        if self.preprocessing is not None:
            (inputs_by_name["working"],) = self.preprocessing.run(None, {INPUT: image_NHWC})
        request = self.compiled.create_infer_request()  # one per call: several threads may use this object
        outputs = request.infer([inputs_by_name[name] for name in self.inputs], share_inputs=True)
        return [np.array(outputs[port]) for port in self.ports]


def _replace_preprocessing(model: Any, tensor: str) -> Any:
    """Return the model with a second input, `working`, in place of a tensor.

    The input `image` remains if the graph uses its size.
    """
    import openvino
    from openvino import opset13

    for node in model.get_ordered_ops():
        for port in node.outputs():
            if tensor in port.get_names():
                parameter = opset13.parameter(port.get_partial_shape(), port.get_element_type(), name="working")
                for target in port.get_target_inputs():
                    target.replace_source_output(parameter.output(0))
                changed = openvino.Model(
                    model.get_results(), [*model.get_parameters(), parameter], "without_preprocessing"
                )
                return _remove_unused_inputs(changed)
    raise UserError(f"openvino: the graph has no tensor {tensor!r}; export the model again")


def _remove_unused_inputs(model: Any) -> Any:
    import openvino

    used = [p for p in model.get_parameters() if p.output(0).get_target_inputs()]
    return openvino.Model(model.get_results(), used, "without_preprocessing")


def create_session(source: Path | bytes, threads: int, saturating: bool = False) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session on the CPU.

    On x86 processors without VNNI, the fastest product of uint8 and int8 adds two products in 16 bits and saturates. By
    default, ONNX Runtime uses a slower, exact product on these processors. It cannot do so if nodes share int8 weights,
    as in files of earlier versions; these are opened with the fastest product.

    Args:
        source: an ONNX file, or its bytes.
        threads: threads per call; 0 for all cores.
        saturating: use the fastest product, whose results are wrong if it saturates.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry(EXACT_INT8, "0" if saturating else "1")
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Fail:
        if saturating:
            raise
        return create_session(source, threads, saturating=True)
