"""Where a point should be, by the others of its image: a normal distribution of shapes, learned out of fold.

Axes: N images, P points, D = 2P coordinates, V those that are visible.
"""

from typing import Any

import numpy as np
from sklearn.covariance import ledoit_wolf

from stages.probes.cross_validation import folds

Array = np.ndarray[Any, Any]
ROUNDS = 5  # of filling in what is not visible and learning anew


def oddness(place_NP2: Array, groups_N: Array) -> tuple[Array, Array, Array]:
    """How little points fit the others of their image, by shapes of images of other groups.

    A point's oddness is its squared distance from where the others say that it is, in deviations of that guess
    (Mahalanobis): of one that is right it is 2 on average. Exchanging two points gains what the squared distance of all
    points from the mean shape loses by it.

    Args:
        place_NP2: x, y in one unit; NaN: not visible.
        groups_N: [N] what must not be torn apart; at least two different ones.

    Returns:
        oddness [N, P], NaN where a point is not visible or is the only one; and of the exchange that gains the most in
        each image, its gain [N] and its two points [N, 2].
    """
    count, points, _ = place_NP2.shape
    flat_ND = place_NP2.reshape(count, -1)
    odd_NP, gain_N, pair_N2 = np.full((count, points), np.nan), np.zeros(count), np.zeros((count, 2), int)
    for train, held_out in folds(groups_N):
        mean_D, covariance_DD = _shapes(flat_ND[train])
        for n in held_out:
            seen = np.flatnonzero(np.isfinite(place_NP2[n, :, 0]))
            if len(seen) > 1:
                odd_NP[n, seen], gain_N[n], pair_N2[n] = _of_one(flat_ND[n], seen, mean_D, covariance_DD)
    return odd_NP, gain_N, pair_N2


def _shapes(flat_ND: Array) -> tuple[Array, Array]:
    """Mean and covariance, shrunk (Ledoit and Wolf 2004); what is not visible is filled in by what is, in turns."""
    known_ND = np.isfinite(flat_ND)
    mean_D = np.where(known_ND.any(axis=0), np.nanmean(np.where(known_ND.any(axis=0), flat_ND, 0), axis=0), 0)
    filled_ND = np.where(known_ND, flat_ND, mean_D)
    for _ in range(1 if known_ND.all() else ROUNDS):
        mean_D = filled_ND.mean(axis=0)
        covariance_DD = ledoit_wolf(filled_ND)[0] + 1e-9 * np.eye(len(mean_D))
        for n in np.flatnonzero(~known_ND.all(axis=1)):
            here, gone = np.flatnonzero(known_ND[n]), np.flatnonzero(~known_ND[n])
            slope = np.linalg.solve(covariance_DD[np.ix_(here, here)], covariance_DD[np.ix_(here, gone)])
            filled_ND[n, gone] = mean_D[gone] + (flat_ND[n, here] - mean_D[here]) @ slope
    return mean_D, covariance_DD


def _of_one(flat_D: Array, seen: Array, mean_D: Array, covariance_DD: Array) -> tuple[Array, float, Array]:
    """Oddness of the visible points of one image; the best exchange's gain, and its points."""
    visible = np.stack([2 * seen, 2 * seen + 1], axis=1).ravel()
    precision_VV = np.linalg.inv(covariance_DD[np.ix_(visible, visible)])
    off_V = flat_D[visible] - mean_D[visible]
    pull_V = precision_VV @ off_V
    odd = np.empty(len(seen))
    for i in range(len(seen)):
        both = slice(2 * i, 2 * i + 2)
        odd[i] = pull_V[both] @ np.linalg.solve(precision_VV[both, both], pull_V[both])
    gain_KK = _gains(flat_D[visible].reshape(-1, 2), pull_V.reshape(-1, 2), precision_VV)
    i, j = divmod(int(gain_KK.argmax()), len(seen))
    return odd, max(0.0, float(gain_KK[i, j])), seen[[i, j]]


def _gains(place_K2: Array, pull_K2: Array, precision_VV: Array) -> Array:
    """[K, K] how much less odd an image is with two of its points exchanged: -(2 m.p + m.P.m) of the move m."""
    count = len(place_K2)
    block_KK22 = precision_VV.reshape(count, 2, count, 2).transpose(0, 2, 1, 3)
    own_K22 = block_KK22[np.arange(count), np.arange(count)]
    both_KK22 = own_K22[:, None] + own_K22[None] - block_KK22 - block_KK22.transpose(1, 0, 2, 3)
    step_KK2 = place_K2[None] - place_K2[:, None]
    pulled_KK = (step_KK2 * (pull_K2[:, None] - pull_K2[None])).sum(axis=2)
    return -(2 * pulled_KK + np.einsum("ija,ijab,ijb->ij", step_KK2, both_KK22, step_KK2))
