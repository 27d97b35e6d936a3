"""Linear baseline: probabilities and numbers, the comparison with the network, and its sentences."""

from typing import Any

import numpy as np
import pytest

from stages.networks.feature_record import describe_features
from stages.probes.linear_baseline import predict_classes, predict_numbers
from stages.reports.evaluation_report import baseline_sentence
from stages.tasks.constant_prediction import compare
from stages.tasks.task_interface import Score


def clouds(seed: int, distance: float, images: int = 120) -> tuple[Any, Any]:
    """Return features of three classes whose centres are `distance` apart, and the classes."""
    rng = np.random.default_rng(seed)
    codes_N = rng.integers(0, 3, images)
    return rng.normal(size=(images, 20)) + distance * np.eye(20)[codes_N], codes_N


@pytest.mark.parametrize(("distance", "low", "high"), [(0.0, 0.2, 0.47), (2.0, 0.75, 0.95), (6.0, 1.0, 1.0)])
def test_classes_are_predicted_as_well_as_they_are_separated(distance: float, low: float, high: float) -> None:
    (train_NF, codes_N), (other_MF, truth_M) = clouds(0, distance), clouds(1, distance, images=600)
    p_MK = predict_classes(train_NF, codes_N, np.arange(120), other_MF, 3)
    assert p_MK.sum(axis=1) == pytest.approx(1)
    assert low <= (p_MK.argmax(axis=1) == truth_M).mean() <= high
    confidence = p_MK.max(axis=1).mean()
    assert confidence == pytest.approx((p_MK.argmax(axis=1) == truth_M).mean(), abs=0.12)  # calibrated


def test_a_single_group_and_a_missing_class_do_not_fail() -> None:
    train_NF, codes_N = clouds(0, 3.0)
    p_MK = predict_classes(train_NF, codes_N, np.zeros(120, int), train_NF, 5)
    assert p_MK.shape == (120, 5) and (p_MK.argmax(axis=1) == codes_N).mean() > 0.9


def test_numbers_are_limited_to_the_range_of_the_training_images() -> None:
    rng = np.random.default_rng(0)
    train_NF = rng.normal(size=(200, 5))
    target_ND = train_NF[:, :2] * [1.0, 1000.0]
    predicted_MD = predict_numbers(train_NF, target_ND, np.array([[0.5, -0.5, 0, 0, 0], [99.0, 99.0, 0, 0, 0]]))
    assert predicted_MD[0] == pytest.approx([0.5, -500.0], rel=0.05)
    assert predicted_MD[1] == pytest.approx(target_ND.max(axis=0))


@pytest.mark.parametrize(
    ("better", "gain", "verdict"),
    [("higher", 0.1, True), ("higher", -0.1, False), ("higher", 0.0, False), ("lower", -0.1, True)],
)
def test_the_network_is_better_only_beyond_the_interval(better: Any, gain: float, verdict: bool) -> None:
    noise_R = np.random.default_rng(0).normal(0, 0.02, 500)
    noise_R[0] = 0.0
    found = compare(0.7 + noise_R, 0.7 + gain + noise_R * 0.5, Score(better), 50, 0.95)
    assert found["better"] is verdict and found["difference"]["value"] == pytest.approx(gain)
    figures = {"value": 0.7, "low": 0.65, "high": 0.75, **found}
    scores = {"units": {"f1": ""}, "baseline": {"available": True, "model": "a model", "scores": {"f1": figures}}}
    assert f"The network is {'better' if verdict else 'not shown to be better'}: " in baseline_sentence(scores, "f1")


def test_the_sentence_says_why_there_is_no_baseline() -> None:
    scores = {"units": {"f1": ""}, "baseline": {"available": False, "reason": "masks"}}
    assert baseline_sentence(scores, "f1") == "There is no baseline: masks."


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "random patches"),
        (0.03, "random patches (97%) and efficientnet_lite0 at 160 pixels (3%)"),
        (1.0, "efficientnet_lite0 at 160 pixels"),
    ],
)
def test_the_features_are_named_with_their_shares(share: float, text: str) -> None:
    assert describe_features(share) == text
