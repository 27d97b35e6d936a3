"""Tests of the score drop of variants and its confidence interval."""

import numpy as np
import pytest

from stages.quantization.magnified_change import decided_classes, magnified
from stages.quantization.score_drop import Drop, DropEvaluator
from stages.tasks.segmentation import Mask
from stages.tasks.task_spec import TaskSpec

SPEC = TaskSpec("classification", "class", "label", labels=("a", "b"))


def create_evaluator(images: int) -> DropEvaluator:
    return DropEvaluator([i % 2 for i in range(images)], np.arange(images), SPEC, "accuracy", 500, 0.95)


def predictions(images: int, wrong: int = 0) -> list[np.ndarray]:
    return [np.eye(2)[(i + (i < wrong)) % 2] for i in range(images)]


def test_interval_without_difference_is_the_binomial_bound() -> None:
    drop = create_evaluator(50).measure(predictions(50), predictions(50))
    assert (drop.value, drop.low) == (0.0, 0.0)
    assert drop.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_better_variant_on_few_images_keeps_the_binomial_bound() -> None:
    drop = create_evaluator(10).measure(predictions(10, wrong=1), predictions(10))
    assert drop.value == pytest.approx(-0.1)
    assert drop.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert not drop.within(0.02)


def test_rarest_class_determines_the_bound() -> None:
    targets = [0] * 190 + [1] * 4
    correct = [np.eye(2)[label] for label in targets]
    evaluator = DropEvaluator(targets, np.arange(194), SPEC, "balanced_accuracy", 500, 0.95)
    assert evaluator.measure(correct, correct).high == pytest.approx(1 - 0.025 ** (1 / 8))


@pytest.mark.parametrize(("groups", "accepted"), [(2, False), (40, True)])
def test_few_groups_accept_no_variant(groups: int, accepted: bool) -> None:
    spec = TaskSpec("segmentation", "mask", "mask", labels=("background", "object"), tolerance=1.0)
    targets = [(np.indices((16, 16)).sum(axis=0) < 12).astype(np.uint8) for _ in range(40)]
    almost_equal = [mask.copy() for mask in targets]
    for number, mask in enumerate(almost_equal):
        mask[0, number % 2] = 0
    evaluator = DropEvaluator(targets, np.arange(40) % groups, spec, "dice", 500, 0.95)
    drop = evaluator.measure([Mask(mask, None) for mask in targets], [Mask(mask, None) for mask in almost_equal])
    assert drop.value is not None and 0 < drop.value < 0.02
    assert drop.within(0.02) == accepted


def test_more_images_narrow_the_interval() -> None:
    assert not create_evaluator(50).measure(predictions(50), predictions(50)).within(0.02)
    assert create_evaluator(400).measure(predictions(400), predictions(400)).within(0.02)


def test_more_errors_increase_the_drop() -> None:
    drop = create_evaluator(100).measure(predictions(100), predictions(100, wrong=10))
    assert drop.value == pytest.approx(0.1)
    assert drop.low is not None and drop.high is not None and drop.low < 0.1 < drop.high
    assert not drop.within(0.1)


def test_undefined_drop_is_not_accepted() -> None:
    assert not Drop(None, None, None).within(1.0)


GROUPS, IMAGES = 20, 10


def few_groups(change: float, task: str = "classification") -> tuple[DropEvaluator, list[np.ndarray], list[np.ndarray]]:
    """Return an evaluator with 10 groups per class, and predictions whose log-odds differ by up to `change`."""
    spec = TaskSpec(task, "class", "label", labels=("a", "b"))
    rng = np.random.default_rng(0)
    label_N = (np.arange(GROUPS) % 2).repeat(IMAGES)
    odds_N = (1 - 2 * label_N) * rng.uniform(1, 8, len(label_N))
    score = "balanced_accuracy" if task != "multilabel" else "macro_f1"
    truths = list(np.eye(2, dtype=bool)[label_N]) if task == "multilabel" else label_N.tolist()
    evaluator = DropEvaluator(truths, np.arange(GROUPS).repeat(IMAGES), spec, score, 200, 0.95)
    return evaluator, sigmoid(odds_N), sigmoid(odds_N + rng.uniform(-change, change, len(label_N)))


def sigmoid(odds_N: np.ndarray) -> list[np.ndarray]:
    return list(np.stack([1 / (1 + np.exp(-odds_N)), 1 / (1 + np.exp(odds_N))], axis=1))


@pytest.mark.parametrize("task", ["classification", "multilabel", "ordinal"])
@pytest.mark.parametrize(("change", "accepted"), [(1e-6, True), (0.05, True), (0.9, False)])
def test_few_groups_accept_only_changes_far_below_the_margins(task: str, change: float, accepted: bool) -> None:
    evaluator, exact, other = few_groups(change, task)
    direct = evaluator.measure(exact, other)
    assert direct.value == 0 and not direct.within(0.02)
    magnification = evaluator.choose_magnification(exact, 0.02)
    drop = evaluator.measure(exact, other, magnification)
    assert drop.value == 0
    assert drop.within(0.02) == accepted


def test_magnification_is_the_smallest_with_which_an_unchanged_variant_passes() -> None:
    evaluator, exact, _ = few_groups(0.0)
    magnification = evaluator.choose_magnification(exact, 0.02)
    assert magnification == 9
    assert evaluator.measure(exact, exact, magnification).within(0.02)
    assert not evaluator.measure(exact, exact, magnification - 1).within(0.02)


@pytest.mark.parametrize(("images", "expected"), [(4, 1), (400, 1)])
def test_changes_are_not_magnified_with_too_few_groups_or_enough(images: int, expected: int) -> None:
    assert create_evaluator(images).choose_magnification(predictions(images), 0.02) == expected


def test_disagreement_on_images_without_labels_is_divided_by_the_magnification() -> None:
    evaluator, exact, _ = few_groups(0.0)
    odds_N = np.array([3.0] * 90 + [0.5] * 10)
    flipped = evaluator.disagreement(sigmoid(odds_N), sigmoid(odds_N - 0.1), np.arange(100), 9, evaluator.unit(exact))
    unchanged = evaluator.disagreement(sigmoid(odds_N), sigmoid(odds_N), np.arange(100), 9, evaluator.unit(exact))
    assert unchanged == 0
    assert flipped is not None and 0.1 / 9 < flipped < 0.2 / 9


@pytest.mark.parametrize("task", ["classification", "multilabel", "ordinal"])
def test_magnified_log_odds_are_extrapolated(task: str) -> None:
    odds_N = np.array([-3.0, 0.1, 20.0])
    found = magnified(sigmoid(odds_N), sigmoid(odds_N + 0.5), 4, task)
    assert np.stack(found) == pytest.approx(np.stack(sigmoid(odds_N + 2.0)), rel=1e-6)
    assert np.stack(magnified(sigmoid(odds_N), sigmoid(-odds_N), 1, task)) == pytest.approx(np.stack(sigmoid(-odds_N)))


def test_decided_classes_have_the_format_of_the_truth() -> None:
    probabilities = [np.array([0.4, 0.3, 0.3]), np.array([0.1, 0.2, 0.7])]
    assert decided_classes(probabilities, "classification") == [0, 2]
    assert decided_classes(probabilities, "ordinal") == [1, 2]
    assert [list(row) for row in decided_classes(probabilities, "multilabel")] == [[False] * 3, [False, False, True]]
