"""Tests of the score drop of variants and its confidence interval."""

import numpy as np
import pytest

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
