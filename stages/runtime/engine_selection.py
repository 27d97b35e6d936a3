"""Which engine answers on this machine: one that is clearly the fastest of those that answer as was measured."""

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError, did_you_mean
from stages.runtime.engines import Engine, OnnxRuntime, OpenVino
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
ENGINES = ("auto", "onnxruntime", "openvino")
CLEAR = 1.1
"""Times faster that OpenVINO must be to be taken instead of ONNX Runtime."""
TURNS = 5
APART = {"float32": 5e-3, "bfloat16": 0.1, "int8": 0.1}
"""How far the answer to the probe may be from the one that was kept: scalars in deviations of the training images, all
else as a share of its largest value."""
SCALARS, POINTS = ("scalar", "density"), ("coordinates", "heatmap", "disc")
"""Representations whose graphs answer with scalars in their units, and with x, y and how sure they are."""
KEPT = 64
"""Values of the answer to the probe that are kept."""


def chosen(
    first: OnnxRuntime,
    engine: str,
    file: Path,
    metadata: dict[str, Any],
    spec: TaskSpec,
    threads: int,
    precision: str = "",
) -> Engine:
    """ONNX Runtime, or OpenVINO where that is asked for or faster; that in the `precision`, or '' in the fastest.

    Raises:
        UserError: there is no such engine, or it does not answer here as `export` saw it.
    """
    if engine not in ENGINES:
        raise UserError(f"engine: {engine}: {did_you_mean(engine, ENGINES)}")
    allowed = [one for one in metadata.get("openvino_precisions", []) if precision in ("", one)]
    if engine == "openvino" and not has_openvino():
        raise UserError("engine: openvino is not installed; `pip install openvino`, or use onnxruntime")
    if engine == "openvino" and not allowed:
        told = f"openvino in {precision}" if precision else "openvino"
        raise UserError(f"engine: {file} was not found to keep its score under {told}; use onnxruntime")
    _refuse_stranger(first, file, metadata, spec)
    if engine == "onnxruntime" or not allowed or not has_openvino():
        return first
    others = [OpenVino(file, metadata, first.outputs, one, threads) for one in allowed]
    sound = [one for one in others if _apart(one, metadata, spec) <= APART[one.precision]]
    if engine == "openvino" and not sound:
        raise UserError(
            f"engine: openvino answers otherwise on this machine than where {file} was made; use onnxruntime"
        )
    rivals: list[Engine] = [*sound] if engine == "openvino" else [first, *sound]
    return fastest(rivals, probe(spec)[None])


def fastest(engines: list[Engine], image_NHWC: Array) -> Engine:
    """The first, unless a later one is clearly faster on this image; timed in turns."""
    if len(engines) == 1:
        return engines[0]
    seconds: dict[int, float] = dict.fromkeys(range(len(engines)), np.inf)
    for engine in engines:
        engine.run(image_NHWC)
    for _ in range(TURNS):
        for number, engine in enumerate(engines):
            started = time.perf_counter()
            engine.run(image_NHWC)
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return engines[min(seconds, key=lambda n: seconds[n] * (CLEAR if n else 1.0))]


def probe(spec: TaskSpec) -> Array:
    """[S, S, C]: an image of soft shapes and some noise, the same everywhere: whole numbers decide every pixel."""
    side, white = spec.size, 65535 if spec.depth == 16 else 255
    y_S1, x_1S = np.arange(side)[:, None] * 256 // side, np.arange(side)[None] * 256 // side
    channels = []
    for c in range(spec.channels):
        wave = np.abs((x_1S * (3 + c) + y_S1 * (5 - c % 3)) % 512 - 256)
        disc = 128 * (((x_1S - 96 - 16 * c) ** 2 + (y_S1 - 128) ** 2) < 64**2)
        noise = (x_1S * 7919 + y_S1 * 104729 + 31 * c) % 61
        channels.append((wave // 2 + disc // 2 + noise) % 256)
    return (np.stack(channels, axis=2) * (white // 255)).astype(np.uint16 if spec.depth == 16 else np.uint8)


def answer_to_probe(engine: Engine, spec: TaskSpec) -> list[float]:
    """Return values of the graph's first output for the probe image, as `export` stores them.

    Scalars are in standard deviations of the training images. For points these are confidences, since a location may
    jump between two that are almost equally likely.
    """
    values = engine.run(probe(spec)[None])[0]
    if spec.representation in SCALARS:
        values = (values - np.array(spec.mean)) / np.array(spec.deviation)
    elif spec.representation in POINTS:
        values = values[..., 2]
    flat = values.ravel()
    return [float(v) for v in flat[np.linspace(0, len(flat) - 1, min(KEPT, len(flat))).round().astype(int)]]


def _refuse_stranger(engine: Engine, file: Path, metadata: dict[str, Any], spec: TaskSpec) -> None:
    apart = _apart(engine, metadata, spec)
    if apart > APART[engine.precision]:
        hint = "; int8 needs a processor with VNNI or alike: use float32.onnx" if engine.precision == "int8" else ""
        unit = "deviations" if spec.representation in SCALARS else "of the largest value"
        raise UserError(
            f"model: {file} answers otherwise on this machine than where it was made: a test image differs by "
            f"{apart:.2g} {unit}, above {APART[engine.precision]:g}{hint}"
        )


def _apart(engine: Engine, metadata: dict[str, Any], spec: TaskSpec) -> float:
    """Largest difference of the answer to the probe from the kept one: in deviations, or of the largest kept value."""
    kept = metadata.get("self_test")
    if not kept:
        return 0.0
    found = answer_to_probe(engine, spec)
    if len(found) != len(kept):
        return np.inf
    unit = 1.0 if spec.representation in SCALARS else max(1e-6, np.abs(kept).max())
    return float(np.abs(np.subtract(found, kept)).max() / unit)


def has_openvino() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("openvino") is not None
