"""Inference engines: ONNX Runtime, and OpenVINO if it is installed and `export` accepted it for the file.

OpenVINO resizes differently from torch and ONNX Runtime (version 2026.4, probabilities differ by up to 0.05). ONNX
Runtime therefore resizes to the working size, with a small graph that `export` stores in the metadata of the file.
OpenVINO runs the rest of the graph.
"""

import base64
import functools
import logging
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
WITHOUT_INT8 = "session.disable_quant_qdq"
"""Option of ONNX Runtime: 1 to compute int8 files in float32, with rounded weights and activations."""
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

    On x86 processors with AVX2 but without VNNI, the fastest product of uint8 and int8 adds two products in 16 bits and
    saturates. By default, a slower, exact product is used on these processors. ONNX Runtime cannot use it if nodes
    share int8 weights, as in files of earlier versions; these are computed in float32 there.

    Args:
        source: an ONNX file, or its bytes.
        threads: threads per call; 0 for all cores.
        saturating: use the fastest product, whose results are wrong if it saturates.
    """
    try:
        return _open_session(source, threads, {EXACT_INT8: "0" if saturating else "1"})
    except Fail:
        session = _open_session(source, threads, {WITHOUT_INT8: "1"})
    name = source if isinstance(source, Path) else "preprocessing graph"
    logging.getLogger(__name__).warning(
        "%s: this processor lacks VNNI, and nodes share int8 weights: computed in float32; export the model again", name
    )
    return session


def _open_session(source: Path | bytes, threads: int, entries: dict[str, str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@functools.cache
def openvino_saturates() -> bool:
    """Return whether OpenVINO's int8 products saturate on this processor, as on x86 with AVX2 but without VNNI.

    64 products of 255 and 127 are added, by a convolution and by a matrix product. OpenVINO has no exact int8 for such
    processors.
    """
    import openvino
    from openvino import opset13

    channels = 64
    image = opset13.parameter([1, channels, 1, 1], np.float32)
    limits = [np.array(limit, np.float32) for limit in (0, 1, 0, 1)]
    levels = opset13.fake_quantize(image, *limits, 256)

    def weights(*shape: int) -> Any:
        stored = opset13.convert(opset13.constant(np.full(shape, 127, np.int8)), "f32")
        return opset13.multiply(stored, opset13.constant(np.float32(1 / 127)))

    convolved = opset13.convolution(levels, weights(16, channels, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
    flat = opset13.reshape(levels, np.array([1, channels]), False)
    product = opset13.matmul(flat, weights(channels, 16), False, False)
    model = openvino.Model([convolved, product], [image], "saturation")
    outputs = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": HINTS["int8"]})(
        np.ones((1, channels, 1, 1), np.float32)
    )
    return any(np.abs(outputs[port] - channels).max() > channels / 100 for port in range(2))
