"""Test whether one model has a better score than another on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Shaped
from stages.tasks import TASKS
from stages.tasks.intervals import paired_difference, resample_weights
from stages.tasks.task_spec import TaskSpec

EXCHANGES = 4999
"""Number of random exchanges; the smallest p-value is 1 / (EXCHANGES + 1)."""


@dataclass(frozen=True)
class PairedTest:
    """Difference in score between two models on the same images, and whether it exceeds noise."""

    first: float | None
    """Score of the first model; None if undefined."""
    other: float | None
    """Score of the other model; None if undefined."""
    difference: dict[str, float | None]
    """`other` minus `first`, as value, low and high of a paired bootstrap over groups."""
    p: float | None
    """Two-sided p-value of the exchange test, 0..1; None if the difference is undefined."""
    groups: int
    """Number of groups of images."""
    better: str
    """higher or lower: which values of the score are better."""

    def verdict(self, confidence: float) -> str:
        """Return "better", "worse", "no difference shown" or "undefined" for the other model.

        Args:
            confidence: 1 minus the largest p-value of a difference, 0..1.
        """
        value = self.difference["value"]
        if self.p is None or value is None:
            return "undefined"
        if self.p > 1 - confidence or value == 0:
            return "no difference shown"
        return "better" if (value > 0) == (self.better == "higher") else "worse"


def compare_predictions(
    spec: TaskSpec,
    score: str,
    truths: Sequence[Any],
    first: Sequence[Any],
    other: Sequence[Any],
    group_N: Shaped[Array, " N"],
    *,
    resamples: int,
    confidence: float,
) -> PairedTest:
    """Compare the predictions of two models for the same images with an exchange test over groups.

    If the models were equally good, their predictions for a group could be exchanged. The p-value is the share of
    random exchanges, the actual assignment included, whose difference is at least as large (paired permutation test;
    Good 2005, Permutation, Parametric, and Bootstrap Tests of Hypotheses). In contrast to the bootstrap, the test holds
    its level if the models differ for few images: five improvements and no loss have p = 2 / 2**5, whereas the interval
    of the bootstrap excludes 0.

    Args:
        spec: task specification of both models.
        score: name of the score.
        truths: ground truth of each image.
        first: prediction of the first model for each image.
        other: prediction of the other model for each image.
        group_N: group of each image; the images of a group are exchanged and resampled together.
        resamples: number of bootstrap resamples of the interval.
        confidence: coverage of the interval, 0..1.
    """
    kind = TASKS[spec.task]
    weight_RN = resample_weights(group_N, resamples)
    first_R, other_R = (kind.scores(truths, one, weight_RN, spec)[score] for one in (first, other))
    exchanged_RN = _exchanges(group_N)
    both = [*truths, *truths], [*first, *other]
    keep_R2N, swap_R2N = (np.concatenate([1 - one_RN, one_RN], axis=1) for one_RN in (1 - exchanged_RN, exchanged_RN))
    difference_R = kind.scores(*both, keep_R2N, spec)[score] - kind.scores(*both, swap_R2N, spec)[score]
    return PairedTest(
        _defined(first_R[0]),
        _defined(other_R[0]),
        paired_difference(first_R, other_R, confidence),
        _p_value(difference_R),
        len(np.unique(group_N)),
        kind.SCORES[score].better,
    )


def _exchanges(group_N: Shaped[Array, " N"], seed: int = 0) -> Float[Array, "R N"]:
    """Return 1 where the predictions of an image are exchanged; the first row exchanges none."""
    _, index_N = np.unique(group_N, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn_RG = rng.integers(0, 2, (EXCHANGES, int(index_N.max()) + 1))
    return np.concatenate([np.zeros((1, len(group_N))), drawn_RG[:, index_N]])


def _p_value(difference_R: Float[Array, " R"]) -> float | None:
    """Return the share of differences, the first included, that are at least as large as the first in size."""
    if not np.isfinite(difference_R[0]):
        return None
    defined = difference_R[np.isfinite(difference_R)]
    return float(np.mean(np.abs(defined) >= abs(difference_R[0]) - 1e-12))


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
