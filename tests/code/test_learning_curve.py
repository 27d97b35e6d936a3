"""Fits and intervals of power laws, the learning curve of the probe over groups, and the findings of the audit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.audits import learning_curve
from stages.audits.audit_data import AuditData
from stages.config.schema import Params
from stages.core.findings import Finding
from stages.dataset.annotations import Annotation, ObjectAnnotation
from stages.dataset.manifest import read_manifest
from stages.probes.learning_curve_fit import NOISE, measure_curve, nested_order, noisy
from stages.probes.power_law import extrapolate, fit
from stages.probes.regression_targets import RegressionTargets, regression_targets
from stages.reports import Album, make_cards
from tests.conftest import Ingest, digit_images, write_folders

SIZES = np.array([100.0, 152, 230, 348, 528, 800])


def class_targets(code: np.ndarray) -> RegressionTargets:
    return RegressionTargets("the class", np.eye(int(code.max()) + 1)[code], True)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_fit_recovers_the_parameters_of_a_power_law(floor: float) -> None:
    error = 2 * SIZES**-0.4 + floor
    law = fit(SIZES, error[None], floor=True)
    assert (law.b[0], law.c[0]) == (pytest.approx(0.4, abs=0.03), pytest.approx(floor, abs=0.01))
    assert law(3200)[0, 0] == pytest.approx(2 * 3200**-0.4 + floor, rel=0.02)
    assert fit(SIZES, error[None], floor=False)(3200)[0, 0] <= law(3200)[0, 0] + 1e-9, (
        "a fit without a floor predicts a lower error"
    )


def test_the_interval_covers_the_error_at_four_times_the_images() -> None:
    """Use the same 600 held-out images for all sizes, and noise of 0.5 percentage points."""
    rng = np.random.default_rng(0)
    inside, width = [], []
    for _ in range(60):
        difficulty = rng.random(600)
        error = 2 * SIZES**-0.4
        wrong = difficulty < (error + rng.normal(0, 0.005, 6))[:, None]
        weight = rng.multinomial(600, np.full(600, 1 / 600), 200)
        forecast = extrapolate(SIZES, wrong.mean(axis=1), weight @ wrong.T / 600)
        _, low, high = forecast.error(3200)
        inside.append(low[0] <= 2 * 3200**-0.4 <= high[0])
        width.append(high[0] - low[0])
    assert len(inside) == 60 and np.mean(inside) >= 0.9
    assert np.mean(width) < 0.12, "the interval is not trivially wide"


def test_the_needed_images_reduce_the_error_by_the_gain() -> None:
    error = 2 * SIZES**-0.4
    forecast = extrapolate(SIZES, error, error[None].repeat(20, axis=0))
    expected = (2 / (2 * 800**-0.4 - 0.02)) ** 2.5
    assert forecast.needed(800, 0.02, 80_000)[0] == pytest.approx(expected, rel=0.02)
    assert forecast.gain(800, expected)[0] == pytest.approx(0.02, abs=0.001)
    assert np.isinf(forecast.needed(800, 0.5, 80_000)).all()


def test_training_sets_are_nested_with_whole_groups_and_every_class() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 4)
    code = (np.arange(60) % 10 == 0).astype(int)[group]
    order = nested_order(np.flatnonzero(group < 50), group, code, rng)
    assert sorted(order) == list(range(200))
    assert (np.diff(group[order].reshape(-1, 4), axis=1) == 0).all(), "groups stay together"
    assert 1 <= code[order[:40]].sum() / 4 <= 2, "a fifth of the images has a fifth of the five rare groups"


def test_label_noise_has_the_given_share_and_is_equal_within_groups() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), 3)
    targets = class_targets((np.arange(200) % 4)[group])
    order = rng.permutation(600)
    replaced = noisy(targets, order, group, 0.1, rng)
    changed = (replaced != targets.target_ND[order]).any(axis=1)
    assert changed.mean() == pytest.approx(0.1)
    assert pd.Series(replaced.argmax(axis=1)).groupby(group[order]).nunique().max() == 1
    numbers = RegressionTargets("the numbers", rng.normal(size=(600, 2)), False)
    other = noisy(numbers, order, group, 0.1, rng)
    assert 0.08 < (other != numbers.target_ND[order]).all(axis=1).mean() <= 0.1
    assert sorted(other[:, 0]) == sorted(numbers.target_ND[:, 0]), "the values are permuted"


def test_error_falls_with_images_rises_with_noise_and_is_balanced() -> None:
    rng = np.random.default_rng(0)
    code = (rng.random(900) < 0.1).astype(int)
    features = rng.normal(size=(900, 60)).astype(np.float32)
    features[:, :3] += 1.2 * code[:, None]
    curve = measure_curve(features, class_targets(code), np.arange(900))
    assert curve.error_J[0] > curve.error_J[-1] + 0.03
    assert curve.noisy_Q[-1] > curve.error_J[-1]
    assert curve.noisy_BQ.shape == (len(curve.resampled_BJ), len(NOISE))
    uninformative = measure_curve(rng.normal(size=(900, 5)).astype(np.float32), class_targets(code), np.arange(900))
    assert uninformative.error_J == pytest.approx(np.full(6, 0.5), abs=0.1), (
        "predicting the most frequent class does not reduce the error"
    )


def test_missing_targets_are_ignored_in_training_and_scoring() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 10)).astype(np.float32)
    target = features[:, :2] * [1.0, 100.0]
    target[rng.random((300, 2)) < 0.2] = np.nan
    curve = measure_curve(features, RegressionTargets("the numbers", target, False), np.arange(300))
    assert curve.error_J[-1] < 0.15, "missing values only reduce the training data"


@pytest.mark.parametrize(
    ("annotations", "name", "first"),
    [
        ([Annotation(labels=("a",)), Annotation(labels=("b",))], "the class", [1, 0]),
        ([Annotation(labels=("a", "b")), Annotation(labels=())], "the classes in the image", [1, 1]),
        ([Annotation(scalars={"g": 3.0}), Annotation(scalars={"g": 5.0})], "the numbers", [3]),
        ([Annotation(points={"p": (5.0, 2.0)}), Annotation(points={"p": (0.0, 4.0)})], "the positions of the points",
         [0.5, 0.1]),
        ([Annotation(shapes=tuple(ObjectAnnotation("x", (0, 0, n, n)) for n in (1, 2))), Annotation(shapes=())],
         "the number of objects of each class", [2]),
    ],
)  # fmt: skip
def test_every_kind_of_label_becomes_regression_targets(
    annotations: list[Annotation], name: str, first: list[float]
) -> None:
    rows = pd.DataFrame({"annotation": [a.to_json() for a in annotations], "width": 10, "height": 20})
    targets = regression_targets(rows, Path())
    assert isinstance(targets, RegressionTargets) and targets.name == name
    assert targets.target_ND[0].tolist() == first


@pytest.mark.parametrize(
    "annotation", [Annotation(labels=("a",)), Annotation(scalars={"g": 1.0}), Annotation(image=True)]
)
def test_constant_labels_and_images_give_no_targets(annotation: Annotation) -> None:
    rows = pd.DataFrame({"annotation": [annotation.to_json()] * 3, "width": 10, "height": 20})
    assert isinstance(regression_targets(rows, Path()), str)


def findings_by_id(folder: Path, params: Params) -> dict[str, Finding]:
    data = AuditData(read_manifest(folder), pd.read_parquet(folder / "sealed_index.parquet"), folder)
    return {f.id: f for f in learning_curve.find(data, params.audit)}


def test_digits_need_no_more_images_and_the_chart_shows_it(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    folder = ingest(write_folders(tmp_path / "d", digit_images(per_class=40)))
    findings = findings_by_id(folder, params)
    assert set(findings) == {"learning_curve/images", "learning_curve/labels"}
    images, labels = findings["learning_curve/images"], findings["learning_curve/labels"]
    assert "Twice the 280 training images" in images.message and "read the gain as a share" in images.message
    error = images.evidence["error"]
    assert error[0] > error[-1] and error[-1] < 0.05
    assert labels.evidence["lost"][-1] > 0 and "20% of the labels" in labels.message
    cards = make_cards(findings.values(), Album(read_manifest(folder), folder))
    assert [card.chart.startswith("<svg") for card in cards if card.id == "learning_curve/images"] == [True]
    assert not any("chart" in key for card in cards for key, _ in card.evidence)


def test_random_labels_and_few_groups_give_no_forecast(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [(str(rng.integers(3)), image) for _, image in digit_images(per_class=20)]
    finding = findings_by_id(ingest(write_folders(tmp_path / "d", images)), params)["learning_curve/not-checked"]
    assert "could not be extrapolated" in finding.message
    few = ingest(write_folders(tmp_path / "e", digit_images(per_class=4)))
    finding = findings_by_id(few, params)["learning_curve/not-checked"]
    assert finding.severity == "warning" and "at least 40 are required" in finding.message


def test_a_perfect_probe_and_blank_images_are_handled(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    separable = [("ab"[i % 2], (rng.integers(0, 60, (8, 8)) + 150 * (np.arange(8) < 4) * (i % 2)).astype(np.uint8))
             for i in range(120)]  # fmt: skip
    finding = findings_by_id(ingest(write_folders(tmp_path / "d", separable)), params)["learning_curve/images"]
    assert finding.evidence["error"][-1] == 0 and finding.severity == "info"
    assert "The error is already at most 2 points" in finding.message
    blank = [("ab"[i % 2], np.full((8, 8), i, np.uint8)) for i in range(120)]
    assert set(findings_by_id(ingest(write_folders(tmp_path / "e", blank), name="blank"), params)) == {
        "learning_curve/not-checked"
    }
