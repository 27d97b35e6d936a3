"""Multi-label classification: any number of classes per image.

Axes: N images, K classes, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Float, Integer, Shaped, UInt8
from stages.dataset.annotations import Annotation
from stages.tasks.classification import auc_of, mean_over_parts
from stages.tasks.overlays import as_rgb
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

_PRESENT = "an image that has a class"
SCORES = {
    "mean_average_precision": Score("higher", requires=_PRESENT),
    "macro_f1": Score("higher", requires=_PRESENT),
    "micro_f1": Score("higher"),
    "auc": Score("higher", requires="a class that some images have and others lack"),
    "exact_match": Score("higher"),
}
TRUTHS = ("labels",)
DRAWN = False
THRESHOLD = 0.5  # minimum probability of a predicted class


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Bool[Array, " K"]:
    """Return True for each class that is present."""
    if annotation.labels is None:
        raise ValueError("has no class labels; check ingest.format and task.name")
    return np.isin(np.array(spec.labels), annotation.labels)


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Float[Array, " K"]:
    """Return the probability of each class."""
    return outputs["probability"]


def as_prediction(truth: Bool[Array, " K"], spec: TaskSpec) -> Float[Array, " K"]:
    """Return the probabilities of a certain and correct prediction."""
    return truth.astype(float)


def scores(
    truths: Sequence[Bool[Array, " K"]],
    predictions: Sequence[Float[Array, " K"]],
    weight_RN: Float[Array, "R N"],
    spec: TaskSpec,
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights; macro scores exclude absent classes."""
    true_NK, probability_NK = np.stack(truths), np.stack(predictions)
    claimed_NK = probability_NK >= THRESHOLD
    hit, claims, there = weight_RN @ (true_NK & claimed_NK), weight_RN @ claimed_NK, weight_RN @ true_NK
    exact_N = (true_NK == claimed_NK).all(axis=1)
    each = parts(truths, predictions, weight_RN, spec).scores
    total = (claims + there).sum(axis=1)
    with np.errstate(invalid="ignore"):
        micro_R = np.where(total > 0, 2 * hit.sum(axis=1) / total, 1.0)
    return {
        "mean_average_precision": mean_over_parts(each["average_precision"]),
        "macro_f1": mean_over_parts(each["f1"]),
        "micro_f1": micro_R,
        "auc": mean_over_parts(each["auc"]),
        "exact_match": weight_RN @ exact_N / weight_RN.sum(axis=1),
    }


def average_precision(
    true_N: Bool[Array, " N"], probability_N: Float[Array, " N"], weight_RN: Float[Array, "R N"]
) -> Float[Array, " R"]:
    """Return the average precision of a class; NaN if the class is absent.

    Args:
        true_N: True for images with the class.
        probability_N: probability of the class.
        weight_RN: bootstrap weights.
    """
    values, tie_N = np.unique(-probability_N, return_inverse=True)  # highest first
    order = np.argsort(tie_N, kind="stable")
    first = np.searchsorted(tie_N[order], np.arange(len(values)))
    hit_RT = np.add.reduceat(weight_RN[:, order] * true_N[order], first, axis=1).cumsum(axis=1)
    claimed_RT = np.add.reduceat(weight_RN[:, order], first, axis=1).cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_RT = np.where(claimed_RT > 0, hit_RT / claimed_RT, 0.0)
        recall_RT = hit_RT / hit_RT[:, -1:]
    return (precision_RT * np.diff(recall_RT, axis=1, prepend=0)).sum(axis=1)


def parts(
    truths: Sequence[Bool[Array, " K"]],
    predictions: Sequence[Float[Array, " K"]],
    weight_RN: Float[Array, "R N"],
    spec: TaskSpec,
) -> Parts:
    """Return average precision, F1 and AUC of each class; NaN if it is absent (AUC also if it is in all images)."""
    true_NK, probability_NK = np.stack(truths), np.stack(predictions)
    claimed_NK = probability_NK >= THRESHOLD
    hit, claims, there = weight_RN @ (true_NK & claimed_NK), weight_RN @ claimed_NK, weight_RN @ true_NK
    columns = range(true_NK.shape[1])
    with np.errstate(invalid="ignore"):
        f1_RK = np.where(there > 0, 2 * hit / (claims + there), np.nan)
    precision_RK = np.stack([average_precision(true_NK[:, k], probability_NK[:, k], weight_RN) for k in columns], 1)
    auc_RK = np.stack([auc_of(true_NK[:, k], probability_NK[:, k], weight_RN) for k in columns], 1)
    support = tuple(int(n) for n in true_NK.sum(axis=0))
    return Parts(
        "class", spec.labels, support, true_NK, {"average_precision": precision_RK, "f1": f1_RK, "auc": auc_RK}
    )


def error(truth: Bool[Array, " K"], prediction: Float[Array, " K"], spec: TaskSpec) -> float:
    """Return the mean absolute difference between truth and probability."""
    return float(np.abs(truth - prediction).mean())


def wrong(truth: Bool[Array, " K"], prediction: Float[Array, " K"], spec: TaskSpec) -> bool:
    """Return True if a class is missed or falsely predicted."""
    return bool(((prediction >= THRESHOLD) != truth).any())


def describe(value: Shaped[Array, " K"], spec: TaskSpec) -> str:
    """Return the present classes."""
    there = [label for label, value in zip(spec.labels, value, strict=True) if value >= THRESHOLD]
    return ", ".join(there) or "nothing"


def draw(image: Integer[Array, "H W *C"], value: Any, spec: TaskSpec) -> UInt8[Array, "H W 3"]:
    """Return the image unchanged, because classes cannot be drawn."""
    return as_rgb(image)


def record(prediction: Float[Array, " K"], spec: TaskSpec) -> dict[str, Any]:
    """Return the present classes and the probability of every class."""
    there = [label for label, value in zip(spec.labels, prediction, strict=True) if value >= THRESHOLD]
    return {"labels": there, "probabilities": dict(zip(spec.labels, map(float, prediction), strict=True))}


def details(
    truths: Sequence[Bool[Array, " K"]], predictions: Sequence[Float[Array, " K"]], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return the mean number of true and of predicted classes per image."""
    return {
        "classes_an_image": {
            "truth": float(np.stack(truths).sum(axis=1).mean()),
            "answer": float((np.stack(predictions) >= THRESHOLD).sum(axis=1).mean()),
        }
    }
