"""Scores of a simple probe in folds of whole groups and in folds of single images.

Axes: N images, F features, D targets, R partitions into folds, B bootstrap replicates, 2 kinds of folds.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from stages.core.shapes import Array, Float, Integer, Shaped
from stages.probes.cross_validation import FOLDS, folds
from stages.probes.learning_curve_fit import errors, fit_probe, principal_features, resample_errors, weights
from stages.probes.regression_targets import RegressionTargets

Interval = tuple[float, float, float]
"""Value, and low and high end of its 95 % interval."""
Folds = list[tuple[Integer[Array, " _"], Integer[Array, " _"]]]
"""Pairs of indices of training and held-out images."""


@dataclass(frozen=True)
class SplitComparison:
    """Out-of-fold scores of a probe: balanced accuracy of classes, R2 of numbers, averaged over targets."""

    by_group: Interval
    """Score on groups that the probe was not trained on."""
    by_image: Interval
    """Score on images that the probe was not trained on, although it was trained on others of their group."""
    difference: Interval
    """`by_image` minus `by_group`, on the same resamples of groups."""
    constant: float
    """Score of the best constant prediction."""

    @property
    def is_overstated(self) -> bool:
        """True if folds of single images give a higher score, beyond noise."""
        return self.difference[1] > 0


def compare_splits(
    features_NF: Float[Array, "N F"], targets: RegressionTargets, groups_N: Shaped[Array, " N"], repeats: int
) -> SplitComparison:
    """Predict every image by probes that were not trained on its group, and by probes not trained on the image.

    Both have five folds of about the same size. Intervals are percentiles of a bootstrap over groups, to which the
    standard error of the mean over the partitions into folds is added.

    Args:
        features_NF: features, such as those of `stages.probes.image_features`.
        targets: targets of the N images.
        groups_N: group of each image.
        repeats: number of random partitions into folds, at least 2, over which the scores are averaged.

    Raises:
        ValueError: fewer than two groups.
    """
    x_NF = principal_features(features_NF)
    group_N = np.unique(groups_N, return_inverse=True)[1]
    code_N = targets.target_ND.argmax(axis=1) if targets.classes else None
    of_groups = [folds(group_N, code_N, seed=seed) for seed in range(repeats)]
    of_images = [_folds_of_images(len(group_N), code_N, seed) for seed in range(repeats)]
    error_2RN = np.stack([[_errors(x_NF, targets, parts) for parts in kind] for kind in (of_groups, of_images)])
    weight_N, rng = weights(targets), np.random.default_rng(0)
    score_2R = 1 - error_2RN @ weight_N / weight_N.sum()
    score_2, spread_2 = score_2R.mean(axis=1), score_2R.std(axis=1, ddof=1) / repeats**0.5
    score_B2 = 1 - resample_errors(error_2RN.mean(axis=1), weight_N, group_N, rng)
    score_B2 += rng.normal(size=score_B2.shape) * spread_2
    constant = 1 / targets.target_ND.shape[1] if targets.classes else 0.0
    return SplitComparison(
        _interval(score_2[0], score_B2[:, 0]),
        _interval(score_2[1], score_B2[:, 1]),
        _interval(score_2[1] - score_2[0], score_B2[:, 1] - score_B2[:, 0]),
        constant,
    )


def _folds_of_images(count: int, code_N: Integer[Array, " N"] | None, seed: int) -> Folds:
    """Return folds of single images; classes are stratified, unless none has an image for each fold."""
    kind = KFold if code_N is None or np.bincount(code_N).max() < FOLDS else StratifiedKFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # such a class is missing in some folds
        return list(kind(min(FOLDS, count), shuffle=True, random_state=seed).split(np.empty(count), code_N))


def _errors(x_NF: Float[Array, "N F"], targets: RegressionTargets, parts: Folds) -> Float[Array, " N"]:
    """Return the out-of-fold error of each image."""
    error_N = np.empty(len(x_NF))
    for train, held_out in parts:
        probe = fit_probe(x_NF[train], targets, targets.target_ND[train])
        error_N[held_out] = errors(probe(x_NF[held_out]), targets, held_out)
    return error_N


def _interval(value: float, replicate_B: Float[Array, " B"]) -> Interval:
    low, high = np.quantile(replicate_B, (0.025, 0.975))
    return float(value), float(low), float(high)
