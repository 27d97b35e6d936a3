"""How far numbers that were answered are from true ones: limits of agreement."""

from typing import Any

import numpy as np

from stages.core.shapes import Array, Real

MOST_PAIRS = 2000  # kept for a chart


def limits_of_agreement(true_N: Real[Array, " N"], given_N: Real[Array, " N"], unit: str = "") -> dict[str, Any]:
    """Bias, and bias +- 1.96 standard deviations of the difference (Bland and Altman 1986); JSON-ready.

    Args:
        true_N: true numbers.
        given_N: the answers.
        unit: of both.
    """
    off_N = given_N - true_N
    bias, spread = float(off_N.mean()), 1.96 * float(off_N.std(ddof=1)) if len(off_N) > 1 else 0.0
    pairs = np.stack([true_N, given_N], axis=1)[:MOST_PAIRS].round(6).tolist()
    return {"unit": unit, "bias": bias, "low": bias - spread, "high": bias + spread, "pairs": pairs}
