"""Combination of two kinds of features for one ridge regression, weighted by generalized cross-validation.

Axes: N training images, M all images, F and G features of each kind, K targets.
"""

from dataclasses import dataclass

import numpy as np

from stages.core.shapes import Array, Bool, Float
from stages.probes.ridge import ridge

SHARES = (0.0, 0.03, 0.1, 0.5, 0.9, 0.97, 1.0)
"""Candidate shares of the second kind of features in the total variance."""


@dataclass(frozen=True)
class CombinedFeatures:
    """Features of two kinds, scaled; a ridge regression on them must not standardize them again."""

    features_MF: Float[Array, "M _"]
    """Features of all images; only those of one kind if the share is 0 or 1."""
    share: float
    """Share of the second kind in the total variance of the training images, 0 to 1."""


def combine_features(
    one_MF: Float[Array, "M F"],
    other_MG: Float[Array, "M G"],
    fitted_M: Bool[Array, " M"],
    target_NK: Float[Array, "N K"],
) -> CombinedFeatures:
    """Return the weighted combination that predicts the targets of the training images best.

    The features are standardized, and each kind is divided by the root of its total variance. This is ridge regression
    with a penalty for each kind. Of `SHARES`, the one with the smallest criterion of generalized cross-validation is
    used; no other images than the training images have an effect on it.

    Args:
        one_MF: features of the first kind.
        other_MG: features of the second kind.
        fitted_M: True for the N training images.
        target_NK: targets of the training images, in a common unit.
    """
    kinds = [_scaled(features, fitted_M) for features in (one_MF, other_MG)]
    errors = [ridge(_mixed(kinds, share)[fitted_M], target_NK, standardized=False).expected_error for share in SHARES]
    share = SHARES[int(np.argmin(errors))]
    return CombinedFeatures(_mixed(kinds, share), share)


def _scaled(features_MF: Float[Array, "M F"], fitted_M: Bool[Array, " M"]) -> Float[Array, "M F"]:
    """Return features with mean 0, one standard deviation and a total variance of 1 in the training images."""
    train_NF = features_MF[fitted_M]
    spread_F = train_NF.std(axis=0)
    varies_F = spread_F > 1e-6 * max(float(spread_F.max()), 1e-12)
    count = max(1, int(varies_F.sum()))
    scaled_MF = (features_MF - train_NF.mean(axis=0)) / np.where(varies_F, spread_F, np.inf) / np.sqrt(count)
    return scaled_MF.astype(np.float32)


def _mixed(kinds: list[Float[Array, "M _"]], share: float) -> Float[Array, "M _"]:
    weights = (np.sqrt(1 - share), np.sqrt(share))
    used = [features * np.float32(weight) for features, weight in zip(kinds, weights, strict=True) if weight]
    return np.concatenate(used, axis=1)
