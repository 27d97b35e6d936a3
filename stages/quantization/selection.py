"""Which variant is shipped: the fastest of those whose drop stays small, with its whole interval."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tqdm import tqdm

from stages.quantization.int8 import Quantizer
from stages.quantization.score_drop import Drop, Judge, answers_of, milliseconds
from stages.runtime import Model
from stages.runtime.engine_selection import answer_to_probe, has_openvino
from stages.runtime.engines import OnnxRuntime, OpenVino, session_of
from stages.tasks.postprocessing import difference
from stages.tasks.task_spec import task_spec_of

Array = np.ndarray[Any, Any]
CLEAR = 1.15
"""Times faster that a variant must be to be shipped instead of float32, which changes nothing."""
LEFT = (0.0, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the layers, the most sensitive first, that int8 leaves in float32, tried in turn."""
TIMED = 4  # images
PROBED = 16  # training images by which layers are told apart
EXACT, INT8, BFLOAT16 = "float32", "int8", "bfloat16"


@dataclass
class Variant:
    """A way to run the model, and what was found of it."""

    name: str
    """float32, int8 or bfloat16; behind a slash the engine, where that is not ONNX Runtime."""
    file: str
    bytes: int
    engine: str
    precision: str
    drop: Drop | None = None
    milliseconds: float | None = None
    """Of one image's answer, from pixels on."""
    left: list[str] = field(default_factory=list)
    """Layers that stay float32 in an int8 file."""
    verdict: str = ""
    """Whether it may be shipped, and why."""
    holds: bool = False


@dataclass(frozen=True)
class Bench:
    """What variants are made and judged with."""

    files: Callable[[], Iterable[bytes]]
    """Bytes of the validation images, each time anew."""
    count: int
    judge: Judge
    calibration: Sequence[Array]
    """[S, S, C] working images of the training split."""
    max_drop: float
    threads: int
    engine: str
    """For which the fastest is chosen: onnxruntime or openvino."""


def chosen(exact: Path, metadata: dict[str, Any], wanted: Sequence[str], bench: Bench) -> tuple[str, list[Variant]]:
    """The name of the variant to ship, and all of them with what was found; files lie beside `exact`.

    Args:
        exact: the float32 file, with metadata.
        metadata: what every file holds.
        wanted: which of int8 and bfloat16 to try.
        bench: what they are judged with.
    """
    truth = _answers(Model(exact, engine="onnxruntime"), bench, EXACT)
    found = [Variant(EXACT, exact.name, exact.stat().st_size, "onnxruntime", EXACT, Drop(0.0, 0.0, 0.0), holds=True)]
    if INT8 in wanted:
        found.append(_int8(exact, metadata, truth, bench))
    found += _by_openvino(found, exact.parent, wanted, truth, bench)
    return _fastest(exact.parent, found, bench), found


def write_metadata(file: Path, metadata: dict[str, Any]) -> None:
    """Put metadata, JSON by key, into a file, and check the whole."""
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)


def write_with_probe(file: Path, metadata: dict[str, Any]) -> None:
    """Write metadata, and what the file answers to the probe, by which it is known again on other machines."""
    if metadata["representation"] != "boxes":  # how many things are listed hangs on rounding
        engine = OnnxRuntime(session_of(file, 0), metadata["precision"])
        metadata = metadata | {"self_test": answer_to_probe(engine, task_spec_of(metadata))}
    write_metadata(file, metadata)


def _int8(exact: Path, metadata: dict[str, Any], truth: list[Any], bench: Bench) -> Variant:
    """With as few layers left in float32 as the score allows.

    Where so few validation images could not even show that float32 keeps up with itself, no other layers are tried.
    """
    shown = bench.judge.drop(truth, truth).within(bench.max_drop)
    work = exact.parent / "int8.work"
    work.mkdir()
    file = exact.with_name("int8.onnx")
    variant = Variant(INT8, file.name, 0, "onnxruntime", INT8)
    try:
        quantizer = Quantizer(exact, bench.calibration, work)
        order: list[str] = []
        for share in LEFT:
            if share and not order:
                order = _most_sensitive_first(quantizer, exact, work, metadata, bench.calibration)
            variant.left = order[: round(share * len(order))]
            quantizer.write(file, variant.left)
            write_with_probe(file, metadata | {"precision": INT8, "left_in_float32": variant.left})
            _judged(variant, Model(file, engine="onnxruntime"), truth, bench)
            if variant.holds or not shown:
                break
    finally:
        shutil.rmtree(work)
    variant.bytes = file.stat().st_size
    return variant


