"""Select the variant to ship: float32, or the fastest acceptable variant if it is clearly faster than float32.

A variant is acceptable if the upper end of the interval of its score drop is at most `export.max_score_drop`, or if it
computes in float32 and its outputs differ from those of ONNX Runtime by rounding only
(`docs/why/change-of-arithmetic.md`).
"""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from stages.core.plurals import quantity
from stages.core.progress import track
from stages.core.shapes import Array, Integer, Shaped
from stages.quantization.int8 import Quantizer
from stages.quantization.score_drop import Drop, DropEvaluator, measure_latencies
from stages.runtime import Model
from stages.runtime.engine_selection import has_openvino, predict_probe_image
from stages.runtime.engines import OnnxRuntime, OpenVino, create_session, openvino_saturates
from stages.tasks.postprocessing import difference
from stages.tasks.task_spec import task_spec_of

MIN_SPEEDUP = 1.15
"""Smallest speed-up over float32 at which a variant is shipped instead."""
FLOAT32_SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the layers, the most sensitive first, that stay float32 in an int8 file; tried in this order."""
TIMED = 4  # images
PROBED = 16  # minimum number of training images on which the sensitivity of layers is measured, if available
ROUNDING = 1e-4
"""Largest difference between the outputs of two engines that counts as rounding in float32.

The unit is that of `stages.tasks.postprocessing.difference`. Deep networks differ by 1e-6 to 1e-5; 16 bits by 1e-3.
"""
EXACT, INT8, BFLOAT16 = "float32", "int8", "bfloat16"


@dataclass
class Variant:
    """File, engine and precision that run the model, with the measured score drop and latency."""

    name: str
    """Precision (float32, int8 or bfloat16), followed by a slash and the engine unless that is ONNX Runtime."""
    file: str
    bytes: int
    engine: str
    precision: str
    drop: Drop | None = None
    """Score drop compared with float32; None if OpenVINO cannot run the variant."""
    rounding: float | None = None
    """Largest difference from the outputs in ONNX Runtime, for float32 in another engine if the drop is not within the
    limit; in the unit of `ROUNDING`."""
    milliseconds: float | None = None
    """Median latency per image, from pixels to prediction; None if the score drop is not acceptable."""
    left: list[str] = field(default_factory=list)
    """Layers that stay float32 in an int8 file."""
    verdict: str = ""
    """Reason why the variant may or may not be shipped."""
    holds: bool = False
    """Whether the score drop is acceptable."""


@dataclass(frozen=True)
class LabelFreeImages:
    """Images at the working size on which variants are compared with float32 without labels."""

    name: str
    images: Sequence[Integer[Array, "S S C"]]
    group_N: Shaped[Array, " N"]


@dataclass(frozen=True)
class VariantSetup:
    """Data and settings to create and compare variants."""

    files: Callable[[], Iterable[bytes]]
    """Returns an iterator over the validation images as file bytes."""
    count: int
    judge: DropEvaluator
    calibration: Sequence[Integer[Array, "S S C"]]
    """Images of the training split at the working size."""
    max_drop: float
    threads: int
    engine: str
    """Engine for which the fastest variant is selected: onnxruntime or openvino."""
    label_free: Sequence[LabelFreeImages] = ()
    """More images; used if there are too few validation images to bound the drop directly."""
    summarize: Callable[[Any], dict[str, Any]] = lambda _: {}
    """Returns the summary of a prediction to keep in `summaries`."""
    summaries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Summaries of the predictions for the validation images, by name of the variant; filled by `select_variant`."""


class Reference:
    """The float32 model in ONNX Runtime, with its predictions, with which variants are compared."""

    def __init__(self, file: Path, bench: VariantSetup) -> None:
        """Predict the validation images.

        Args:
            file: the float32 file.
            bench: data and settings.
        """
        self.model, self.bench = Model(file, engine="onnxruntime"), bench
        self.predictions = _predict(self.model, bench, EXACT)
        self.magnification = bench.judge.choose_magnification(self.predictions, bench.max_drop)

    @cached_property
    def label_free(self) -> list[list[Any]]:
        """Predictions for `VariantSetup.label_free`."""
        return [_predict_images(self.model, more, EXACT) for more in self.bench.label_free]


