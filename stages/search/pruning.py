"""Median stopping rule: end trials that fall behind earlier ones (Golovin et al. 2017)."""

import math

import numpy as np

MIN_TRIALS = 4  # smallest number of earlier trials for which a trial can be stopped


def should_stop(best_so_far: float, earlier_scores: list[list[float]], epoch: int, higher_is_better: bool) -> bool:
    """Return whether a trial's best score is worse than the median best score of earlier trials at the same epoch.

    Earlier trials that ended before this epoch, or whose best score is not finite, are left out; with fewer than
    `MIN_TRIALS` others, the result is False.

    Args:
        best_so_far: best score of the trial; infinitely bad if no score is defined.
        earlier_scores: scores of each epoch of the trials of earlier rounds. Trials of the same round are left out, so
            that the decision does not depend on which of them is faster.
        epoch: number of completed epochs.
        higher_is_better: whether a higher score is better.

    >>> should_stop(0.69, [[0.5, 0.6], [0.6, 0.7], [0.7, 0.8], [0.8, 0.9]], 2, higher_is_better=True)
    True
    """
    best = max if higher_is_better else min
    bests = [best(scores[:epoch]) for scores in earlier_scores if len(scores) >= epoch]
    bests = [score for score in bests if math.isfinite(score)]
    if len(bests) < MIN_TRIALS:
        return False
    median = float(np.median(bests))
    return best_so_far < median if higher_is_better else best_so_far > median
