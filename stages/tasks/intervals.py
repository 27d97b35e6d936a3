"""Bootstrap confidence intervals of scores."""

import numpy as np

from stages.core.shapes import Array, Float, Shaped


def resample_weights(group_N: Shaped[Array, " N"], resamples: int, seed: int = 0) -> Float[Array, "{resamples}+1 N"]:
    """Return how often each image is drawn in each resample; the first row is all ones (the original data).

    Whole groups are drawn with replacement (cluster bootstrap; Efron and Tibshirani 1993, chapter 8), because images of
    one group are not independent.

    Args:
        group_N: group of each image.
        resamples: number of bootstrap resamples.
        seed: seed of the random draws.
    """
    _, index_N = np.unique(group_N, return_inverse=True)
    groups = int(index_N.max()) + 1
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return np.concatenate([np.ones((1, len(group_N))), drawn_RG[:, index_N]])


def interval(value_R: Float[Array, " R"], confidence: float, units: int, share: bool = True) -> dict[str, float | None]:
    """Return the value of a score and the low and high end of its percentile interval; None if undefined.

    If a score is 0 or 1 in all resamples, the bootstrap has no spread. In this case, the other end of the interval is
    that of the exact binomial interval (Clopper and Pearson 1934) of `units` independent trials.

    Args:
        value_R: score of the original data, then of each resample of `resample_weights`.
        confidence: coverage, 0..1.
        units: number of groups that contribute to the score.
        share: True if the score is in 0..1, like the share of successful trials.

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


def paired_difference(
    first_R: Float[Array, " R"], other_R: Float[Array, " R"], confidence: float
) -> dict[str, float | None]:
    """Return `other` minus `first` and its percentile interval, from scores on the same resamples; None if undefined.

    Args:
        first_R: score of one set of predictions on the original data, then on each resample.
        other_R: the same score of other predictions, on the same resamples.
        confidence: coverage, 0..1.
    """
    return interval(other_R - first_R, confidence, units=0, share=False)
