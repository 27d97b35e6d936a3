"""Calibration of probabilities by one temperature, and thresholds of classes, fitted on labelled images.

Axes: N images, K classes or thresholds between grades.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from stages.core.shapes import Array, Bool, Float, Integer

MAX_FACTOR = 20.0  # a temperature is 1/20 to 20
MIN_THRESHOLD = 0.001  # a threshold is 0.001 to 0.999


def fit_temperature(raw_NK: Float[Array, "N K"], truth_N: Integer[Array, " N"], representation: str) -> float:
    """Return the temperature, by which raw outputs are divided, with the smallest log loss (Guo et al. 2017).

    Args:
        raw_NK: outputs of the network before softmax (`class`) or sigmoid (`cumulative`).
        truth_N: index of the class or grade of each image.
        representation: `class`, or `cumulative` with one output per threshold: whether the grade is above it.

    >>> raw_NK = np.array([[4.0, 0.0]] * 4)
    >>> round(fit_temperature(raw_NK, np.array([0, 0, 0, 1]), "class"), 2)  # 75 % correct: softmax of (log 3, 0)
    3.64
    """
    every = np.arange(len(truth_N))
    above_NK = truth_N[:, None] > np.arange(raw_NK.shape[1])

    def loss(logarithm: float) -> float:
        scaled_NK = raw_NK / np.exp(logarithm)
        if representation == "class":
            return -float(log_softmax(scaled_NK, axis=1)[every, truth_N].mean())
        return -float(np.where(above_NK, log_expit(scaled_NK), log_expit(-scaled_NK)).mean())

    limit = float(np.log(MAX_FACTOR))
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-4}).x))


def log_loss(probability_NK: Float[Array, "N K"], truth_N: Integer[Array, " N"]) -> float:
    """Return the mean negative logarithm of the probability of the true class."""
    true_N = probability_NK[np.arange(len(truth_N)), truth_N]
    return -float(np.log(np.maximum(true_N, 1e-12)).mean())


def expected_calibration_error(confidence_N: Float[Array, " N"], correct_N: Bool[Array, " N"], bins: int) -> float:
    """Return the sum over bins of share * |accuracy - confidence|, with bins of equal width (Naeini et al. 2015).

    Args:
        confidence_N: probability of the predicted class, 0..1.
        correct_N: whether the predicted class is the true one.
        bins: number of bins over 0..1.

    >>> round(expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]), 10), 3)
    0.4
    """
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    gap_B = np.bincount(bin_N, correct_N - confidence_N, minlength=bins)
    return float(np.abs(gap_B).sum() / len(confidence_N))


def fit_thresholds(probability_NK: Float[Array, "N K"], true_NK: Bool[Array, "N K"]) -> Float[Array, " K"]:
    """Return for each class the threshold of its probability with the highest F1; 0.5 for a class without images.

    A threshold lies in the middle between two neighbouring probabilities. Among equally good thresholds, the one
    closest to 0.5 is returned.

    Args:
        probability_NK: probability of each class.
        true_NK: whether an image has the class.

    >>> fit_thresholds(np.array([[0.1], [0.2], [0.4]]), np.array([[False], [True], [True]])).round(2).tolist()
    [0.15]
    """
    threshold_K = np.full(true_NK.shape[1], 0.5)
    for k in range(true_NK.shape[1]):
        if not true_NK[:, k].any():
            continue
        values = np.unique(probability_NK[:, k])
        candidates = np.append((values[1:] + values[:-1]) / 2, 0.5).clip(MIN_THRESHOLD, 1 - MIN_THRESHOLD)
        claimed_CN = probability_NK[:, k] >= candidates[:, None]
        hits_C = (claimed_CN & true_NK[:, k]).sum(axis=1)
        f1_C = 2 * hits_C / (claimed_CN.sum(axis=1) + true_NK[:, k].sum())
        best_C = np.flatnonzero(f1_C >= f1_C.max() - 1e-12)
        threshold_K[k] = candidates[best_C[np.abs(candidates[best_C] - 0.5).argmin()]]
    return threshold_K
