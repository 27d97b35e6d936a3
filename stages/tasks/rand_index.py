"""The foreground-restricted Rand score of the ISBI 2012 challenge on membranes."""

import numpy as np

from stages.core.shapes import Array, Integer
from stages.dataset.annotations import IGNORE_INDEX


def foreground_rand(truth_HW: Integer[Array, "H W"], index_HW: Integer[Array, "H W"]) -> float:
    """How well pieces of the second class agree: 0 to 1, 1 where they are the same; NaN where the truth has none.

    V = sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2), p_ij the share of pixels in piece i of the answer and piece j of
    the truth, over pixels that the truth gives to a piece (Arganda-Carreras et al. 2015, "Crowdsourcing the creation of
    image segmentation algorithms for connectomics", V^Rand). Pieces are 4-connected. Pixels that the answer gives to
    the first class (the border) are pieces of their own, which the challenge's border thinning makes of the truth only.
    """
    from scipy import ndimage

    true_HW, _ = ndimage.label(truth_HW == 1)
    given_HW, pieces = ndimage.label(index_HW == 1)
    inside = (true_HW > 0) & (truth_HW != IGNORE_INDEX)
    true, given = true_HW[inside], given_HW[inside].astype(np.int64)
    if not len(true):
        return float("nan")
    alone = given == 0
    given[alone] = pieces + 1 + np.arange(alone.sum())
    total = float(len(true))
    _, pairs = np.unique(true.astype(np.int64) * (given.max() + 1) + given, return_counts=True)
    _, by_truth = np.unique(true, return_counts=True)
    _, by_answer = np.unique(given, return_counts=True)
    p, t, s = (((counts / total) ** 2).sum() for counts in (pairs, by_truth, by_answer))
    return float(p / (0.5 * s + 0.5 * t))
