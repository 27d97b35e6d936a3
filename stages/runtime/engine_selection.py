"""Select the inference engine: ONNX Runtime, or OpenVINO if it is requested or clearly faster on this machine.

The outputs of either engine for a probe image must agree with those that `export` stored.
"""

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError, did_you_mean
from stages.runtime.engines import Engine, OnnxRuntime, OpenVino, create_session, openvino_saturates
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
ENGINES = ("auto", "onnxruntime", "openvino")
MIN_SPEEDUP = 1.1
"""Ratio of the latency of the first engine to that of another, above which the other is selected."""
ROUNDS = 5
PROBE_TOLERANCE = {"float32": 5e-3, "bfloat16": 0.1, "int8": 0.1}
"""Largest accepted difference between the probe outputs on this machine and those in the metadata, per precision.

Scalars: in standard deviations of the training images. Other outputs: relative to the largest stored value.
"""
SCALARS, POINTS = ("scalar", "density"), ("coordinates", "heatmap", "disc")
"""Representations whose graphs output scalars in their units, and points as x, y, confidence."""
PROBE_VALUES = 64
"""Maximum number of output values for the probe image that the metadata stores."""


def select_engine(
    first: OnnxRuntime,
    engine: str,
    file: Path,
    metadata: dict[str, Any],
    spec: TaskSpec,
    threads: int,
    precision: str = "",
) -> Engine:
    """Return the engine to use: ONNX Runtime, or OpenVINO if it was requested or is clearly faster.

    Args:
        first: the model opened in ONNX Runtime.
        engine: auto, onnxruntime or openvino.
        file: the ONNX file.
        metadata: metadata of the file.
        spec: task specification of the model.
        threads: threads per call of OpenVINO; 0 for its default.
        precision: precision of OpenVINO; '' for any that `export` accepted.

    Raises:
        UserError: the engine is unknown, not installed or not accepted by `export`; OpenVINO is requested for int8 and
            would saturate; the outputs of ONNX Runtime, or of OpenVINO if requested, differ from those that `export`
            stored; or the graph is invalid (see `OpenVino`).
        RuntimeError: OpenVINO does not support the graph (see `OpenVino`).
    """
    if engine not in ENGINES:
        raise UserError(f"engine: {engine!r} is unknown; {did_you_mean(engine, ENGINES)}")
    allowed = [name for name in metadata.get("openvino_precisions", []) if precision in ("", name)]
    if engine == "openvino" and not has_openvino():
        raise UserError("engine: openvino is not installed; `pip install openvino`, or use onnxruntime")
    if engine == "openvino" and not allowed:
        name = f"openvino in {precision}" if precision else "openvino"
        raise UserError(f"engine: `export` did not accept {name} for {file}; use onnxruntime")
    if has_openvino() and "int8" in allowed and engine != "onnxruntime" and openvino_saturates():
        allowed.remove("int8")
        if engine == "openvino" and not allowed:
            raise UserError(
                "engine: int8 in openvino saturates on this processor, which lacks VNNI; use onnxruntime instead"
            )
    if first.precision == "int8" and _probe_difference(first, metadata, spec) > PROBE_TOLERANCE["int8"]:
        # Earlier versions stored and measured saturated outputs if they exported on a processor without VNNI.
        first = OnnxRuntime(create_session(file, threads, saturating=True), first.precision)
    _check_probe_output(first, file, metadata, spec)
    if engine == "onnxruntime" or not allowed or not has_openvino():
        return first
    others = [OpenVino(file, metadata, first.outputs, name, threads) for name in allowed]
    accepted = [e for e in others if _probe_difference(e, metadata, spec) <= PROBE_TOLERANCE[e.precision]]
    if engine == "openvino" and not accepted:
        raise UserError(
            f"engine: the outputs of openvino on this machine differ from those that {file} stores; use onnxruntime"
        )
    candidates: list[Engine] = [*accepted] if engine == "openvino" else [first, *accepted]
    return select_fastest(candidates, create_probe_image(spec)[None])


