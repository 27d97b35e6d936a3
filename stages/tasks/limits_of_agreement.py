"""Limits of agreement between predicted and true numbers."""

from typing import Any

import numpy as np

from stages.core.shapes import Array, Real

MAX_PAIRS = 2000  # maximum number of pairs that are stored for a chart


def limits_of_agreement(true_N: Real[Array, " N"], given_N: Real[Array, " N"], unit: str = "") -> dict[str, Any]:
    """Return the bias and the limits of agreement between predicted and true numbers, and the pairs of numbers.

    The limits are the bias +- 1.96 standard deviations of the differences (Bland and Altman 1986).

    Args:
        true_N: true numbers.
        given_N: predicted numbers.
        unit: unit of the numbers.

    Returns:
        `unit`; `bias`, the mean of predicted - true; `low` and `high`, the limits, equal to the bias for a single pair;
        and `pairs`, the first `MAX_PAIRS` pairs of true and predicted numbers.
    """
    off_N = given_N - true_N
    bias, spread = float(off_N.mean()), 1.96 * float(off_N.std(ddof=1)) if len(off_N) > 1 else 0.0
    pairs = np.stack([true_N, given_N], axis=1)[:MAX_PAIRS].round(6).tolist()
    return {"unit": unit, "bias": bias, "low": bias - spread, "high": bias + spread, "pairs": pairs}
