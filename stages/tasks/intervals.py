"""Bootstrap intervals: a score without one is half a figure."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def resample_weights(group_N: Array, resamples: int, seed: int = 0) -> Array:
    """How often each image is drawn, [resamples + 1, N]; the first row is all ones: the data as they are.

    Whole groups are drawn with replacement (cluster bootstrap; Efron and Tibshirani 1993, ch. 8), since images of one
    group are not independent.
    """
    _, index_N = np.unique(group_N, return_inverse=True)
    groups = int(index_N.max()) + 1
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return np.concatenate([np.ones((1, len(group_N))), drawn_RG[:, index_N]])


def interval(value_R: Array, confidence: float) -> dict[str, float | None]:
    """Value and percentile interval of a score under `resample_weights`; null where it is undefined.

    >>> interval(np.array([0.5, 0.4, 0.5, 0.6]), 0.9)["value"]
    0.5
    """
    defined = value_R[1:][np.isfinite(value_R[1:])]
    if not np.isfinite(value_R[0]) or not len(defined):
        return {"value": None, "low": None, "high": None}
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"value": float(value_R[0]), "low": float(low), "high": float(high)}