def select_variant(
    exact: Path, metadata: dict[str, Any], wanted: Sequence[str], bench: VariantSetup
) -> tuple[str, list[Variant]]:
    """Create and measure the variants; write their files next to `exact`.

    Args:
        exact: the float32 file, with metadata.
        metadata: metadata that all files share.
        wanted: precisions to try besides float32: int8, bfloat16.
        bench: data and settings.

    Returns:
        Name of the variant to ship, and all variants.
    """
    reference = Reference(exact, bench)
    variants = [Variant(EXACT, exact.name, exact.stat().st_size, "onnxruntime", EXACT, Drop(0.0, 0.0, 0.0), holds=True)]
    if INT8 in wanted:
        variants.append(_create_int8(exact, metadata, reference, bench))
    variants += _create_openvino_variants(variants, exact.parent, wanted, reference, bench)
    return _select_fastest(exact.parent, variants, bench), variants


def write_metadata(file: Path, metadata: dict[str, Any]) -> None:
    """Replace the metadata of an ONNX file, each value as JSON, and check the file."""
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)


def write_metadata_with_probe(file: Path, metadata: dict[str, Any]) -> None:
    """Write metadata and, except for boxes, the output for the probe image, by which other machines check the file."""
    if metadata["representation"] != "boxes":  # the number of instances depends on rounding
        engine = OnnxRuntime(create_session(file, 0), metadata["precision"])
        metadata = metadata | {"self_test": predict_probe_image(engine, task_spec_of(metadata))}
    write_metadata(file, metadata)


def _create_int8(exact: Path, metadata: dict[str, Any], reference: Reference, bench: VariantSetup) -> Variant:
    """Return the int8 variant with as few layers in float32 as the score drop allows.

    With too few validation images even float32 compared with itself exceeds the limit; then no layers stay float32.
    Otherwise, if no share of `FLOAT32_SHARES` is acceptable, the variant with the last one is returned.
    """
    unchanged = bench.judge.measure(reference.predictions, reference.predictions, reference.magnification)
    can_pass = unchanged.within(bench.max_drop)
    work = exact.parent / "int8.work"
    work.mkdir()
    file = exact.with_name("int8.onnx")
    variant = Variant(INT8, file.name, 0, "onnxruntime", INT8)
    try:
        quantizer = Quantizer(exact, bench.calibration, work)
        order: list[str] = []
        for share in FLOAT32_SHARES:
            if share and not order:
                order = _most_sensitive_first(quantizer, exact, work, metadata, bench.calibration)
            variant.left = order[: round(share * len(order))]
            quantizer.write(file, variant.left)
            write_metadata_with_probe(file, metadata | {"precision": INT8, "left_in_float32": variant.left})
            _measure(variant, Model(file, engine="onnxruntime"), reference, bench)
            if variant.holds or not can_pass:
                break
    finally:
        shutil.rmtree(work)
    variant.bytes = file.stat().st_size
    return variant