def _most_sensitive_first(
    quantizer: Quantizer, exact: Path, work: Path, metadata: dict[str, Any], images: Sequence[Array]
) -> list[str]:
    """Layers by how far the answers to training images move when they alone are int8."""
    model, file = Model(exact, engine="onnxruntime"), work / "one.onnx"
    some = images[:: max(1, len(images) // PROBED)]
    told = [model.outputs(image) for image in some]
    moved = []
    for group in tqdm(quantizer.groups(), "sensitivity", unit="group", disable=None):
        quantizer.only(file, group)
        write_metadata(file, metadata)
        alone = Model(file, engine="onnxruntime")
        diagonal = float(np.hypot(*some[0].shape[:2]))
        apart = [
            difference(mine, alone.outputs(image), model.spec, diagonal) for mine, image in zip(told, some, strict=True)
        ]
        moved.append(float(np.mean(apart)))
    groups = quantizer.groups()
    return [layer for number in np.argsort(moved)[::-1] for layer in groups[number]]


def _by_openvino(
    found: list[Variant], folder: Path, wanted: Sequence[str], truth: list[Any], bench: Bench
) -> list[Variant]:
    """The files that there are, by OpenVINO; none where it is not installed, or where things are listed.

    Its graphs have no suppression of boxes that agrees with ONNX Runtime's.
    """
    if not has_openvino() or bench.judge.spec.representation == "boxes":
        return []
    tried = []
    for held in [v for v in found if v.holds]:
        also = [BFLOAT16] if held.precision == EXACT and BFLOAT16 in wanted else []
        for precision in [held.precision, *also]:
            variant = Variant(f"{precision}/openvino", held.file, held.bytes, "openvino", precision)
            tried.append(variant)
            try:
                model = by_openvino(folder / held.file, precision, 0)
            except RuntimeError as error:  # OpenVINO's own, for graphs that it does not know
                variant.verdict = f"openvino does not run it: {str(error).splitlines()[0]}"
                continue
            _judged(variant, model, truth, bench)
    return tried


def by_openvino(file: Path, precision: str, threads: int) -> Model:
    """A model that OpenVINO runs, whether or not it is known to keep the score; raises RuntimeError where it cannot."""
    model = Model(file, threads, "onnxruntime")
    model.engine = OpenVino(file, model.metadata, model.names, precision, threads)
    return model


def _judged(variant: Variant, model: Model, truth: list[Any], bench: Bench) -> None:
    answers = _answers(model, bench, variant.name)
    variant.drop = bench.judge.drop(truth, answers)
    variant.holds = variant.drop.within(bench.max_drop)
    variant.verdict = _words(variant.drop, bench.max_drop)


def _words(drop: Drop, most: float) -> str:
    if drop.value is None or drop.high is None:
        return "its drop cannot be measured on these validation images"
    told = f"drop {drop.value:.4f} [{drop.low:.4f}, {drop.high:.4f}]"
    if drop.within(most):
        return f"{told}, all below export.max_score_drop {most:g}"
    if drop.value <= most:
        return f"{told}: too few validation images to show that it stays below export.max_score_drop {most:g}"
    return f"{told}, above export.max_score_drop {most:g}"


def _answers(model: Model, bench: Bench, name: str) -> list[Any]:
    return answers_of(model, tqdm(bench.files(), f"validation, {name}", bench.count, unit="img", disable=None))


def _fastest(folder: Path, found: list[Variant], bench: Bench) -> str:
    """Of those that hold, timed in turns, on the engine that counts; float32 unless another is clearly faster."""
    holding = [v for v in found if v.holds]
    models = {v.name: _opened(folder / v.file, v, bench.threads) for v in holding}
    taken_by = milliseconds(models, bench.calibration[:TIMED])
    for variant in holding:
        variant.milliseconds = taken_by[variant.name]
    exact = next((v for v in holding if v.precision == EXACT and v.engine == bench.engine), holding[0])
    for variant in holding:
        if variant is not exact:
            times = taken_by[exact.name] / taken_by[variant.name]
            variant.verdict += f"; {times:.2f} times as fast as {exact.name}"
    rivals = [v for v in holding if v is exact or v.engine == bench.engine]
    best = min(rivals, key=lambda v: taken_by[v.name] * (1.0 if v is exact else CLEAR))
    holding[0].verdict = "what was evaluated"
    return best.name


def _opened(file: Path, variant: Variant, threads: int) -> Model:
    if variant.engine == "openvino":
        return by_openvino(file, variant.precision, threads)
    return Model(file, threads, "onnxruntime")
