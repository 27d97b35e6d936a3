"""Scores are equal to those of scikit-learn, and confidence intervals have the nominal coverage."""

import numpy as np
import pytest
from sklearn import metrics

from stages.tasks import classification
from stages.tasks.evaluation import summarize
from stages.tasks.intervals import interval, resample_weights
from stages.tasks.task_spec import TaskSpec

ONES = np.ones((1, 200))


def predictions(seed: int, classes: int, images: int = 200, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, classes, images)
    logit_NK = rng.normal(size=(images, classes)).round(1)  # rounded: ties occur
    logit_NK[np.arange(images), label_N] += skill
    probability_NK = np.exp(logit_NK)
    return label_N, probability_NK / probability_NK.sum(axis=1, keepdims=True)


def score(name: str, label_N: np.ndarray, probability_NK: np.ndarray) -> float:
    return float(classification.FUNCTIONS[name](label_N, probability_NK, np.ones((1, len(label_N))))[0])


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_those_of_scikit_learn(classes: int, seed: int) -> None:
    label_N, probability_NK = predictions(seed, classes)
    predicted_N = probability_NK.argmax(axis=1)
    for_auc = probability_NK[:, 1] if classes == 2 else probability_NK
    expected = {
        "accuracy": metrics.accuracy_score(label_N, predicted_N),
        "balanced_accuracy": metrics.balanced_accuracy_score(label_N, predicted_N),
        "f1": metrics.f1_score(label_N, predicted_N, average="macro"),
        "auc": metrics.roc_auc_score(label_N, for_auc, multi_class="ovr", average="macro"),
    }
    assert set(expected) == set(classification.SCORES)
    for name, value in expected.items():
        assert score(name, label_N, probability_NK) == pytest.approx(value, abs=1e-12), name
    per_class = classification.per_class(label_N, probability_NK, ONES)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(label_N, predicted_N, zero_division=0)
    assert per_class["precision"][0] == pytest.approx(precision)
    assert per_class["recall"][0] == pytest.approx(recall)
    assert per_class["f1"][0] == pytest.approx(f1)
    assert np.array_equal(
        classification.confusion(label_N, probability_NK), metrics.confusion_matrix(label_N, predicted_N)
    )


def test_a_weight_of_two_counts_an_image_twice() -> None:
    label_N, probability_NK = predictions(0, 3)
    weight_N = np.random.default_rng(1).integers(0, 3, 200)
    repeated = np.repeat(np.arange(200), weight_N)
    spec = TaskSpec("classification", "class", "label", labels=("a", "b", "c"))
    weighted = classification.scores(list(label_N), list(probability_NK), weight_N[None].astype(float), spec)
    assert weighted
    for name, value_R in weighted.items():
        assert value_R[0] == pytest.approx(score(name, label_N[repeated], probability_NK[repeated])), name


def test_a_class_without_images_is_excluded_from_the_mean() -> None:
    label_N, probability_NK = predictions(0, 3)
    included = label_N != 2
    balanced_accuracy = score("balanced_accuracy", label_N[included], probability_NK[included])
    mean_recall = metrics.recall_score(
        label_N[included], probability_NK[included].argmax(axis=1), labels=[0, 1], average="macro"
    )
    assert balanced_accuracy == pytest.approx(mean_recall)


def test_calibration_error_is_zero_if_calibrated_and_large_if_overconfident() -> None:
    rng = np.random.default_rng(0)
    confidence_N = rng.uniform(0.5, 1, 20_000)
    correct_N = rng.random(20_000) < confidence_N
    label_N = np.where(correct_N, 0, 1)
    weight_RN = np.ones((1, 20_000))
    calibrated = np.stack([confidence_N, 1 - confidence_N], axis=1)
    overconfident = np.tile([0.999, 0.001], (20_000, 1))
    error = classification.calibration(label_N, calibrated, weight_RN, 10)["expected_calibration_error"][0]
    assert error < 0.02
    error = classification.calibration(label_N, overconfident, weight_RN, 10)["expected_calibration_error"][0]
    assert error == pytest.approx(0.249, abs=0.01)


def test_intervals_cover_the_true_accuracy_at_the_nominal_rate() -> None:
    true_accuracy, covered = 0.8, 0
    for seed in range(100):
        correct_N = np.random.default_rng(seed).random(150) < true_accuracy
        probability_NK = np.where(correct_N[:, None], [0.9, 0.1], [0.1, 0.9])
        weight_RN = resample_weights(np.arange(150), 400, seed)
        found = interval(classification.accuracy(np.zeros(150, int), probability_NK, weight_RN), 0.95, 150)
        assert found["low"] is not None and found["high"] is not None
        covered += found["low"] <= true_accuracy <= found["high"]
    assert 88 <= covered <= 100


def test_groups_are_resampled_together_which_widens_the_interval() -> None:
    group_N = np.repeat(np.arange(20), 10)
    correct_N = np.repeat(np.random.default_rng(0).random(20) < 0.7, 10)
    probability_NK = np.where(correct_N[:, None], [0.9, 0.1], [0.1, 0.9])
    label_N = np.zeros(200, int)
    width = {}
    for name, groups in {"grouped": group_N, "single": np.arange(200)}.items():
        weight_RN = resample_weights(groups, 500)
        assert (weight_RN[0] == 1).all() and (weight_RN.sum(axis=1) == 200).all()
        found = interval(classification.accuracy(label_N, probability_NK, weight_RN), 0.95, 20)
        width[name] = found["high"] - found["low"]  # type: ignore[operator]
    assert width["grouped"] > 2 * width["single"]


def summary_of(label_N: np.ndarray, probability_NK: np.ndarray) -> dict:
    spec, group_N = TaskSpec("classification", "class", "label", labels=("a", "b")), np.arange(len(label_N))
    return summarize(spec, list(label_N), list(probability_NK), group_N, resamples=200, confidence=0.95, bins=10)[0]


def test_an_undefined_score_is_null() -> None:
    summary = summary_of(np.zeros(30, int), np.tile([0.6, 0.4], (30, 1)))
    assert summary["scores"]["auc"] == {"value": None, "low": None, "high": None}
    assert summary["parts"]["rows"][1]["recall"]["value"] is None
    assert summary["scores"]["accuracy"]["value"] == 1.0


def test_the_interval_of_a_perfect_score_has_a_width() -> None:
    label_N = np.repeat([0, 1], [30, 10])
    summary = summary_of(label_N, np.where(label_N[:, None] == [0, 1], 0.9, 0.1))
    rare, common = summary["parts"]["rows"][1]["recall"], summary["parts"]["rows"][0]["recall"]
    assert rare["low"] == pytest.approx(0.025 ** (1 / 10))
    assert common["low"] == pytest.approx(0.025 ** (1 / 30))
    assert summary["scores"]["balanced_accuracy"]["low"] == pytest.approx(0.025 ** (1 / 20)), "2 classes of 10"
    reverse = summary_of(label_N, np.where(label_N[:, None] == [0, 1], 0.1, 0.9))
    assert reverse["scores"]["accuracy"]["value"] == 0.0
    assert 0 < reverse["scores"]["accuracy"]["high"] < 0.2
