"""Out-of-fold shape model: a normal distribution of landmark configurations.

Axes: N images, P points, D = 2P coordinates, K visible points, V = 2K visible coordinates.
"""

import numpy as np
from sklearn.covariance import ledoit_wolf

from stages.core.shapes import Array, Float, Integer, Shaped
from stages.probes.cross_validation import folds

ROUNDS = 5  # of imputing invisible points and re-estimating the distribution


def landmark_errors(
    place_NP2: Float[Array, "N P 2"], groups_N: Shaped[Array, " N"], only: Integer[Array, " M"] | None = None
) -> tuple[Float[Array, "N P"], Float[Array, " N"], Integer[Array, "N 2"]]:
    """Compare each point with its prediction from the other points of its image, by a model fitted to other groups.

    The error of a point is its squared Mahalanobis distance from the prediction; the expected value for a correct point
    is 2. The gain of exchanging two points is the reduction of the squared Mahalanobis distance of the whole shape.

    Args:
        place_NP2: x and y of each point, in one unit; NaN for invisible points.
        groups_N: group of each image; at least two groups.
        only: indices of the images that are compared; None: all.

    Returns:
        Errors, NaN for invisible points and for the only visible point of an image; the largest gain of an exchange in
        each image, 0 if none is positive; and the indices of the two exchanged points, equal if the gain is 0.
    """
    count, points, _ = place_NP2.shape
    flat_ND = place_NP2.reshape(count, -1)
    odd_NP, gain_N, pair_N2 = np.full((count, points), np.nan), np.zeros(count), np.zeros((count, 2), int)
    wanted_N = np.ones(count, bool) if only is None else np.isin(np.arange(count), only)
    for train, held_out in folds(groups_N):
        mean_D, covariance_DD = _shapes(flat_ND[train])
        for n in held_out[wanted_N[held_out]]:
            seen = np.flatnonzero(np.isfinite(place_NP2[n, :, 0]))
            if len(seen) > 1:
                odd_NP[n, seen], gain_N[n], pair_N2[n] = _errors_of_image(flat_ND[n], seen, mean_D, covariance_DD)
    return odd_NP, gain_N, pair_N2


def _shapes(flat_ND: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, "D D"]]:
    """Return mean and shrunk covariance (Ledoit and Wolf 2004), with invisible points imputed iteratively."""
    known_ND = np.isfinite(flat_ND)
    mean_D = np.where(known_ND.any(axis=0), np.nanmean(np.where(known_ND.any(axis=0), flat_ND, 0), axis=0), 0)
    filled_ND = np.where(known_ND, flat_ND, mean_D)
    for _ in range(1 if known_ND.all() else ROUNDS):
        mean_D = filled_ND.mean(axis=0)
        covariance_DD = ledoit_wolf(filled_ND)[0] + 1e-9 * np.eye(len(mean_D))
        for n in np.flatnonzero(~known_ND.all(axis=1)):
            visible, hidden = np.flatnonzero(known_ND[n]), np.flatnonzero(~known_ND[n])
            slope = np.linalg.solve(covariance_DD[np.ix_(visible, visible)], covariance_DD[np.ix_(visible, hidden)])
            filled_ND[n, hidden] = mean_D[hidden] + (flat_ND[n, visible] - mean_D[visible]) @ slope
    return mean_D, covariance_DD


def _errors_of_image(
    flat_D: Float[Array, " D"],
    seen: Integer[Array, " K"],
    mean_D: Float[Array, " D"],
    covariance_DD: Float[Array, "D D"],
) -> tuple[Float[Array, " K"], float, Integer[Array, " 2"]]:
    """Return the errors of the visible points of one image, the gain of the best exchange, and the exchanged points."""
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


def _gains(
    place_K2: Float[Array, "K 2"], pull_K2: Float[Array, "K 2"], precision_VV: Float[Array, "V V"]
) -> Float[Array, "K K"]:
    """Return the gain of exchanging each pair of points: -(2 m.p + m.P.m).

    m is the displacement of the two points, P the precision matrix, and p the precision times the deviation from the
    mean.
    """
    count = len(place_K2)
    block_KK22 = precision_VV.reshape(count, 2, count, 2).transpose(0, 2, 1, 3)
    own_K22 = block_KK22[np.arange(count), np.arange(count)]
    both_KK22 = own_K22[:, None] + own_K22[None] - block_KK22 - block_KK22.transpose(1, 0, 2, 3)
    step_KK2 = place_K2[None] - place_K2[:, None]
    pulled_KK = (step_KK2 * (pull_K2[:, None] - pull_K2[None])).sum(axis=2)
    return -(2 * pulled_KK + np.einsum("ija,ijab,ijb->ij", step_KK2, both_KK22, step_KK2))
