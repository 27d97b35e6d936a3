"""What a plain linear model answers for images that it has not seen, nor any other of their group."""

import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from stages.probes.ridge import ridge

Array = np.ndarray[Any, Any]
FOLDS = 5


def probabilities(features_NF: Array, labels_N: Array, groups_N: Array) -> tuple[Array, Array]:
    """Probability of each class, calibrated on all out-of-fold scores by one temperature (Guo et al. 2017).

    Args:
        features_NF: as `stages.probes.image_features` makes them.
        labels_N: the class of each image.
        groups_N: its group; no group is answered by what has seen it.

    Returns:
        [K] the classes, sorted, and [N, K] their probabilities, rows adding up to 1.

    Raises:
        ValueError: fewer than two groups.
    """
    classes_K, codes_N = np.unique(labels_N, return_inverse=True)
    scores_NK = _answers(features_NF, np.eye(len(classes_K))[codes_N], folds(groups_N, codes_N))
    return classes_K, softmax(scores_NK * _sharpness(scores_NK, codes_N), axis=1)


def numbers(features_NF: Array, targets_ND: Array, groups_N: Array) -> Array:
    """[N, D] of numbers that are all known; of several classes an image, with 1 and 0 for targets, their scores.

    Raises:
        ValueError: fewer than two groups.
    """
    spread_D = np.maximum(targets_ND.std(axis=0), 1e-12)  # one penalty serves all: in one unit
    return _answers(features_NF, targets_ND / spread_D, folds(groups_N)) * spread_D


def folds(
    groups_N: Array, codes_N: Array | None = None, count: int = FOLDS, seed: int = 0
) -> list[tuple[Array, Array]]:
    """Places of training and held-out images: groups whole, and classes in proportion where there are some.

    Raises:
        ValueError: fewer than two groups.
    """
    groups = len(np.unique(groups_N))
    if groups < 2:
        raise ValueError(f"{groups} group: nothing is left to learn from when it is held out")
    count = min(count, groups)
    if codes_N is None or np.bincount(codes_N).max() < count:
        return list(GroupKFold(count, shuffle=True, random_state=seed).split(groups_N, groups=groups_N))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # its images are spread as far as they go
        return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(groups_N, codes_N, groups_N))


def _answers(features_NF: Array, targets_ND: Array, parts: list[tuple[Array, Array]]) -> Array:
    found_ND = np.empty(targets_ND.shape)
    for train, held_out in parts:
        found_ND[held_out] = ridge(features_NF[train], targets_ND[train])(features_NF[held_out])
    return found_ND


def _sharpness(scores_NK: Array, codes_N: Array) -> float:
    """What scores are multiplied by so that their softmax has the least log loss."""
    every = np.arange(len(codes_N))

    def loss(logarithm: float) -> float:
        return -float(log_softmax(scores_NK * np.exp(logarithm), axis=1)[every, codes_N].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 7), method="bounded").x))
