"""One class per image: the answer and its scores.

Axes: N images, K classes, R resamples, B bins. Every score takes weights [R, N], so that a bootstrap is one call,
and returns [R].
A class without images is left out of an average; a score that is undefined is NaN.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def decode(probability_NK: Array, labels: list[str]) -> list[dict[str, Any]]:
    """The answer per image: label, confidence (0..1), and the probability of every class."""
    best_N = probability_NK.argmax(axis=1)
    return [
        {
            "label": labels[best],
            "confidence": float(probability_K[best]),
            "probabilities": dict(zip(labels, map(float, probability_K), strict=True)),
        }
        for best, probability_K in zip(best_N, probability_NK, strict=True)
    ]


def score(name: str, label_N: Array, probability_NK: Array) -> float:
    """One score by name, as `SCORES` lists them; 0..1, higher is better."""
    return float(SCORES[name](label_N, probability_NK, np.ones((1, len(label_N))))[0])


def scores(label_N: Array, probability_NK: Array, weight_RN: Array) -> dict[str, Array]:
    """All scores under all weights: name to [R]."""
    return {name: function(label_N, probability_NK, weight_RN) for name, function in SCORES.items()}


def accuracy(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Share of images whose likeliest class is true."""
    correct_N = probability_NK.argmax(axis=1) == label_N
    return weight_RN @ correct_N / weight_RN.sum(axis=1)


def balanced_accuracy(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Mean recall over the classes, so that a rare class counts as much as a common one."""
    return _mean_over_classes(per_class(label_N, probability_NK, weight_RN)["recall"])


def f1(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Macro F1: mean over the classes of 2 TP / (2 TP + FP + FN)."""
    return _mean_over_classes(per_class(label_N, probability_NK, weight_RN)["f1"])


def auc(label_N: Array, probability_NK: Array, weight_RN: Array) -> Array:
    """Area under the ROC curve, one class against the others, mean over the classes.

    The probability that an image of the class is ranked above one of the others, ties counting one half
    (Hanley and McNeil 1982).
    """
    classes = range(probability_NK.shape[1])
    told = classes if len(classes) > 2 else classes[1:]  # of two classes, each one's area is the other's
    areas = [_auc_of_class(label_N == k, probability_NK[:, k], weight_RN) for k in told]
    return _mean_over_classes(np.stack(areas, axis=1))


def _auc_of_class(positive_N: Array, probability_N: Array, weight_RN: Array) -> Array:
    values, tie_N = np.unique(probability_N, return_inverse=True)
    order = np.argsort(tie_N, kind="stable")
    first = np.searchsorted(tie_N[order], np.arange(len(values)))
    inside_RT = np.add.reduceat(weight_RN[:, order] * positive_N[order], first, axis=1)
    outside_RT = np.add.reduceat(weight_RN[:, order] * ~positive_N[order], first, axis=1)
    below_RT = outside_RT.cumsum(axis=1) - outside_RT / 2
    with np.errstate(invalid="ignore"):
        return (inside_RT * below_RT).sum(axis=1) / (inside_RT.sum(axis=1) * outside_RT.sum(axis=1))


SCORES = {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "auc": auc, "f1": f1}


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


def _mean_over_classes(value_RK: Array) -> Array:
    present_RK = np.isfinite(value_RK)
    with np.errstate(invalid="ignore"):
        return np.where(present_RK, value_RK, 0).sum(axis=1) / present_RK.sum(axis=1)
