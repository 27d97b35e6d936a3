"""Confident learning: find labels that disagree with predicted probabilities, and estimate the share of wrong labels.

The error score of a label is the amount by which another label fits better (Northcutt, Jiang and Chuang 2021). The
share of wrong labels is estimated by comparison with labels that are known to be wrong: each image is assigned the
labels of other images. Let q be the share of these whose score is at least t. If a share s of the given labels is wrong
in this way, at least s * q of the images have such a score. The share of images with a score of at least t, divided by
q, is therefore an upper bound of s for every t; the estimate is its minimum (a mixture proportion: Blanchard, Lee and
Scott 2010). Overlapping classes have low scores and do not inflate the estimate, as they do for counts of
disagreements.

Axes: N images, K classes.
"""

from dataclasses import dataclass

import numpy as np

from stages.core.shapes import Array, Float, Integer, Real

LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # values of q over which the minimum is taken
Z = 2.6  # normal quantile of the lower bound (99.5 %)


@dataclass(frozen=True)
class LabelErrors:
    """Scores of possible label errors, and their estimated share."""

    score_N: Float[Array, " N"]
    """0: no other class fits better; 1: another class is certain. For grades, multiplied by the difference."""
    better_N: Integer[Array, " N"]
    """Class that fits best."""
    skill: float
    """Skill of the predictions, averaged over classes: 0 is chance, 1 is perfect."""
    share: float
    """Estimated share of wrong labels, 0 to 1; too high if the skill is low."""
    at_least: float
    """Lower confidence bound of `share`."""

    def most_certain(self, most: int = 24) -> Integer[Array, " M"]:
        """Return indices of the most likely label errors, most certain first: at most `most` and at most `count`."""
        return np.argsort(-self.score_N, kind="stable")[: min(most, self.count)]

    @property
    def count(self) -> int:
        """Estimated number of wrong labels."""
        return round(self.share * len(self.score_N))


def find_label_errors(p_NK: Float[Array, "N K"], codes_N: Integer[Array, " N"], ordered: bool = False) -> LabelErrors:
    """Find labels that disagree with out-of-fold probabilities.

    Args:
        p_NK: probability of each class, from a model that was not trained on the group of the image; rows sum to 1.
        codes_N: given class of each image, 0 to K - 1; each class occurs.
        ordered: whether the classes are grades in order; an error is then weighted by the difference of the grades.
    """
    classes = np.arange(p_NK.shape[1])
    cost_KK = np.abs(classes[:, None] - classes) if ordered else 1 - np.eye(len(classes))
    loss_NK = p_NK @ cost_KK
    score_NK = loss_NK - loss_NK.min(axis=1, keepdims=True)
    better_N = loss_NK.argmin(axis=1)
    given_N = score_NK[np.arange(len(codes_N)), codes_N]
    share, at_least = _share(score_NK, codes_N, given_N)
    return LabelErrors(given_N, better_N, _skill(better_N, codes_N, cost_KK), share, at_least)


def _share(
    score_NK: Float[Array, "N K"], codes_N: Integer[Array, " N"], given_N: Float[Array, " N"]
) -> tuple[float, float]:
    """Return the estimate and the lower bound of the share of wrong labels, as described in the module."""
    frequency_K = np.bincount(codes_N, minlength=score_NK.shape[1]) / len(codes_N)
    weight_NK = np.broadcast_to(frequency_K, score_NK.shape).copy()
    weight_NK[np.arange(len(codes_N)), codes_N] = 0  # symmetric errors: as many from a to b as from b to a
    order = np.argsort(-score_NK, axis=None)
    known_wrong, weight = score_NK.ravel()[order], weight_NK.ravel()[order].cumsum()
    weight /= weight[-1]
    sorted_N = np.sort(given_N)
    estimates, bounds = [], []
    for level in LEVELS:
        place = np.searchsorted(weight, level)
        place = np.searchsorted(-known_wrong, -known_wrong[place], side="right") - 1  # include all equal scores
        reached = len(sorted_N) - int(np.searchsorted(sorted_N, known_wrong[place], side="left"))
        estimates.append(reached / len(sorted_N) / weight[place])
        bounds.append(_lower(reached, len(sorted_N)) / weight[place])
    return float(min(1.0, *estimates)), float(min(1.0, *bounds))


def _lower(count: int, of: int) -> float:
    """Return the lower end of the Wilson interval (1927) of the share `count` / `of`."""
    share, z2 = count / of, Z**2 / of
    return float(max(0.0, (share + z2 / 2 - Z * np.sqrt(share * (1 - share) / of + z2 / (4 * of))) / (1 + z2)))


def _skill(better_N: Integer[Array, " N"], codes_N: Integer[Array, " N"], cost_KK: Real[Array, "K K"]) -> float:
    """Return 1 - cost of the predictions / cost of the best constant prediction, averaged over classes."""
    counts_K = np.bincount(codes_N, minlength=len(cost_KK))
    weight_N = 1 / counts_K[codes_N] / (counts_K > 0).sum()
    loss = float(weight_N @ cost_KK[better_N, codes_N])
    return 1 - loss / float((weight_N @ cost_KK[codes_N]).min())
