"""Bootstrap intervals: a score without one is half a figure."""

import numpy as np

from stages.core.shapes import Array, Float, Shaped


def resample_weights(group_N: Shaped[Array, " N"], resamples: int, seed: int = 0) -> Float[Array, "{resamples}+1 N"]:
    """How often each image is drawn, [resamples + 1, N]; the first row is all ones: the data as they are.

    Whole groups are drawn with replacement (cluster bootstrap; Efron and Tibshirani 1993, ch. 8), since images of one
    group are not independent.
    """
    _, index_N = np.unique(group_N, return_inverse=True)
    groups = int(index_N.max()) + 1
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return np.concatenate([np.ones((1, len(group_N))), drawn_RG[:, index_N]])


def interval(value_R: Float[Array, " R"], confidence: float, units: int, share: bool = True) -> dict[str, float | None]:
    """Value and percentile interval of a score under `resample_weights`; null where the score is undefined.

    Resampling a flawless result cannot show a flaw, nor the reverse. There the open end is the exact binomial one
    (Clopper and Pearson 1934) for `units` independent trials.

    Args:
        value_R: the score of the data as they are, then of the resamples.
        confidence: coverage, 0..1.
        units: how many groups the score rests on.
        share: the score is a share of such trials; of others nothing exact is known.

    >>> interval(np.array([0.5, 0.4, 0.5, 0.6]), 0.9, units=10)["value"]
    0.5
    >>> interval(np.ones(100), 0.95, units=30)["low"]  # doctest: +ELLIPSIS
    0.88...
    """
    defined = value_R[1:][np.isfinite(value_R[1:])]
    value = float(value_R[0])
    if not np.isfinite(value) or not len(defined):
        return {"value": None, "low": None, "high": None}
    low, high = map(float, np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2]))
    if share and low == high == value and value in (0.0, 1.0):
        exact = ((1 - confidence) / 2) ** (1 / units) if units else 0.0
        low, high = (exact, 1.0) if value else (0.0, 1 - exact)
    return {"value": value, "low": low, "high": high}
