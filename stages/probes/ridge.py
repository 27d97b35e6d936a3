"""Ridge regression with the penalty selected by generalized cross-validation."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from stages.core.shapes import Array, Float

PENALTIES = np.logspace(-3, 3, 25)
"""Candidate penalties, as multiples of the mean nonzero eigenvalue of the Gram matrix."""


@dataclass(frozen=True)
class Ridge:
    """Fitted ridge regression."""

    centre_F: Float[Array, " F"]
    spread_F: Float[Array, " F"]
    coefficient_FK: Float[Array, "F K"]
    level_K: Float[Array, " K"]
    expected_error: float
    """Criterion of generalized cross-validation, summed over the targets; comparable between features of one sample."""

    def __call__(self, x_NF: Float[Array, "N F"]) -> Float[Array, "N K"]:
        """Return predictions for features."""
        return ((x_NF - self.centre_F) / self.spread_F) @ self.coefficient_FK + self.level_K


def ridge(x_NF: Float[Array, "N F"], y_NK: Float[Array, "N K"], standardized: bool = True) -> Ridge:
    """Fit ridge regression of K targets on F features with one penalty.

    The penalty minimizes |residual|^2 / (N - 1 - degrees of freedom)^2 (Golub, Heath and Wahba 1979), computed for all
    candidates from one eigendecomposition of the smaller Gram matrix.

    Args:
        x_NF: features.
        y_NK: targets, in a common unit.
        standardized: whether to divide the features by their standard deviations.
    """
    centre_F, level_K = x_NF.mean(axis=0), y_NK.mean(axis=0)
    spread_F = _spread(x_NF) if standardized else np.ones(x_NF.shape[1], x_NF.dtype)
    x, y = (x_NF - centre_F) / spread_F, y_NK - level_K
    count, wide = len(x), x.shape[1] >= len(x)
    variance, axes = eigh((x @ x.T if wide else x.T @ x).astype(np.float64), driver="evd", overwrite_a=True)
    kept = variance > 1e-6 * max(variance[-1], 1e-12)  # smaller values are rounding errors
    variance, axes = variance[kept], axes[:, kept]
    along_EK = axes.T @ y if wide else (axes.T @ (x.T @ y)) / np.sqrt(variance)[:, None]
    power_E = (along_EK**2).sum(axis=1)
    beyond = max(float((y**2).sum() - power_E.sum()), 0.0)

    def expected_error(penalty: float) -> float:
        left = penalty / (variance + penalty)
        freedom = count - 1 - len(variance) + left.sum()
        return float((beyond + (power_E * left**2).sum()) / freedom**2) if freedom > 1e-9 else np.inf

    scale = float(variance.mean()) if len(variance) else 1.0
    penalty = min(PENALTIES * scale, key=expected_error)
    criterion = count * expected_error(penalty)
    if wide:
        coefficient_FK = x.T @ (axes @ (along_EK / (variance + penalty)[:, None]))
    else:
        coefficient_FK = axes @ (along_EK * (np.sqrt(variance) / (variance + penalty))[:, None])
    return Ridge(centre_F, spread_F, coefficient_FK.astype(x_NF.dtype), level_K, criterion)


def principal(x_NF: Float[Array, "N F"], most: int) -> Float[Array, "N _"]:
    """Return standardized features, projected onto their first `most` principal axes.

    They are not projected if there are at most `most` features or images.
    """
    x = (x_NF - x_NF.mean(axis=0)) / _spread(x_NF)
    if min(x.shape) <= most:
        return x
    _, axes = eigh((x.T @ x).astype(np.float64), driver="evd", overwrite_a=True)
    return x @ axes[:, -most:].astype(np.float32)


def _spread(x_NF: Float[Array, "N F"]) -> Float[Array, " F"]:
    """Return standard deviations; 1 for constant features."""
    spread_F = x_NF.std(axis=0)
    return np.where(spread_F > 1e-6 * max(float(spread_F.max()), 1e-12), spread_F, 1).astype(x_NF.dtype)
