"""Learning-rate schedules as functions of the step and of past scores, so that resuming requires no scheduler state."""

import math
from collections.abc import Callable, Sequence

WARMUP_START = 1 / 25  # share of the rate at the first step; one_cycle ends at 1e-4 of it (Smith and Topin 2019)
DROP = 0.1
MILESTONES = (0.5, 0.75)  # shares of the training at which `step` drops the rate (He et al. 2016)
PLATEAU_EPOCHS = 4  # epochs without a better score, after which `plateau` drops the rate


def lr_factor(schedule: str, warmup: float, step: int, steps: int, stalled: Sequence[bool]) -> float:
    """Return the factor by which `train.learning_rate` is multiplied at a step, 0..1.

    During the warm-up the rate rises from 1/25 along half a cosine. After it, with t from 0 to 1:

    - one_cycle: half a cosine down to 4e-6 (Smith and Topin 2019, at constant momentum);
    - cosine: (1 + cos(pi t)) / 2, down to 0 (Loshchilov and Hutter 2017);
    - step: 1, divided by 10 at half and at three quarters of the training (He et al. 2016);
    - plateau: divided by 10 after every 4 consecutive epochs without a better validation score;
    - constant: 1.

    Args:
        schedule: one of the names above.
        warmup: share of the steps, 0..<1.
        step: counted from 0.
        steps: number of steps of the whole training.
        stalled: for each completed epoch, whether it brought no better validation score.

    >>> [round(lr_factor("one_cycle", 0.3, step, 100, []), 3) for step in (0, 29, 60, 100)]
    [0.04, 1.0, 0.603, 0.0]
    >>> lr_factor("plateau", 0.0, 50, 100, [False, True, True, True, True])
    0.1
    """
    last_warmup_step = warmup * (steps + 1) - 1
    if step <= last_warmup_step:
        return (
            WARMUP_START + (1 - WARMUP_START) * _cosine_rise(step / last_warmup_step) if last_warmup_step > 0 else 1.0
        )
    begin = max(0.0, last_warmup_step)
    return SCHEDULES[schedule](min(1.0, (step - begin) / (steps - begin)), step / steps, stalled)


def _cosine_rise(t: float) -> float:
    """Return (1 - cos(pi t)) / 2, which rises from 0 to 1."""
    return (1 - math.cos(math.pi * t)) / 2


def _plateaus(stalled: Sequence[bool]) -> int:
    """Count how often `PLATEAU_EPOCHS` epochs in a row brought no better score."""
    plateaus = in_a_row = 0
    for no_better in stalled:
        in_a_row = in_a_row + 1 if no_better else 0
        if in_a_row == PLATEAU_EPOCHS:
            plateaus, in_a_row = plateaus + 1, 0
    return plateaus


SCHEDULES: dict[str, Callable[[float, float, Sequence[bool]], float]] = {
    "one_cycle": lambda t, done, stalled: 1 - (1 - WARMUP_START * 1e-4) * _cosine_rise(t),
    "cosine": lambda t, done, stalled: 1 - _cosine_rise(t),
    "step": lambda t, done, stalled: DROP ** sum(done >= milestone for milestone in MILESTONES),
    "plateau": lambda t, done, stalled: DROP ** _plateaus(stalled),
    "constant": lambda t, done, stalled: 1.0,
}
"""Factor after the warm-up: a function of the completed share of the steps after it, the completed share of all steps,
and the stalled epochs."""