def _most_sensitive_first(
    quantizer: Quantizer, exact: Path, work: Path, metadata: dict[str, Any], images: Sequence[Integer[Array, "S S C"]]
) -> list[str]:
    """Return the layers, first those that change the outputs for training images most if only they are int8."""
    model, file = Model(exact, engine="onnxruntime"), work / "one.onnx"
    probed = images[:: max(1, len(images) // PROBED)]
    expected = [model.outputs(image) for image in probed]
    changes = []
    groups = list(quantizer.layer_groups())
    for group in track(groups, "export: sensitivity to int8", len(groups), "group of layers"):
        quantizer.write_only(file, group)
        write_metadata(file, metadata)
        quantized = Model(file, engine="onnxruntime")
        diagonal = float(np.hypot(*probed[0].shape[:2]))
        differences = [
            difference(output, quantized.outputs(image), model.spec, diagonal)
            for output, image in zip(expected, probed, strict=True)
        ]
        changes.append(float(np.mean(differences)))
    groups = quantizer.layer_groups()
    return [layer for number in np.argsort(changes)[::-1] for layer in groups[number]]


def _create_openvino_variants(
    variants: list[Variant], folder: Path, wanted: Sequence[str], reference: Reference, bench: VariantSetup
) -> list[Variant]:
    """Create and measure OpenVINO variants of the accepted files, unless the model detects boxes.

    For boxes, the non-maximum suppression of OpenVINO does not agree with that of ONNX Runtime. Without OpenVINO, no
    variants are created.
    """
    if not has_openvino() or bench.judge.spec.representation == "boxes":
        return []
    tried = []
    for source in [v for v in variants if v.holds]:
        more = [BFLOAT16] if source.precision == EXACT and BFLOAT16 in wanted else []
        for precision in [source.precision, *more]:
            variant = Variant(f"{precision}/openvino", source.file, source.bytes, "openvino", precision)
            tried.append(variant)
            if precision == INT8 and openvino_saturates():
                variant.verdict = "not measured: int8 in OpenVINO saturates on this processor"
                continue
            try:
                model = open_with_openvino(folder / source.file, precision, 0)
            except RuntimeError as error:  # unsupported graph
                variant.verdict = f"OpenVINO cannot run this variant: {str(error).splitlines()[0]}"
                continue
            if precision == BFLOAT16 and not computes_in_bfloat16(model):
                variant.verdict = "not measured: this processor does not compute in bfloat16"
                continue
            _measure(variant, model, reference, bench)
            if precision == EXACT and not variant.holds:
                _accept_rounding(variant, model, reference, bench)
    return tried


def open_with_openvino(file: Path, precision: str, threads: int) -> Model:
    """Open a model with OpenVINO, even if `export` has not accepted OpenVINO for this file.

    Args:
        file: ONNX file with metadata.
        precision: float32, bfloat16 or int8.
        threads: threads per call; 0 for the default of OpenVINO.

    Raises:
        RuntimeError: OpenVINO does not support the graph.
        UserError: the file does not exist, is damaged, or is not a file that `export` wrote.
    """
    model = Model(file, threads, "onnxruntime")
    model.engine = OpenVino(file, model.metadata, model.names, precision, threads)
    return model


def computes_in_bfloat16(model: Model) -> bool:
    """Return whether OpenVINO computes in bfloat16; it uses float32 on processors without bfloat16."""
    assert isinstance(model.engine, OpenVino)
    return model.engine.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "bf16"


def _measure(variant: Variant, model: Model, reference: Reference, bench: VariantSetup) -> None:
    """Measure the drop on validation images and, if the changes were magnified, on images without labels."""
    predictions = _predict(model, bench, variant.name)
    drop = bench.judge.measure(reference.predictions, predictions, reference.magnification)
    if reference.magnification > 1 and drop.within(bench.max_drop):
        drop = _with_label_free(drop, variant.name, model, reference, bench)
    variant.drop, variant.holds = drop, drop.within(bench.max_drop)
    variant.verdict = _verdict(drop, bench.max_drop)


def _with_label_free(drop: Drop, name: str, model: Model, reference: Reference, bench: VariantSetup) -> Drop:
    """Return the drop with its upper end raised to the disagreement with float32 on images without labels."""
    unit = bench.judge.unit(reference.predictions)
    for more, exact in zip(bench.label_free, reference.label_free, strict=True):
        found = _predict_images(model, more, name)
        limit = bench.judge.disagreement(exact, found, more.group_N, drop.magnification, unit)
        if limit is None or drop.high is None:
            return Drop(None, None, None, drop.magnification)
        drop = replace(drop, high=max(drop.high, limit))
    return drop


def _accept_rounding(variant: Variant, model: Model, reference: Reference, bench: VariantSetup) -> None:
    """Accept a variant that computes in float32 and whose outputs for all validation images differ by rounding only."""
    differences = []
    for data in track(bench.files(), f"export: outputs of {variant.name}", bench.count):
        image = model.decode_file(data)
        exact, found = reference.model.outputs(image), model.outputs(image)
        differences.append(difference(exact, found, model.spec, float(np.hypot(*image.shape[:2]))))
    variant.rounding = max(differences)
    drop = variant.drop.value if variant.drop is not None else None
    if variant.rounding <= ROUNDING and (drop is None or drop <= bench.max_drop):
        variant.holds = True
        if drop is not None:
            variant.drop = Drop(drop, drop, drop)  # rounding has no sampling error
        variant.verdict = (
            f"float32 in another engine: the outputs for {quantity(bench.count, 'validation image')} differ by at most "
            f"{variant.rounding:.1e}, which is rounding"
        )


def _verdict(drop: Drop, most: float) -> str:
    if drop.value is None or drop.high is None:
        return "the drop is undefined on these images"
    text = f"drop {drop.value:.4f} [{drop.low:.4f}, {drop.high:.4f}]"
    if drop.magnification > 1:
        text += f" with the changes of the probabilities magnified {drop.magnification} times"
    if drop.within(most):
        return f"{text}, upper end within export.max_score_drop {most:g}"
    if drop.value > most:
        return f"{text}, above export.max_score_drop {most:g}"
    if drop.magnification > 1:
        return f"{text}: too close to a change of classes to show that it is within export.max_score_drop {most:g}"
    return f"{text}: too few validation images to show that it is within export.max_score_drop {most:g}"


def _predict_images(model: Model, more: LabelFreeImages, name: str) -> list[Any]:
    images = track(more.images, f"export: {more.name}, {name}", len(more.images))
    return [model.predict(image) for image in images]


def _predict(model: Model, bench: VariantSetup, name: str) -> list[Any]:
    """Return the predictions for the validation images, and keep their summaries."""
    files = track(bench.files(), f"export: validation, {name}", bench.count)
    predictions = [model.predict_file(data) for data in files]
    bench.summaries[name] = [bench.summarize(prediction) for prediction in predictions]
    return predictions


def _select_fastest(folder: Path, variants: list[Variant], bench: VariantSetup) -> str:
    """Time the accepted variants; return the fastest on `bench.engine`, or float32 if none is clearly faster."""
    accepted = [v for v in variants if v.holds]
    models = {v.name: open_variant(folder, v, bench.threads) for v in accepted}
    latencies = measure_latencies(models, bench.calibration[:TIMED])
    for variant in accepted:
        variant.milliseconds = latencies[variant.name]
    exact = next((v for v in accepted if v.precision == EXACT and v.engine == bench.engine), accepted[0])
    for variant in accepted:
        if variant is not exact:
            times = latencies[exact.name] / latencies[variant.name]
            variant.verdict += f"; {times:.2f} times as fast as {exact.name}"
    candidates = [v for v in accepted if v is exact or v.engine == bench.engine]
    best = min(candidates, key=lambda v: latencies[v.name] * (1.0 if v is exact else MIN_SPEEDUP))
    accepted[0].verdict = "the evaluated model"
    return best.name


def open_variant(folder: Path, variant: Variant, threads: int) -> Model:
    """Open a variant with its engine and precision.

    Args:
        folder: folder of its file.
        variant: the variant.
        threads: threads per call; 0 for the default of the engine.
    """
    if variant.engine == "openvino":
        return open_with_openvino(folder / variant.file, variant.precision, threads)
    return Model(folder / variant.file, threads, "onnxruntime")