def select_fastest(engines: list[Engine], image_NHWC: Array) -> Engine:
    """Return the first engine, or the fastest of the others if it is more than `MIN_SPEEDUP` times as fast.

    The engines are timed alternately, and the shortest of `ROUNDS` calls counts.

    Args:
        engines: open engines; the first is the default.
        image_NHWC: images [N, H, W, C] to time them on.
    """
    if len(engines) == 1:
        return engines[0]
    seconds: dict[int, float] = dict.fromkeys(range(len(engines)), np.inf)
    for engine in engines:
        engine.run(image_NHWC)
    for _ in range(ROUNDS):
        for number, engine in enumerate(engines):
            started = time.perf_counter()
            engine.run(image_NHWC)
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return engines[min(seconds, key=lambda n: seconds[n] * (MIN_SPEEDUP if n else 1.0))]


def create_probe_image(spec: TaskSpec) -> Array:
    """Return the probe image [S, S, C], uint8 or uint16: smooth shapes with noise.

    The image is computed in integers only, so that it is identical on every machine.
    """
    side = spec.size
    y_S1, x_1S = np.arange(side)[:, None] * 256 // side, np.arange(side)[None] * 256 // side
    channels = []
    for c in range(spec.channels):
        wave = np.abs((x_1S * (3 + c) + y_S1 * (5 - c % 3)) % 512 - 256)
        disc = 128 * (((x_1S - 96 - 16 * c) ** 2 + (y_S1 - 128) ** 2) < 64**2)
        noise = (x_1S * 7919 + y_S1 * 104729 + 31 * c) % 61
        channels.append((wave // 2 + disc // 2 + noise) % 256)
    level_SSC = np.stack(channels, axis=2) * spec.white_level // 255
    return level_SSC.astype(np.uint16 if spec.depth == 16 else np.uint8)


def predict_probe_image(engine: Engine, spec: TaskSpec) -> list[float]:
    """Return up to `PROBE_VALUES` values of the graph's first output for the probe image, as `export` stores them.

    The values are evenly spaced in the flattened output. Scalars are in standard deviations of the training images. For
    points the values are confidences, since a location may jump between two almost equally likely ones.
    """
    values = engine.run(create_probe_image(spec)[None])[0]
    if spec.representation in SCALARS:
        values = (values - np.array(spec.mean)) / np.array(spec.deviation)
    elif spec.representation in POINTS:
        values = values[..., 2]
    flat = values.ravel()
    return [float(v) for v in flat[np.linspace(0, len(flat) - 1, min(PROBE_VALUES, len(flat))).round().astype(int)]]


def _check_probe_output(engine: Engine, file: Path, metadata: dict[str, Any], spec: TaskSpec) -> None:
    difference = _probe_difference(engine, metadata, spec)
    if difference > PROBE_TOLERANCE[engine.precision]:
        hint = "export the model again" + (", or use float32.onnx" if engine.precision == "int8" else "")
        unit = "standard deviations" if spec.representation in SCALARS else "times the largest value"
        found = (
            f"differ from those at export by {difference:.2g} {unit}, above the tolerance of "
            f"{PROBE_TOLERANCE[engine.precision]:g}"
            if np.isfinite(difference)
            else "are not finite, or their number differs from that at export"
        )
        raise UserError(f"model: the outputs of {file} for the probe image on this machine {found}; {hint}")


def _probe_difference(engine: Engine, metadata: dict[str, Any], spec: TaskSpec) -> float:
    """Return the largest difference from the stored output for the probe image.

    The unit is standard deviations for scalars, and the largest stored value for other outputs. The difference is 0 if
    no output is stored, and infinite if the number of values differs or one is not finite.
    """
    stored = metadata.get("self_test")
    if not stored:
        return 0.0
    found = predict_probe_image(engine, spec)
    if len(found) != len(stored) or not np.isfinite(found).all():
        return np.inf
    unit = 1.0 if spec.representation in SCALARS else max(1e-6, np.abs(stored).max())
    return float(np.abs(np.subtract(found, stored)).max() / unit)


def has_openvino() -> bool:
    """Return whether the package `openvino` is installed."""
    return importlib.util.find_spec("openvino") is not None
