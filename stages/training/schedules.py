"""How the learning rate goes: a function of the step and of the epochs behind it, so that a restart needs no more."""

import math
from collections.abc import Callable, Sequence

LOWEST = 1 / 25  # where the warm-up begins, and 1e-4 of it where one_cycle ends (Smith and Topin 2019)
DROP = 0.1
STEPS_DOWN = (0.5, 0.75)  # of the training, as He et al. 2016 have it
PLATEAU = 4  # epochs without a better score, after which the rate drops


def rate_share(schedule: str, warmup: float, step: int, steps: int, worse: Sequence[bool]) -> float:
    """The share of `train.learning_rate` for a step, 0..1.

    The rate rises along half a cosine from 1/25 in the warm-up. Behind it, with t from 0 to 1:

    - one_cycle: half a cosine down to 4e-6 (Smith and Topin 2019, at a constant momentum);
    - cosine: (1 + cos(pi t)) / 2, down to 0 (Loshchilov and Hutter 2017);
    - step: 1, and a tenth at half and at three quarters of the training, each (He et al. 2016);
    - plateau: a tenth after every 4 epochs in a row without a better validation score;
    - constant: 1.

    Args:
        schedule: one of these.
        warmup: share of the steps.
        step: from 0.
        steps: of the whole training.
        worse: of each epoch behind the step, whether it brought no better score.

    >>> [round(rate_share("one_cycle", 0.3, step, 100, []), 3) for step in (0, 29, 60, 100)]
    [0.04, 1.0, 0.603, 0.0]
    >>> rate_share("plateau", 0.0, 50, 100, [False, True, True, True, True])
    0.1
    """
    rise = warmup * (steps + 1) - 1
    if step <= rise:
        return LOWEST + (1 - LOWEST) * _risen(step / rise) if rise > 0 else 1.0
    return BEHIND[schedule](min(1.0, (step - max(0.0, rise)) / (steps - max(0.0, rise))), step / steps, worse)


def _risen(t: float) -> float:
    """Half a cosine from 0 to 1."""
    return (1 - math.cos(math.pi * t)) / 2


def _drops(worse: Sequence[bool]) -> int:
    drops = in_a_row = 0
    for one in worse:
        in_a_row = in_a_row + 1 if one else 0
        if in_a_row == PLATEAU:
            drops, in_a_row = drops + 1, 0
    return drops


BEHIND: dict[str, Callable[[float, float, Sequence[bool]], float]] = {
    "one_cycle": lambda t, done, worse: 1 - (1 - LOWEST * 1e-4) * _risen(t),
    "cosine": lambda t, done, worse: 1 - _risen(t),
    "step": lambda t, done, worse: DROP ** sum(done >= mark for mark in STEPS_DOWN),
    "plateau": lambda t, done, worse: DROP ** _drops(worse),
    "constant": lambda t, done, worse: 1.0,
}
