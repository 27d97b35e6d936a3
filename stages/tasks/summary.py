"""All the figures of one evaluation, JSON-ready, each with its interval."""

from typing import Any

import numpy as np

from stages.tasks import TASKS
from stages.tasks.intervals import interval

Array = np.ndarray[Any, Any]


def summarize(
    task: str, label_N: Array, probability_NK: Array, weight_RN: Array, labels: list[str], confidence: float, bins: int
) -> dict[str, Any]:
    """Scores, per-class scores, confusion and calibration.

    Args:
        task: key of `TASKS`.
        label_N: true class per image.
        probability_NK: per image and class, 0..1.
        weight_RN: from `resample_weights`.
        labels: names of the classes.
        confidence: coverage of the intervals, 0..1.
        bins: of the reliability curve.
    """
    kind = TASKS[task]
    per_class = kind.per_class(label_N, probability_NK, weight_RN)
    calibration = kind.calibration(label_N, probability_NK, weight_RN, bins)
    return {
        "images": len(label_N),
        "confidence": confidence,
        "labels": labels,
        "scores": {
            n: interval(value_R, confidence) for n, value_R in kind.scores(label_N, probability_NK, weight_RN).items()
        },
        "per_class": [
            {
                "label": label,
                "support": int((label_N == k).sum()),
                **{name: interval(value_RK[:, k], confidence) for name, value_RK in per_class.items()},
            }
            for k, label in enumerate(labels)
        ],
        "confusion": kind.confusion(label_N, probability_NK).tolist(),
        "calibration": {
            "expected_calibration_error": interval(calibration["expected_calibration_error"], confidence),
            "bins": calibration["bins"],
        },
    }
