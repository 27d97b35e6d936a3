"""What runs a graph: ONNX Runtime always; OpenVINO where it is installed and the file says that it may.

OpenVINO resizes otherwise than torch and ONNX Runtime do (version 2026.4, up to .05 of a probability): pixels come to
working size by a small graph that `export` keeps in the file's metadata, run by ONNX Runtime; OpenVINO has the rest.
"""

import base64
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from stages.core.errors import UserError
from stages.runtime.model_validation import refuse_malicious_bytes

Array = np.ndarray[Any, Any]
INPUT = "image"
LARGE = 64 * 2**20
"""Bytes of pixels whose memory is given back after the call, which then takes three times as long. ONNX Runtime would
keep some four times as much for ever."""
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""OpenVINO's word for the arithmetic of what is not int8."""


class Engine(Protocol):
    """An open graph."""

    name: str
    precision: str

    def run(self, image_NHWC: Array) -> list[Array]:
        """The graph's outputs, in its order."""


class OnnxRuntime:
    """By its CPU provider."""

    name = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession, precision: str) -> None:
        self.session, self.precision = session, precision
        self.outputs = [output.name for output in session.get_outputs()]

    def run(self, image_NHWC: Array) -> list[Array]:
        """The graph's outputs, in its order."""
        options = None
        if image_NHWC.nbytes > LARGE:
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return [np.asarray(values) for values in self.session.run(self.outputs, {INPUT: image_NHWC}, options)]


class OpenVino:
    """By OpenVINO's CPU plugin."""

    name = "openvino"

    def __init__(self, file: Path, metadata: dict[str, Any], outputs: list[str], precision: str, threads: int) -> None:
        """Raises whatever OpenVINO raises where it does not know the graph."""
        import openvino

        self.precision = precision
        core = openvino.Core()
        model = core.read_model(file)
        self.front = None
        if metadata.get("preprocessing"):
            front = base64.b64decode(metadata["preprocessing"])
            refuse_malicious_bytes(front, f"{file}, its front")
            self.front = session_of(front, 1)
            model = _behind(model, metadata["preprocessing_output"])
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

    def run(self, image_NHWC: Array) -> list[Array]:
        """The graph's outputs, in its order."""
        given = {INPUT: image_NHWC}
        if self.front is not None:
            (given["working"],) = self.front.run(None, {INPUT: image_NHWC})
        request = self.compiled.create_infer_request()  # one a call: calls come from several threads
        found = request.infer([given[name] for name in self.inputs], share_inputs=True)
        return [np.array(found[port]) for port in self.ports]


def _behind(model: Any, tensor: str) -> Any:
    """The model with a second input, `working`, in the place of a tensor; `image` stays where its size is asked."""
    import openvino
    from openvino import opset13

    for node in model.get_ordered_ops():
        for port in node.outputs():
            if tensor in port.get_names():
                put = opset13.parameter(port.get_partial_shape(), port.get_element_type(), name="working")
                for target in port.get_target_inputs():
                    target.replace_source_output(put.output(0))
                whole = openvino.Model(model.get_results(), [*model.get_parameters(), put], "behind")
                return _without_idle_inputs(whole)
    raise UserError(f"openvino: the graph has no tensor {tensor!r}; it was not written by `export`")


def _without_idle_inputs(model: Any) -> Any:
    import openvino

    used = [p for p in model.get_parameters() if p.output(0).get_target_inputs()]
    return openvino.Model(model.get_results(), used, "behind")


def session_of(source: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU; threads 0: all cores. Raises what ONNX Runtime raises."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
