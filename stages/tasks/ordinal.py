"""Ordinal classification: one grade per image, where an error of one grade is better than an error of three.

Axes: N images, K grades, R resamples. The predicted grade is the median of the probabilities, which has the smallest
expected distance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer
from stages.tasks import classification
from stages.tasks.classification import DRAWN, TRUTHS, as_prediction, confusion, decode, draw, mean_over_parts, truth
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

__all__ = ["DRAWN", "TRUTHS", "as_prediction", "decode", "draw", "truth"]

SCORES = {
    "quadratic_kappa": Score("higher", share=False, requires="images of at least two grades"),
    "mean_absolute_error": Score("lower", "grades", share=False),
    "balanced_accuracy": Score("higher"),
    "accuracy": Score("higher"),
    "within_one": Score("higher"),
}


def grade(probability_NK: Float[Array, "N K"]) -> Integer[Array, " N"]:
    """Return the median grade: the lowest grade with a cumulative probability of at least one half."""
    return (probability_NK.cumsum(axis=-1) >= 0.5 - 1e-9).argmax(axis=-1)


def _grade(probability_K: Float[Array, " K"]) -> int:
    return int(grade(probability_K[None])[0])


def _chosen(predictions: Sequence[Float[Array, " K"]]) -> Float[Array, "N K"]:
    """Return one-hot vectors of the predicted grades."""
    probability_NK = np.stack(predictions)
    return np.eye(probability_NK.shape[1])[grade(probability_NK)]


def scores(
    truths: Sequence[int], predictions: Sequence[Float[Array, " K"]], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights.

    quadratic_kappa is 1 - observed / expected squared distance of the grades (Cohen 1968).

    Args:
        truths: true grades of N images.
        predictions: predictions of N images.
        weight_RN: bootstrap weights.
        spec: task specification.
    """
    label_N, grades = np.array(truths), len(spec.labels)
    given_N = grade(np.stack(predictions))
    off_N, total_R = np.abs(label_N - given_N), weight_RN.sum(axis=1)
    true_RK, given_RK = weight_RN @ np.eye(grades)[label_N], weight_RN @ np.eye(grades)[given_N]
    squared_KK = np.subtract.outer(np.arange(grades), np.arange(grades)) ** 2
    expected_R = np.einsum("rk,kl,rl->r", true_RK, squared_KK, given_RK) / total_R
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa_R = 1 - (weight_RN @ off_N**2) / expected_R
    each = parts(truths, predictions, weight_RN, spec).scores
    return {
        "quadratic_kappa": kappa_R,
        "mean_absolute_error": weight_RN @ off_N / total_R,
        "balanced_accuracy": mean_over_parts(each["recall"]),
        "accuracy": weight_RN @ (off_N == 0) / total_R,
        "within_one": weight_RN @ (off_N <= 1) / total_R,
    }


def parts(
    truths: Sequence[int], predictions: Sequence[Float[Array, " K"]], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> Parts:
    """Return recall, precision and F1 of each grade."""
    found = classification.parts(truths, list(_chosen(predictions)), weight_RN, spec)
    return Parts("grade", found.names, found.support, found.member_NP, found.scores, found.rests_on)


def error(truth: int, prediction: Float[Array, " K"], spec: TaskSpec) -> float:
    """Return the expected distance from the true grade, in grades."""
    return float(prediction @ np.abs(np.arange(len(prediction)) - truth))


def wrong(truth: int, prediction: Float[Array, " K"], spec: TaskSpec) -> bool:
    """Return True if another grade is predicted."""
    return _grade(prediction) != truth


def describe(value: Any, spec: TaskSpec) -> str:
    """Return the name of a true or predicted grade."""
    return spec.labels[int(value) if np.ndim(value) == 0 else _grade(value)]


def record(prediction: Float[Array, " K"], spec: TaskSpec) -> dict[str, Any]:
    """Return the predicted grade and the probability of every grade."""
    return {
        "label": spec.labels[_grade(prediction)],
        "probabilities": dict(zip(spec.labels, map(float, prediction), strict=True)),
    }


def details(
    truths: Sequence[int], predictions: Sequence[Float[Array, " K"]], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return the confusion matrix."""
    return {"confusion": confusion(np.array(truths), _chosen(predictions)).tolist()}
