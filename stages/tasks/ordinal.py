"""A grade per image: classes in an order, where one grade off is better than three.

Axes: N images, K grades, R resamples. The grade answered is the median of the probabilities, which has the smallest
expected distance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.tasks import classification
from stages.tasks.classification import DRAWN, TRUTHS, confusion, decode, draw, mean_over_parts, truth
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

__all__ = ["DRAWN", "TRUTHS", "decode", "draw", "truth"]

Array = np.ndarray[Any, Any]

SCORES = {
    "quadratic_kappa": Score("higher", share=False),
    "mean_absolute_error": Score("lower", "grades", share=False),
    "balanced_accuracy": Score("higher"),
    "accuracy": Score("higher"),
    "within_one": Score("higher"),
}


def grade(probability_NK: Array) -> Array:
    """The median grade [N]: the lowest one up to which half of the probability lies."""
    return (probability_NK.cumsum(axis=-1) >= 0.5 - 1e-9).argmax(axis=-1)


def _chosen(answers: Sequence[Array]) -> Array:
    """[N, K]: 1 at the grade answered."""
    probability_NK = np.stack(answers)
    return np.eye(probability_NK.shape[1])[grade(probability_NK)]


def scores(truths: Sequence[int], answers: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> dict[str, Array]:
    """All scores under all weights: name to [R].

    quadratic_kappa: 1 - observed over expected squared distance of grades (Cohen 1968).
    """
    label_N, grades = np.array(truths), len(spec.labels)
    given_N = grade(np.stack(answers))
    off_N, total_R = np.abs(label_N - given_N), weight_RN.sum(axis=1)
    true_RK, given_RK = weight_RN @ np.eye(grades)[label_N], weight_RN @ np.eye(grades)[given_N]
    squared_KK = np.subtract.outer(np.arange(grades), np.arange(grades)) ** 2
    expected_R = np.einsum("rk,kl,rl->r", true_RK, squared_KK, given_RK) / total_R
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa_R = 1 - (weight_RN @ off_N**2) / expected_R
    each = parts(truths, answers, weight_RN, spec).scores
    return {
        "quadratic_kappa": kappa_R,
        "mean_absolute_error": weight_RN @ off_N / total_R,
        "balanced_accuracy": mean_over_parts(each["recall"]),
        "accuracy": weight_RN @ (off_N == 0) / total_R,
        "within_one": weight_RN @ (off_N <= 1) / total_R,
    }


def parts(truths: Sequence[int], answers: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> Parts:
    """Recall, precision and F1 of each grade."""
    found = classification.parts(truths, list(_chosen(answers)), weight_RN, spec)
    return Parts("grade", found.names, found.support, found.member_NP, found.scores, found.rests_on)


def error(truth: int, answer: Array, spec: TaskSpec) -> float:
    """Expected distance in grades."""
    return float(answer @ np.abs(np.arange(len(answer)) - truth))


def wrong(truth: int, answer: Array, spec: TaskSpec) -> bool:
    """Another grade."""
    return int(grade(answer)) != truth


def says(thing: Any, spec: TaskSpec) -> str:
    """The grade."""
    return spec.labels[int(thing) if np.ndim(thing) == 0 else int(grade(thing))]


def record(answer: Array, spec: TaskSpec) -> dict[str, Any]:
    """Grade, and the probability of every grade."""
    return {
        "label": spec.labels[int(grade(answer))],
        "probabilities": dict(zip(spec.labels, map(float, answer), strict=True)),
    }


def details(truths: Sequence[int], answers: Sequence[Array], spec: TaskSpec, bins: int) -> dict[str, Any]:
    """What grade is taken for what."""
    return {"confusion": confusion(np.array(truths), _chosen(answers)).tolist()}
