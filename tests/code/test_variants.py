"""What a cheaper variant costs, as it is told."""

import numpy as np
import pytest

from stages.tasks.outline import Outline
from stages.variants.judging import Drop, Judge

OUTLINE = Outline("classification", "class", "label", labels=("a", "b"))


def judge(images: int) -> Judge:
    return Judge([i % 2 for i in range(images)], np.arange(images), OUTLINE, "accuracy", 500, 0.95)


def answers(images: int, wrong: int = 0) -> list[np.ndarray]:
    return [np.eye(2)[(i + (i < wrong)) % 2] for i in range(images)]


def test_without_a_difference_the_interval_still_ends_where_so_few_images_see_nothing() -> None:
    drop = judge(50).drop(answers(50), answers(50))
    assert (drop.value, drop.low) == (0.0, 0.0)
    assert drop.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_more_images_narrow_it() -> None:
    assert not judge(50).drop(answers(50), answers(50)).within(0.02)
    assert judge(400).drop(answers(400), answers(400)).within(0.02)


def test_a_variant_that_errs_more_drops_by_that_much() -> None:
    drop = judge(100).drop(answers(100), answers(100, wrong=10))
    assert drop.value == pytest.approx(0.1)
    assert drop.low is not None and drop.high is not None and drop.low < 0.1 < drop.high
    assert not drop.within(0.1)


def test_an_undefined_drop_is_within_nothing() -> None:
    assert not Drop(None, None, None).within(1.0)
