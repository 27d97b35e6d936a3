"""The foreground-restricted Rand score of the ISBI 2012 challenge on membranes."""

import numpy as np

from stages.core.shapes import Array, Integer
from stages.dataset.annotations import IGNORE_INDEX


def foreground_rand(truth_HW: Integer[Array, "H W"], index_HW: Integer[Array, "H W"]) -> float:
    """Return the foreground-restricted Rand score of the second class, 0 to 1; NaN if the truth does not contain it.

    V = sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2), where p_ij is the share of pixels in predicted segment i and true
    segment j, s_i and t_j are those in predicted segment i and in true segment j, and all shares refer to the pixels of
    true segments (Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for
    connectomics", V^Rand). Segments are 4-connected. Pixels that are predicted as the first class (the border) are
    segments of their own; the challenge instead thins the borders of the truth.
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
