"""How well labels fit what is foretold of their images, and about how many are wrong.

A label is doubted by how much better another one would do (confident learning: Northcutt, Jiang and Chuang 2021). How
many are wrong is asked of labels that are known to be wrong: each image is given, in thought, the labels of others. Let
q of those be doubted by t or more. If a share s of the given labels are wrong in that manner, at least s * q of the
images are doubted so much. So the share doubted, divided by q, is more than s, whatever t is, and its smallest value is
the estimate (as the proportion of a mixture: Blanchard, Lee and Scott 2010). Classes that overlap are doubted
a little, and hence do not add to it, as they do to plain counts of disagreement.

Axes: N images, K classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # values of q: few images lie beyond the first, and overlap begins at the last
SURE = 2.6  # normal deviates of a lower bound: one of 200 lies beyond


@dataclass(frozen=True)
class Doubt:
    """What is held against the labels of images."""

    doubt_N: Array
    """0: no other class fits better; 1: another one is certain. For grades, times how far it is off."""
    better_N: Array
    """The class that fits best."""
    skill: float
    """Of what foretold, over classes that count alike: 0 knows nothing of the images, 1 foretells every label."""
    share: float
    """About how many of the labels are wrong, 0 to 1; too high where the skill is low."""
    at_least: float
    """Lower bound of `share`, from the number of images."""

    def surest(self, most: int = 24) -> Array:
        """Places of the images that are most likely wrong, the surest first: as many as `share` says."""
        return np.argsort(-self.doubt_N, kind="stable")[: min(most, self.count)]

    @property
    def count(self) -> int:
        """About how many labels are wrong."""
        return round(self.share * len(self.doubt_N))


def doubt(p_NK: Array, codes_N: Array, ordered: bool = False) -> Doubt:
    """Hold labels against probabilities by a model that has not learned from the image or its group.

    Args:
        p_NK: probability of each class; rows add up to 1.
        codes_N: the class given, 0 to K - 1; each one at least once.
        ordered: classes are grades, from the lowest to the highest: a mistake weighs as many as it is off.
    """
    classes = np.arange(p_NK.shape[1])
    cost_KK = np.abs(classes[:, None] - classes) if ordered else 1 - np.eye(len(classes))
    loss_NK = p_NK @ cost_KK
    doubt_NK = loss_NK - loss_NK.min(axis=1, keepdims=True)
    better_N = loss_NK.argmin(axis=1)
    given_N = doubt_NK[np.arange(len(codes_N)), codes_N]
    share, at_least = _share(doubt_NK, codes_N, given_N)
    return Doubt(given_N, better_N, _skill(better_N, codes_N, cost_KK), share, at_least)


def _share(doubt_NK: Array, codes_N: Array, given_N: Array) -> tuple[float, float]:
    """Estimate and lower bound of the share of wrong labels: see above."""
    frequency_K = np.bincount(codes_N, minlength=doubt_NK.shape[1]) / len(codes_N)
    weight_NK = np.broadcast_to(frequency_K, doubt_NK.shape).copy()
    weight_NK[np.arange(len(codes_N)), codes_N] = 0  # mistakes that take turns: as many from a to b as from b to a
    order = np.argsort(-doubt_NK, axis=None)
    known_wrong, weight = doubt_NK.ravel()[order], weight_NK.ravel()[order].cumsum()
    weight /= weight[-1]
    sorted_N = np.sort(given_N)
    estimates, bounds = [], []
    for level in LEVELS:
        place = np.searchsorted(weight, level)
        place = np.searchsorted(-known_wrong, -known_wrong[place], side="right") - 1  # all that are doubted alike
        reached = len(sorted_N) - np.searchsorted(sorted_N, known_wrong[place], side="left")
        estimates.append(reached / len(sorted_N) / weight[place])
        bounds.append(_lower(reached, len(sorted_N)) / weight[place])
    return float(min(1.0, *estimates)), float(min(1.0, *bounds))


def _lower(count: int, of: int) -> float:
    """Lower end of the interval of Wilson (1927)."""
    share, z2 = count / of, SURE**2 / of
    return float(max(0.0, (share + z2 / 2 - SURE * np.sqrt(share * (1 - share) / of + z2 / (4 * of))) / (1 + z2)))


def _skill(better_N: Array, codes_N: Array, cost_KK: Array) -> float:
    """1 - cost / cost of the best answer that is the same for all images; classes count alike."""
    counts_K = np.bincount(codes_N, minlength=len(cost_KK))
    weight_N = 1 / counts_K[codes_N] / (counts_K > 0).sum()
    loss = float(weight_N @ cost_KK[better_N, codes_N])
    return 1 - loss / float((weight_N @ cost_KK[codes_N]).min())
