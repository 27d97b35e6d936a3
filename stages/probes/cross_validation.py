"""Out-of-fold predictions of a linear model, with groups kept together."""

import warnings

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Integer, Shaped
from stages.probes.ridge import ridge

FOLDS = 5


def out_of_fold_probabilities(
    features_NF: Float[Array, "N F"],
    labels_N: Shaped[Array, " N"],
    groups_N: Shaped[Array, " N"],
    standardized: bool = True,
) -> tuple[Shaped[Array, " K"], Float[Array, "N K"]]:
    """Return out-of-fold class probabilities, calibrated by one temperature (Guo et al. 2017).

    Args:
        features_NF: features, such as those of `stages.probes.image_features`.
        labels_N: class of each image.
        groups_N: group of each image; a group is predicted by a model that was not trained on it.
        standardized: whether to divide the features by their standard deviations.

    Returns:
        Sorted classes, and their probabilities, whose rows sum to 1.

    Raises:
        ValueError: fewer than two groups.
    """
    classes_K, codes_N = np.unique(labels_N, return_inverse=True)
    scores_NK = _out_of_fold(features_NF, np.eye(len(classes_K))[codes_N], folds(groups_N, codes_N), standardized)
    return classes_K, softmax(scores_NK * _inverse_temperature(scores_NK, codes_N), axis=1)


def out_of_fold_numbers(
    features_NF: Float[Array, "N F"],
    targets_ND: Float[Array, "N D"],
    groups_N: Shaped[Array, " N"],
    standardized: bool = True,
) -> Float[Array, "N D"]:
    """Return out-of-fold predictions of numbers, or scores of 0/1 targets.

    Args:
        features_NF: features, such as those of `stages.probes.image_features`.
        targets_ND: targets to predict, without NaN.
        groups_N: group of each image; a group is predicted by a model that was not trained on it.
        standardized: whether to divide the features by their standard deviations.

    Raises:
        ValueError: fewer than two groups.
    """
    spread_D = np.maximum(targets_ND.std(axis=0), 1e-12)  # one penalty for all targets requires a common unit
    return _out_of_fold(features_NF, targets_ND / spread_D, folds(groups_N), standardized) * spread_D


def out_of_fold_temperature(
    features_NF: Float[Array, "N F"],
    target_NK: Float[Array, "N K"],
    groups_N: Shaped[Array, " N"],
    standardized: bool = True,
) -> float:
    """Return the factor of ridge scores whose softmax has the smallest out-of-fold log loss; 1 with a single group.

    Args:
        features_NF: features of the images.
        target_NK: 1 for the class of each image, otherwise 0.
        groups_N: group of each image; a group is predicted by a model that was not trained on it.
        standardized: whether to divide the features by their standard deviations.
    """
    codes_N = target_NK.argmax(axis=1)
    if len(np.unique(groups_N)) < 2:
        return 1.0
    scores_NK = _out_of_fold(features_NF, target_NK, folds(groups_N, codes_N), standardized)
    return _inverse_temperature(scores_NK, codes_N)


def folds(
    groups_N: Shaped[Array, " N"], codes_N: Integer[Array, " N"] | None = None, count: int = FOLDS, seed: int = 0
) -> list[tuple[Integer[Array, " _"], Integer[Array, " _"]]]:
    """Return pairs of indices of training and held-out images; groups are kept together, classes are stratified.

    Stratification is omitted if no class has as many images as there are folds.

    Args:
        groups_N: group of each image.
        codes_N: class of each image; None: not stratified.
        count: number of folds; if there are fewer groups, one fold per group.
        seed: seed of the random assignment.

    Raises:
        ValueError: fewer than two groups.
    """
    groups = len(np.unique(groups_N))
    if groups < 2:
        raise ValueError(
            f"cross-validation requires at least two groups, but the images are in {quantity(groups, 'group')}"
        )
    count = min(count, groups)
    if codes_N is None or np.bincount(codes_N).max() < count:
        return list(GroupKFold(count, shuffle=True, random_state=seed).split(groups_N, groups=groups_N))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # such a class is missing in some folds
        return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(groups_N, codes_N, groups_N))


def _out_of_fold(
    features_NF: Float[Array, "N F"],
    targets_ND: Float[Array, "N D"],
    parts: list[tuple[Integer[Array, " _"], Integer[Array, " _"]]],
    standardized: bool,
) -> Float[Array, "N D"]:
    predicted_ND = np.empty(targets_ND.shape)
    for train, held_out in parts:
        predicted_ND[held_out] = ridge(features_NF[train], targets_ND[train], standardized)(features_NF[held_out])
    return predicted_ND


def _inverse_temperature(scores_NK: Float[Array, "N K"], codes_N: Integer[Array, " N"]) -> float:
    """Return the factor of the scores that minimizes the log loss of their softmax."""
    every = np.arange(len(codes_N))

    def loss(logarithm: float) -> float:
        return -float(log_softmax(scores_NK * np.exp(logarithm), axis=1)[every, codes_N].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 7), method="bounded").x))
