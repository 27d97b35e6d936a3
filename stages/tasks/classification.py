"""Classification: one class per image.

Axes: N images, K classes, R resamples, B bins. Every score accepts weights [R, N] and returns [R], so that a bootstrap
requires one call. A class without images is excluded from averages; an undefined score is NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Float, Integer, UInt8
from stages.dataset.annotations import Annotation
from stages.tasks.overlays import as_rgb
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

Truth = int | np.int64
"""Index of the true class."""

SCORES = {
    "balanced_accuracy": Score("higher"),
    "accuracy": Score("higher"),
    "auc": Score("higher", requires="images of at least two classes"),
    "f1": Score("higher"),
}
TRUTHS = ("label",)
DRAWN = False


def truth(annotation: Annotation, target: Integer[Array, "..."] | None, height: int, width: int, spec: TaskSpec) -> int:
    """Return the index of the class."""
    labels = annotation.labels or ()
    if len(labels) != 1:
        found = f"{len(labels)} classes ({', '.join(labels)})" if labels else "no class"
        raise ValueError(f"has {found}; label it with exactly one class, or set task.name to multilabel")
    return spec.labels.index(labels[0])


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Float[Array, " K"]:
    """Return the probability of each class."""
    return outputs["probability"]


def as_prediction(truth: Truth, spec: TaskSpec) -> Float[Array, " K"]:
    """Return the probabilities of a certain and correct prediction."""
    return np.eye(len(spec.labels))[truth]


def scores(
    truths: Sequence[Truth], predictions: Sequence[Float[Array, " K"]], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights."""
    label_N, probability_NK = np.array(truths), np.stack(predictions)
    return {name: function(label_N, probability_NK, weight_RN) for name, function in FUNCTIONS.items()}


