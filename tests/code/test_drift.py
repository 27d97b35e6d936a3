"""Tests of the comparison of new images with the reference of a model: alarms, misses, and what is not checked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.check_drift import main as check_drift
from stages.core.errors import UserError
from stages.drift import FALSE_ALARM_RATE, build_reference, compare_with_reference, summarize_prediction
from stages.drift.drift_page import escaped
from stages.drift.drift_report import DriftReport
from stages.drift.reference_statistics import MAX_CLASSES, OTHER, effective_size
from stages.images.image_metadata import describe_image
from stages.images.image_statistics import MONITORED, select_statistics
from stages.tasks.task_spec import TaskSpec
from tests.command_line import macula
from tests.drift_models import with_reference, write_images
from tests.shipped import colour_model

Columns = dict[str, Any]


def reference(inputs: Columns, predictions: Columns, groups: Any = None) -> dict[str, Any]:
    count = len(next(iter(inputs.values())))
    of_groups = np.arange(count) if groups is None else groups
    sides = {"inputs": inputs, "predictions": predictions}
    made = {side: build_reference({k: list(v) for k, v in sides[side].items()}, of_groups) for side in sides}
    return json.loads(json.dumps(made))


def compare(stored: dict[str, Any] | None, inputs: Columns, predictions: Columns) -> DriftReport:
    count = len(next(iter(inputs.values())))
    values = {
        "inputs": {k: list(v) for k, v in inputs.items()},
        "predictions": {k: list(v) for k, v in predictions.items()},
    }
    return compare_with_reference(stored, [f"{i}.png" for i in range(count)], values)


def drawn(seed: int, count: int, shift: float = 0.0, missing: int = -1) -> tuple[Columns, Columns]:
    """Return statistics of random images: a continuous one, one with many ties, a constant one, and classes."""
    rng = np.random.default_rng(seed)
    classes = [k for k in range(5) if k != missing]
    inputs = {
        "brightness": rng.normal(100 + shift, 20, count),
        "black": np.where(rng.random(count) < 0.7, 0.0, rng.random(count)),
        "width": np.full(count, 28.0),
    }
    return inputs, {"class": [f"c{k}" for k in rng.choice(classes, count)], "confidence": rng.beta(8, 2, count)}


def test_batches_of_the_reference_distribution_seldom_alarm() -> None:
    """The binomial limit of 300 batches at a rate of 1 % is 8, which is exceeded with a chance of 0.4 %."""
    stored = reference(*drawn(0, 800))
    alarms = {
        n: sum(compare(stored, *drawn(1000 * n + seed, n)).verdict == "drift" for seed in range(150)) for n in (30, 300)
    }
    assert sum(alarms.values()) <= 8, alarms


@pytest.mark.parametrize("count", [100, 1000])
def test_a_shift_of_one_statistic_is_found_and_named(count: int) -> None:
    report = compare(reference(*drawn(0, 800)), *drawn(1, count, shift=20))
    assert report.verdict == "drift"
    assert [one.name for one in report.comparisons if one.drifted] == ["brightness"]
    assert report.comparisons[0].adjusted_p <= FALSE_ALARM_RATE
    assert "brightness: from median" in report.sentence
    assert report.furthest[0]["statistic"] == "brightness"
    assert report.furthest[0]["value"] > 130


def test_a_missing_class_is_found() -> None:
    report = compare(reference(*drawn(0, 800)), *drawn(1, 300, missing=2))
    assert [one.name for one in report.comparisons if one.drifted] == ["class"]
    assert "c2 0%" in report.comparisons[0].now


def test_a_trivial_difference_of_many_images_is_not_reported() -> None:
    report = compare(reference(*drawn(0, 50_000)), *drawn(1, 50_000, shift=2))
    assert report.comparisons[0].adjusted_p < 1e-6
    assert report.verdict == "no drift"


@pytest.mark.parametrize("value", [16.0, 64.0])
def test_another_value_of_a_constant_statistic_is_found(value: float) -> None:
    inputs, predictions = drawn(1, 40)
    report = compare(reference(*drawn(0, 800)), {**inputs, "width": np.full(40, value)}, predictions)
    assert [one.name for one in report.comparisons if one.drifted] == ["width"]


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_values_of_any_scale_are_compared(scale: float) -> None:
    rng = np.random.default_rng(0)
    stored = reference({"x": scale * rng.random(500)}, {})
    assert compare(stored, {"x": scale * rng.random(500)}, {}).verdict == "no drift"
    assert compare(stored, {"x": scale * (0.5 + rng.random(500))}, {}).verdict == "drift"


def test_images_in_few_groups_are_not_a_reference() -> None:
    stored = reference({"x": np.repeat(np.arange(8.0), 100)}, {}, groups=np.repeat(np.arange(8), 100))
    report = compare(stored, {"x": np.full(100, 9.0)}, {})
    assert report.verdict == "not checked"
    assert "correspond to 8 independent images" in report.sentence


def test_the_effective_size_is_between_groups_and_images() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 5)
    alike = rng.normal(size=200)[groups]
    sizes = [
        effective_size((share * alike + (1 - share) * rng.normal(size=1000))[:, None], groups) for share in (0, 0.5, 1)
    ]
    assert sizes[0] > 800 > 600 > sizes[1] > 250 > sizes[2]
    assert sizes[2] == pytest.approx(200)


@pytest.mark.parametrize(
    ("stored", "count", "reason"),
    [(None, 100, "contains no drift_reference"), (reference(*drawn(0, 100)), 19, "at least 20 images are required")],
)
def test_what_is_not_checked_is_reported_with_the_reason(stored: Any, count: int, reason: str) -> None:
    report = compare(stored, *drawn(1, count))
    assert report.verdict == "not checked"
    assert reason in report.sentence


def test_rare_classes_share_one_count_and_new_classes_are_compared() -> None:
    names = [f"class {i}" for i in range(MAX_CLASSES + 50)]
    stored = reference({"x": np.arange(500.0)}, {"class": names * 2})
    assert stored["predictions"]["statistics"]["class"]["classes"][OTHER] == 100
    few = reference({"x": np.arange(100.0)}, {"class": ["a", "b"] * 50})
    report = compare(few, {"x": np.arange(100.0)}, {"class": ["new"] * 100})
    assert report.verdict == "drift"
    assert "new 100%" in report.sentence


def test_a_reference_is_small() -> None:
    rng = np.random.default_rng(0)
    inputs = {name: rng.random(5000) * 255 for name in MONITORED}
    predictions = {"class": [f"class number {i % 300}" for i in range(5000)], "confidence": rng.random(5000)}
    numbers = {f"scalar {i}": rng.random(5000) for i in range(20)}
    assert len(json.dumps(reference(inputs, predictions))) < 20_000
    assert len(json.dumps(reference(inputs, numbers))) < 20_000


SPEC = {"representation": "", "target": "", "labels": ("a", "b"), "points": ("nose", "tail"), "scalars": ("age",)}


@pytest.mark.parametrize(
    ("task", "record", "summary"),
    [
        (
            "classification",
            {"label": "a", "probabilities": {"a": 0.75, "b": 0.25}},
            {"class": "a", "confidence": 0.75},
        ),
        ("ordinal", {"label": "b", "probabilities": {"a": 0.25, "b": 0.75}}, {"class": "b", "confidence": 0.75}),
        (
            "multilabel",
            {"labels": ["a"], "probabilities": {"a": 0.75, "b": 0.5}},
            {"number of labels": 1.0, "probability of a": 0.75, "probability of b": 0.5},
        ),
        ("regression", {"age": 7}, {"age": 7.0}),
        (
            "landmarks",
            {"nose": {"x": 1, "y": 2, "confidence": 0.5}, "tail": {"x": 1, "y": 2, "confidence": 1.0}},
            {"mean confidence": 0.75},
        ),
        ("segmentation", {"a": 0.25}, {"area of a": 0.25}),
        (
            "instances",
            {"counts": {"a": 1, "b": 0}, "things": [{"score": 0.75}, {"score": 0.25}]},
            {"number of a": 1.0, "number of b": 0.0, "mean score": 0.75},
        ),
        ("instances", {"counts": {"a": 0, "b": 0}, "things": []}, {"number of a": 0.0, "number of b": 0.0}),
        ("image", {}, {}),
    ],
)
def test_predictions_of_every_task_have_a_summary(task: str, record: Columns, summary: Columns) -> None:
    assert summarize_prediction(record, TaskSpec(task, **SPEC)) == summary  # type: ignore[arg-type]


def test_statistics_of_predict_are_those_of_ingest_and_drift_of_them_is_found(tmp_path: Path) -> None:
    known = write_images(tmp_path / "known", 0, 60, 100)
    model = with_reference(colour_model(tmp_path / "model.onnx"), known)
    same = write_images(tmp_path / "same", 1, 40, 100)
    write_images(tmp_path / "dark", 2, 40, 40)
    for name in ("same", "dark"):
        options = ["--statistics", "--format", "jsonl", "--workers", "0", "--output", str(tmp_path / f"{name}.jsonl")]
        macula("predict", str(model), str(tmp_path / name), *options)
    first = json.loads((tmp_path / "same.jsonl").read_text().splitlines()[0])
    assert first["image_statistics"] == select_statistics(describe_image(same[0], 1.0))
    assert check_drift(model, [tmp_path / "same.jsonl"], None, None)["verdict"] == "no drift"
    result = check_drift(model, [tmp_path / "dark.jsonl"], tmp_path / "out/drift.json", tmp_path / "page")
    assert result["verdict"] == "drift"
    assert json.loads((tmp_path / "out/drift.json").read_text()) == result
    page = (tmp_path / "page/drift.md").read_text()
    assert "![furthest images](furthest.png)" in page
    assert "brightness" in page
    assert Image.open(tmp_path / "page/furthest.png").size[0] > 400


def test_rows_without_statistics_are_refused(tmp_path: Path) -> None:
    model = colour_model(tmp_path / "model.onnx")
    (tmp_path / "rows.jsonl").write_text('{"path": "a.png", "label": "red", "error": ""}\n')
    with pytest.raises(UserError, match=r"line 1 is not a row of this model with statistics"):
        check_drift(model, [tmp_path / "rows.jsonl"], None, None)
    with pytest.raises(UserError, match="cannot be read"):
        check_drift(model, [tmp_path / "missing.jsonl"], None, None)


def test_hostile_names_do_not_become_markup() -> None:
    assert escaped("<b>|\n# x.png") == r"\<b\>\| \# x.png"
