"""Tests of the score drop of variants and its confidence interval."""

import numpy as np
import pytest

from stages.quantization.score_drop import Drop, DropEvaluator
from stages.tasks.segmentation import Mask
from stages.tasks.task_spec import TaskSpec

OUTLINE = TaskSpec("classification", "class", "label", labels=("a", "b"))


def create_evaluator(images: int) -> DropEvaluator:
    return DropEvaluator([i % 2 for i in range(images)], np.arange(images), OUTLINE, "accuracy", 500, 0.95)


def answers(images: int, wrong: int = 0) -> list[np.ndarray]:
    return [np.eye(2)[(i + (i < wrong)) % 2] for i in range(images)]


def test_interval_without_difference_is_the_binomial_bound() -> None:
    drop = create_evaluator(50).measure(answers(50), answers(50))
    assert (drop.value, drop.low) == (0.0, 0.0)
    assert drop.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_better_variant_on_few_images_keeps_the_binomial_bound() -> None:
    drop = create_evaluator(10).measure(answers(10, wrong=1), answers(10))
    assert drop.value == pytest.approx(-0.1)
    assert drop.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert not drop.within(0.02)


def test_rarest_class_determines_the_bound() -> None:
    truths = [0] * 190 + [1] * 4
    right = [np.eye(2)[label] for label in truths]
    seen = DropEvaluator(truths, np.arange(194), OUTLINE, "balanced_accuracy", 500, 0.95)
    assert seen.measure(right, right).high == pytest.approx(1 - 0.025 ** (1 / 8))


@pytest.mark.parametrize(("groups", "holds"), [(2, False), (40, True)])
def test_few_groups_accept_no_variant(groups: int, holds: bool) -> None:
    spec = TaskSpec("segmentation", "mask", "mask", labels=("background", "thing"), tolerance=1.0)
    truths = [(np.indices((16, 16)).sum(axis=0) < 12).astype(np.uint8) for _ in range(40)]
    nearly = [mask.copy() for mask in truths]
    for number, mask in enumerate(nearly):
        mask[0, number % 2] = 0
    seen = DropEvaluator(truths, np.arange(40) % groups, spec, "dice", 500, 0.95)
    drop = seen.measure([Mask(mask, None) for mask in truths], [Mask(mask, None) for mask in nearly])
    assert drop.value is not None and 0 < drop.value < 0.02
    assert drop.within(0.02) == holds


def test_more_images_narrow_the_interval() -> None:
    assert not create_evaluator(50).measure(answers(50), answers(50)).within(0.02)
    assert create_evaluator(400).measure(answers(400), answers(400)).within(0.02)


def test_more_errors_increase_the_drop() -> None:
    drop = create_evaluator(100).measure(answers(100), answers(100, wrong=10))
    assert drop.value == pytest.approx(0.1)
    assert drop.low is not None and drop.high is not None and drop.low < 0.1 < drop.high
    assert not drop.within(0.1)


def test_undefined_drop_is_not_accepted() -> None:
    assert not Drop(None, None, None).within(1.0)
