"""A power law is found with its interval, the probe's curve is drawn from whole groups, and it is said in words."""

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


def class_asked(code: np.ndarray) -> RegressionTargets:
    return RegressionTargets("the class", np.eye(int(code.max()) + 1)[code], True)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_a_law_is_found_again(floor: float) -> None:
    truth = 2 * SIZES**-0.4 + floor
    law = fit(SIZES, truth[None], floor=True)
    assert (law.b[0], law.c[0]) == (pytest.approx(0.4, abs=0.03), pytest.approx(floor, abs=0.01))
    assert law(3200)[0, 0] == pytest.approx(2 * 3200**-0.4 + floor, rel=0.02)
    assert fit(SIZES, truth[None], floor=False)(3200)[0, 0] <= law(3200)[0, 0] + 1e-9, "no floor promises more"


def test_the_interval_holds_the_error_at_four_times_the_images() -> None:
    """600 held-out images, the same ones for all sizes, and scatter of half a point."""
    rng = np.random.default_rng(0)
    inside, width = [], []
    for _ in range(60):
        difficulty = rng.random(600)
        chance = 2 * SIZES**-0.4
        wrong = difficulty < (chance + rng.normal(0, 0.005, 6))[:, None]
        often = rng.multinomial(600, np.full(600, 1 / 600), 200)
        ahead = extrapolate(SIZES, wrong.mean(axis=1), often @ wrong.T / 600)
        _, low, high = ahead.error(3200)
        inside.append(low[0] <= 2 * 3200**-0.4 <= high[0])
        width.append(high[0] - low[0])
    assert len(inside) == 60 and np.mean(inside) >= 0.9
    assert np.mean(width) < 0.12, "the interval is not trivially wide"


def test_the_images_needed_are_where_the_curve_has_fallen_by_the_gain() -> None:
    truth = 2 * SIZES**-0.4
    ahead = extrapolate(SIZES, truth, truth[None].repeat(20, axis=0))
    wanted = (2 / (2 * 800**-0.4 - 0.02)) ** 2.5
    assert ahead.needed(800, 0.02, 80_000)[0] == pytest.approx(wanted, rel=0.02)
    assert ahead.gain(800, wanted)[0] == pytest.approx(0.02, abs=0.001)
    assert np.isinf(ahead.needed(800, 0.5, 80_000)).all()


def test_training_sets_are_nested_hold_whole_groups_and_every_class() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 4)
    code = (np.arange(60) % 10 == 0).astype(int)[group]
    order = nested_order(np.flatnonzero(group < 50), group, code, rng)
    assert sorted(order) == list(range(200))
    assert (np.diff(group[order].reshape(-1, 4), axis=1) == 0).all(), "groups stay together"
    assert 1 <= code[order[:40]].sum() / 4 <= 2, "a fifth of the images has a fifth of the five rare groups"


def test_wrong_labels_are_as_many_as_said_and_alike_within_a_group() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), 3)
    question = class_asked((np.arange(200) % 4)[group])
    order = rng.permutation(600)
    replaced = noisy(question, order, group, 0.1, rng)
    changed = (replaced != question.target_ND[order]).any(axis=1)
    assert changed.mean() == pytest.approx(0.1)
    assert pd.Series(replaced.argmax(axis=1)).groupby(group[order]).nunique().max() == 1
    numbers = RegressionTargets("the numbers", rng.normal(size=(600, 2)), False)
    other = noisy(numbers, order, group, 0.1, rng)
    assert 0.08 < (other != numbers.target_ND[order]).all(axis=1).mean() <= 0.1
    assert sorted(other[:, 0]) == sorted(numbers.target_ND[:, 0]), "the same numbers, elsewhere"


def test_the_error_falls_with_images_rises_with_wrong_labels_and_counts_classes_alike() -> None:
    rng = np.random.default_rng(0)
    code = (rng.random(900) < 0.1).astype(int)
    features = rng.normal(size=(900, 60)).astype(np.float32)
    features[:, :3] += 1.2 * code[:, None]
    curve = measure_curve(features, class_asked(code), np.arange(900))
    assert curve.error_J[0] > curve.error_J[-1] + 0.03
    assert curve.noisy_Q[-1] > curve.error_J[-1]
    assert curve.noisy_BQ.shape == (len(curve.resampled_BJ), len(NOISE))
    blind = measure_curve(rng.normal(size=(900, 5)).astype(np.float32), class_asked(code), np.arange(900))
    assert blind.error_J == pytest.approx(np.full(6, 0.5), abs=0.1), "the frequent class alone is worth nothing"


