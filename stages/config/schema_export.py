"""Params sections of the exported model: variants, parity and speed."""

from typing import Annotated, Literal

from pydantic import Field

from stages.config.schema_base import Section, Unit


class Export(Section):
    """Selection of the model variant to ship."""

    variants: tuple[Literal["int8", "bfloat16"], ...] = ("int8", "bfloat16")
    """Variants tried besides float32; the fastest within `max_score_drop` is shipped. bfloat16 requires OpenVINO."""
    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """Engine for which the fastest variant is selected. At run time, the faster installed engine is used."""
    max_score_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Largest accepted drop of the score on validation images, at the upper end of its interval: absolute for scores
    between 0 and 1 (0.01 is one percentage point), otherwise relative to the score."""
    calibration_images: Annotated[int, Field(ge=8, le=10_000), Unit("images")] = 128
    """Number of training images that calibrate the ranges of int8."""
    golden_images: Annotated[int, Field(ge=0, le=256), Unit("images")] = 24
    """Number of validation images that are exported with their predictions, in `golden.zip`, by which `macula deploy`
    checks the model where it runs; 0 for none, if no image may leave the project."""
    licence: str = ""
    """Licence of the model, for its card; empty: not stated."""


class Benchmark(Section):
    """Parity and speed of the exported model."""

    batch_sizes: Annotated[tuple[int, ...], Field(min_length=1), Unit("images")] = (1, 16)
    """Batch sizes to time."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of ONNX Runtime and of torch."""
    seconds: Annotated[float, Field(gt=0, le=600), Unit("s")] = 1.5
    """Duration of the timing per batch size and runtime."""
    max_difference: Annotated[float, Field(gt=0)] = 0.005
    """Largest difference between the predictions of torch and ONNX, in the prediction's unit; above it the stage
    fails."""
