"""One class per image: the answer and its scores.

Axes: N images, K classes, R resamples, B bins. Every score takes weights [R, N], so that a bootstrap is one call,
and returns [R].
A class without images is left out of an average; a score that is undefined is NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.dataset.annotations import Annotation
from stages.tasks.overlays import as_rgb
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]


SCORES = {name: Score("higher") for name in ("balanced_accuracy", "accuracy", "auc", "f1")}
TRUTHS = ("label",)
DRAWN = False


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> int:
    """The index of the class."""
    labels = annotation.labels or ()
    if len(labels) != 1:
        raise ValueError(f"has {len(labels)} classes ({', '.join(labels)}); one is needed, or task.name: multilabel")
    return spec.labels.index(labels[0])


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Array:
    """Probability of each class, [K]."""
    return outputs["probability"]


def scores(truths: Sequence[int], answers: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> dict[str, Array]:
    """All scores under all weights: name to [R]."""
    label_N, probability_NK = np.array(truths), np.stack(answers)
    return {name: function(label_N, probability_NK, weight_RN) for name, function in FUNCTIONS.items()}


def parts(truths: Sequence[int], answers: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> Parts:
    """Recall, precision and F1 of each class."""
    label_N, probability_NK = np.array(truths), np.stack(answers)
    classes_K = np.arange(len(spec.labels))
    true_NK, claimed_NK = label_N[:, None] == classes_K, probability_NK.argmax(axis=1)[:, None] == classes_K
    found = per_class(label_N, probability_NK, weight_RN)
    ordered = {name: found[name] for name in ("recall", "precision", "f1")}
    support = tuple(int(n) for n in true_NK.sum(axis=0))
    return Parts("class", spec.labels, support, true_NK, ordered, {"precision": claimed_NK})


def error(truth: int, answer: Array, spec: TaskSpec) -> float:
    """1 - probability of the true class; of wrong answers the surest first."""
    return float(1 - answer[truth])


def wrong(truth: int, answer: Array, spec: TaskSpec) -> bool:
    """Another class is likelier."""
    return int(answer.argmax()) != truth


def says(thing: Any, spec: TaskSpec) -> str:
    """The class, and of an answer how sure it is."""
    if isinstance(thing, int | np.integer):
        return spec.labels[thing]
    return f"{spec.labels[int(thing.argmax())]} ({thing.max():.0%} sure)"


def draw(image: Array, thing: Any, spec: TaskSpec) -> Array:
    """A class cannot be drawn: the image."""
    return as_rgb(image)


def record(answer: Array, spec: TaskSpec) -> dict[str, Any]:
    """Label, confidence (0..1), and the probability of every class."""
    best = int(answer.argmax())
    return {
        "label": spec.labels[best],
        "confidence": float(answer[best]),
        "probabilities": dict(zip(spec.labels, map(float, answer), strict=True)),
    }


def details(truths: Sequence[int], answers: Sequence[Array], spec: TaskSpec, bins: int) -> dict[str, Any]:
    """What is taken for what; and confidence against accuracy."""
    label_N, probability_NK = np.array(truths), np.stack(answers)
    one = np.ones((1, len(label_N)))
    found = calibration(label_N, probability_NK, one, bins)
    return {
        "confusion": confusion(label_N, probability_NK).tolist(),
        "calibration": {
            "bins": found["bins"],
            "expected_calibration_error": float(found["expected_calibration_error"][0]),
        },
    }


def accuracy(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Share of images whose likeliest class is true."""
    correct_N = probability_NK.argmax(axis=1) == label_N
    return weight_RN @ correct_N / weight_RN.sum(axis=1)


def balanced_accuracy(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Mean recall over the classes, so that a rare class counts as much as a common one."""
    return mean_over_parts(per_class(label_N, probability_NK, weight_RN)["recall"])


def f1(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Macro F1: mean over the classes of 2 TP / (2 TP + FP + FN)."""
    return mean_over_parts(per_class(label_N, probability_NK, weight_RN)["f1"])


def auc(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Area under the ROC curve, one class against the others, mean over the classes.

    The probability that an image of the class is ranked above one of the others, ties counting one half
    (Hanley and McNeil 1982).
    """
    classes = range(probability_NK.shape[1])
    told = classes if len(classes) > 2 else classes[1:]  # of two classes, each one's area is the other's
    areas = [auc_of(label_N == k, probability_NK[:, k], weight_RN) for k in told]
    return mean_over_parts(np.stack(areas, axis=1))


def auc_of(positive_N: Array, probability_N: Array, weight_RN: Array) -> Array:
    """[R]: area under the ROC curve of one class against the others."""
    values, tie_N = np.unique(probability_N, return_inverse=True)
    order = np.argsort(tie_N, kind="stable")
    first = np.searchsorted(tie_N[order], np.arange(len(values)))
    inside_RT = np.add.reduceat(weight_RN[:, order] * positive_N[order], first, axis=1)
    outside_RT = np.add.reduceat(weight_RN[:, order] * ~positive_N[order], first, axis=1)
    below_RT = outside_RT.cumsum(axis=1) - outside_RT / 2
    with np.errstate(invalid="ignore"):
        return (inside_RT * below_RT).sum(axis=1) / (inside_RT.sum(axis=1) * outside_RT.sum(axis=1))


FUNCTIONS = {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "auc": auc, "f1": f1}


def per_class(label_N: Array, probability_NK: Array, weight_RN: Array) -> dict[str, Array]:
    """precision, recall and f1 of every class, each [R, K]; NaN where a class has no images."""
    classes_K = np.arange(probability_NK.shape[1])
    true_NK = label_N[:, None] == classes_K
    predicted_NK = probability_NK.argmax(axis=1)[:, None] == classes_K
    hit_RK, support_RK = weight_RN @ (true_NK & predicted_NK), weight_RN @ true_NK
    claimed_RK = weight_RN @ predicted_NK
    with np.errstate(invalid="ignore", divide="ignore"):
        absent = np.where(support_RK > 0, 0.0, np.nan)
        return {
            "precision": np.where(claimed_RK > 0, hit_RK / claimed_RK, absent),  # no claim of a present class: 0
            "recall": hit_RK / support_RK,
            "f1": np.where(support_RK > 0, 2 * hit_RK / (support_RK + claimed_RK), np.nan),
        }


def confusion(label_N: Array, probability_NK: Array) -> Array:
    """Counts [true class, predicted class]."""
    classes = probability_NK.shape[1]
    pairs = label_N * classes + probability_NK.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def calibration(label_N: Array, probability_NK: Array, weight_RN: Array, bins: int) -> dict[str, Any]:
    """How far confidence and accuracy part: the expected calibration error and the bins behind it.

    Bins of equal width over 0..1; error = sum over bins of share * |accuracy - confidence| (Naeini et al. 2015).
    Returns expected_calibration_error [R] and, of the data as they are, bins of {confidence, accuracy, count}.
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


def mean_over_parts(value_RK: Array) -> Array:
    """[R]: mean over the parts that are defined; NaN where none is."""
    present_RK = np.isfinite(value_RK)
    with np.errstate(invalid="ignore"):
        return np.where(present_RK, value_RK, 0).sum(axis=1) / present_RK.sum(axis=1)