def test_unknown_numbers_are_neither_learned_nor_counted() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 10)).astype(np.float32)
    truth = features[:, :2] * [1.0, 100.0]
    truth[rng.random((300, 2)) < 0.2] = np.nan
    curve = measure_curve(features, RegressionTargets("the numbers", truth, False), np.arange(300))
    assert curve.error_J[-1] < 0.15, "as if there were less to learn from"


@pytest.mark.parametrize(
    ("annotations", "what", "first"),
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
def test_every_form_of_labels_becomes_numbers(annotations: list[Annotation], what: str, first: list[float]) -> None:
    rows = pd.DataFrame({"annotation": [a.to_json() for a in annotations], "width": 10, "height": 20})
    question = regression_targets(rows, Path())
    assert isinstance(question, RegressionTargets) and question.name == what
    assert question.target_ND[0].tolist() == first


@pytest.mark.parametrize("one", [Annotation(labels=("a",)), Annotation(scalars={"g": 1.0}), Annotation(image=True)])
def test_what_does_not_vary_or_is_an_image_is_not_asked(one: Annotation) -> None:
    rows = pd.DataFrame({"annotation": [one.to_json()] * 3, "width": 10, "height": 20})
    assert isinstance(regression_targets(rows, Path()), str)


def found(folder: Path, params: Params) -> dict[str, Finding]:
    subject = AuditData(read_manifest(folder), pd.read_parquet(folder / "sealed_index.parquet"), folder)
    return {f.id: f for f in learning_curve.find(subject, params.audit)}


def test_digits_need_no_more_images_and_the_chart_shows_it(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    folder = ingest(write_folders(tmp_path / "d", digit_images(per_class=40)))
    findings = found(folder, params)
    assert set(findings) == {"learning_curve/images", "learning_curve/labels"}
    images, labels = findings["learning_curve/images"], findings["learning_curve/labels"]
    assert "Twice the 280 training images" in images.message and "read the gain as a share" in images.message
    error = images.evidence["error"]
    assert error[0] > error[-1] and error[-1] < 0.05
    assert labels.evidence["lost"][-1] > 0 and "20 % cost" in labels.message
    shown = make_cards(findings.values(), Album(read_manifest(folder), folder))
    assert [card.chart.startswith("<svg") for card in shown if card.id == "learning_curve/images"] == [True]
    assert not any("chart" in key for card in shown for key, _ in card.evidence)


def test_labels_that_mean_nothing_and_a_handful_of_groups_get_no_forecast(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images = [(str(rng.integers(3)), image) for _, image in digit_images(per_class=20)]
    finding = found(ingest(write_folders(tmp_path / "d", images)), params)["learning_curve/not-checked"]
    assert "could not be extrapolated" in finding.message
    few = ingest(write_folders(tmp_path / "e", digit_images(per_class=4)))
    finding = found(few, params)["learning_curve/not-checked"]
    assert finding.severity == "warning" and "at least 40 are required" in finding.message


def test_a_probe_without_errors_and_images_without_anything_do_no_harm(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    apart = [("ab"[i % 2], (rng.integers(0, 60, (8, 8)) + 150 * (np.arange(8) < 4) * (i % 2)).astype(np.uint8))
             for i in range(120)]  # fmt: skip
    finding = found(ingest(write_folders(tmp_path / "d", apart)), params)["learning_curve/images"]
    assert finding.evidence["error"][-1] == 0 and finding.severity == "info"
    assert "The error is already below 2 points" in finding.message
    blank = [("ab"[i % 2], np.full((8, 8), i, np.uint8)) for i in range(120)]
    assert set(found(ingest(write_folders(tmp_path / "e", blank), name="blank"), params)) == {
        "learning_curve/not-checked"
    }
