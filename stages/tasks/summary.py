"""All the figures of one evaluation, JSON-ready, each with its interval."""

from typing import Any

import numpy as np

from stages.tasks import TASKS
from stages.tasks.intervals import interval, resample_weights

Array = np.ndarray[Any, Any]


def summarize(
    task: str,
    label_N: Array,
    probability_NK: Array,
    group_N: Array,
    labels: list[str],
    *,
    resamples: int,
    confidence: float,
    bins: int,
) -> dict[str, Any]:
    """Scores, per-class scores, confusion and calibration.

    Args:
        task: key of `TASKS`.
        label_N: true class per image.
        probability_NK: per image and class, 0..1.
        group_N: what is drawn together by the bootstrap.
        labels: names of the classes.
        resamples: of the bootstrap.
        confidence: coverage of the intervals, 0..1.
        bins: of the reliability curve.
    """
    kind, weight_RN = TASKS[task], resample_weights(group_N, resamples)
    calibration = kind.calibration(label_N, probability_NK, weight_RN, bins)
    per_class = kind.per_class(label_N, probability_NK, weight_RN)
    classes = range(len(labels))
    held = [_groups(group_N, label_N == k) for k in classes]
    claimed = [_groups(group_N, probability_NK.argmax(axis=1) == k) for k in classes]
    units = {"precision": claimed, "recall": held, "f1": held}
    # A score that averages over the classes is as uncertain as its rarest class makes it.
    overall = sum(n > 0 for n in held) * min(n for n in held if n)
    scores = kind.scores(label_N, probability_NK, weight_RN)
    error = calibration["expected_calibration_error"]
    return {
        "images": len(label_N),
        "confidence": confidence,
        "labels": labels,
        "scores": {name: interval(value_R, confidence, overall) for name, value_R in scores.items()},
        "per_class": [
            {
                "label": labels[k],
                "support": int((label_N == k).sum()),
                **{name: interval(value[:, k], confidence, units[name][k]) for name, value in per_class.items()},
            }
            for k in classes
        ],
        "confusion": kind.confusion(label_N, probability_NK).tolist(),
        "calibration": {
            "expected_calibration_error": interval(error, confidence, overall),
            "bins": calibration["bins"],
        },
    }


def _groups(group_N: Array, member_N: Array) -> int:
    return len(np.unique(group_N[member_N]))