def parts(
    truths: Sequence[Truth], predictions: Sequence[Float[Array, " K"]], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> Parts:
    """Return recall, precision and F1 of each class."""
    label_N, probability_NK = np.array(truths), np.stack(predictions)
    classes_K = np.arange(len(spec.labels))
    true_NK, claimed_NK = label_N[:, None] == classes_K, probability_NK.argmax(axis=1)[:, None] == classes_K
    found = per_class(label_N, probability_NK, weight_RN)
    ordered = {name: found[name] for name in ("recall", "precision", "f1")}
    support = tuple(int(n) for n in true_NK.sum(axis=0))
    return Parts("class", spec.labels, support, true_NK, ordered, {"precision": claimed_NK})


def error(truth: Truth, prediction: Float[Array, " K"], spec: TaskSpec) -> float:
    """Return 1 minus the probability of the true class."""
    return float(1 - prediction[truth])


def wrong(truth: Truth, prediction: Float[Array, " K"], spec: TaskSpec) -> bool:
    """Return True if another class is predicted."""
    return int(prediction.argmax()) != truth


def describe(value: Any, spec: TaskSpec) -> str:
    """Return the class, and for a prediction also its confidence."""
    if isinstance(value, int | np.integer):
        return spec.labels[value]
    return f"{spec.labels[int(value.argmax())]} ({value.max():.0%} confidence)"


def draw(image: Integer[Array, "H W ..."], value: Any, spec: TaskSpec) -> UInt8[Array, "H W 3"]:
    """Return the image as RGB without a drawing, because a class cannot be drawn."""
    return as_rgb(image)


def record(prediction: Float[Array, " K"], spec: TaskSpec) -> dict[str, Any]:
    """Return the predicted class, its confidence (0..1) and the probability of every class."""
    best = int(prediction.argmax())
    return {
        "label": spec.labels[best],
        "confidence": float(prediction[best]),
        "probabilities": dict(zip(spec.labels, map(float, prediction), strict=True)),
    }


def details(
    truths: Sequence[Truth], predictions: Sequence[Float[Array, " K"]], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return the confusion matrix and the calibration."""
    label_N, probability_NK = np.array(truths), np.stack(predictions)
    one = np.ones((1, len(label_N)))
    found = calibration(label_N, probability_NK, one, bins)
    return {
        "confusion": confusion(label_N, probability_NK).tolist(),
        "calibration": {
            "bins": found["bins"],
            "expected_calibration_error": float(found["expected_calibration_error"][0]),
        },
    }


def accuracy(
    label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"], weight_RN: Float[Array, "R N"]
) -> Float[Array, " R"]:
    """Return the accuracy: the share of images whose most probable class is the true class.

    Args:
        label_N: index of the true class.
        probability_NK: predicted probabilities.
        weight_RN: bootstrap weights; R resamples.
    """
    correct_N = probability_NK.argmax(axis=1) == label_N
    return weight_RN @ correct_N / weight_RN.sum(axis=1)


def balanced_accuracy(
    label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"], weight_RN: Float[Array, "R N"]
) -> Float[Array, " R"]:
    """Return the balanced accuracy: the mean recall over classes.

    Args:
        label_N: index of the true class.
        probability_NK: predicted probabilities.
        weight_RN: bootstrap weights; R resamples.
    """
    return mean_over_parts(per_class(label_N, probability_NK, weight_RN)["recall"])


def f1(
    label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"], weight_RN: Float[Array, "R N"]
) -> Float[Array, " R"]:
    """Return the macro F1: the mean over classes of 2 TP / (2 TP + FP + FN).

    Args:
        label_N: index of the true class.
        probability_NK: predicted probabilities.
        weight_RN: bootstrap weights; R resamples.
    """
    return mean_over_parts(per_class(label_N, probability_NK, weight_RN)["f1"])


def auc(
    label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"], weight_RN: Float[Array, "R N"]
) -> Float[Array, " R"]:
    """Return the area under the ROC curve of each class against the others, averaged over classes.

    The area is the probability that an image of the class has a higher score than another image; ties count one half
    (Hanley and McNeil 1982). It is undefined for a single class.

    Args:
        label_N: true classes.
        probability_NK: probability of each class.
        weight_RN: bootstrap weights.
    """
    classes = range(probability_NK.shape[1])
    counted = classes if len(classes) > 2 else classes[1:]  # two classes have the same area
    areas = [auc_of(label_N == k, probability_NK[:, k], weight_RN) for k in counted]
    return mean_over_parts(np.stack(areas, axis=1)) if areas else np.full(len(weight_RN), np.nan)


def auc_of(
    positive_N: Bool[Array, " N"], probability_N: Float[Array, " N"], weight_RN: Float[Array, "R N"]
) -> Float[Array, " R"]:
    """Return the area under the ROC curve of one class against the others; NaN if either side has no images.

    Args:
        positive_N: True for images of the class.
        probability_N: probability of the class.
        weight_RN: bootstrap weights.
    """
    values, tie_N = np.unique(probability_N, return_inverse=True)
    order = np.argsort(tie_N, kind="stable")
    first = np.searchsorted(tie_N[order], np.arange(len(values)))
    inside_RT = np.add.reduceat(weight_RN[:, order] * positive_N[order], first, axis=1)
    outside_RT = np.add.reduceat(weight_RN[:, order] * ~positive_N[order], first, axis=1)
    below_RT = outside_RT.cumsum(axis=1) - outside_RT / 2
    with np.errstate(invalid="ignore"):
        return (inside_RT * below_RT).sum(axis=1) / (inside_RT.sum(axis=1) * outside_RT.sum(axis=1))


FUNCTIONS = {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "auc": auc, "f1": f1}


def per_class(
    label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"], weight_RN: Float[Array, "R N"]
) -> dict[str, Float[Array, "R K"]]:
    """Return precision, recall and f1 of every class.

    Recall and f1 are NaN for a class without images; precision is NaN if such a class is never predicted.

    Args:
        label_N: true classes.
        probability_NK: probability of each class.
        weight_RN: bootstrap weights.
    """
    classes_K = np.arange(probability_NK.shape[1])
    true_NK = label_N[:, None] == classes_K
    predicted_NK = probability_NK.argmax(axis=1)[:, None] == classes_K
    hit_RK, support_RK = weight_RN @ (true_NK & predicted_NK), weight_RN @ true_NK
    predicted_RK = weight_RN @ predicted_NK
    with np.errstate(invalid="ignore", divide="ignore"):
        absent = np.where(support_RK > 0, 0.0, np.nan)
        return {
            "precision": np.where(
                predicted_RK > 0, hit_RK / predicted_RK, absent
            ),  # 0 if a present class is never predicted
            "recall": hit_RK / support_RK,
            "f1": np.where(support_RK > 0, 2 * hit_RK / (support_RK + predicted_RK), np.nan),
        }


def confusion(label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"]) -> Integer[Array, "K K"]:
    """Return the confusion matrix: the number of images by true class (rows) and predicted class (columns)."""
    classes = probability_NK.shape[1]
    pairs = label_N * classes + probability_NK.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def calibration(
    label_N: Integer[Array, " N"], probability_NK: Float[Array, "N K"], weight_RN: Float[Array, "R N"], bins: int
) -> dict[str, Any]:
    """Return the expected calibration error and its bins.

    The error is the sum over bins of share * |accuracy - confidence| with bins of equal width (Naeini et al. 2015).

    Args:
        label_N: true classes.
        probability_NK: probability of each class.
        weight_RN: bootstrap weights.
        bins: number of bins over 0..1.

    Returns:
        `expected_calibration_error` [R], and `bins`: confidence, accuracy and count of each non-empty bin, unweighted.
    """
    confidence_N = probability_NK.max(axis=1)
    correct_N = probability_NK.argmax(axis=1) == label_N
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    member_NB = bin_N[:, None] == np.arange(bins)
    gap_RB = weight_RN @ (member_NB * (correct_N - confidence_N)[:, None])
    return {
        "expected_calibration_error": np.abs(gap_RB).sum(axis=1) / weight_RN.sum(axis=1),
        "bins": [
            {
                "confidence": float(confidence_N[member_N].mean()),
                "accuracy": float(correct_N[member_N].mean()),
                "count": int(member_N.sum()),
            }
            for member_N in member_NB.T
            if member_N.any()
        ],
    }


def mean_over_parts(value_RK: Float[Array, "R K"]) -> Float[Array, " R"]:
    """Return the mean over the defined parts; NaN if none is defined."""
    present_RK = np.isfinite(value_RK)
    with np.errstate(invalid="ignore"):
        return np.where(present_RK, value_RK, 0).sum(axis=1) / present_RK.sum(axis=1)
