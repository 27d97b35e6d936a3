"""Measure how much score a variant loses, with a confidence interval, and its latency."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.shapes import Array, Integer, Shaped
from stages.runtime import Model
from stages.tasks import TASKS
from stages.tasks.evaluation import trials
from stages.tasks.intervals import resample_weights
from stages.tasks.task_spec import TaskSpec

ROUNDS, MIN_ROUND_SECONDS = 9, 0.02
"""Number of timing rounds of each variant, and minimum duration of a round, seconds."""
CATEGORICAL = ("classification", "multilabel", "ordinal")
"""Tasks whose predictions are right or wrong: a rare change of class may occur in none of the images."""
MIN_GROUPS = 5
"""Minimum number of groups for a meaningful bootstrap: with three, one of 9 resamples draws a single group."""


@dataclass(frozen=True)
class Drop:
    """Drop in score of a variant below float32 on the same images; negative if the variant is better.

    Absolute for scores between 0 and 1; for other scores, such as a mean absolute error, relative to the value of
    float32. All values are None if the drop is undefined on these images.
    """

    value: float | None
    low: float | None
    high: float | None

    def within(self, most: float) -> bool:
        """Return whether the upper end of the interval is at most `most`; False if the drop is undefined."""
        return self.high is not None and self.high <= most


@dataclass(frozen=True)
class DropEvaluator:
    """Measures score drops on validation images with known truth."""

    truths: Sequence[Any]
    group_N: Shaped[Array, " N"]
    spec: TaskSpec
    score: str
    resamples: int
    confidence: float

    def measure(self, exact: Sequence[Any], predictions: Sequence[Any]) -> Drop:
        """Return the drop of `predictions` below `exact`, with the interval of a paired bootstrap over groups.

        If predictions are right or wrong, if there are fewer than `MIN_GROUPS` groups, or if nothing differs, the upper
        end is at least that of the exact binomial interval for as many trials without a difference (Clopper and Pearson
        1934). The number of trials is that of the rarest class (`docs/why/intervals.md`).

        Args:
            exact: predictions of float32, one per image.
            predictions: predictions of the variant, one per image.
        """
        task = TASKS[self.spec.task]
        weight_RN = resample_weights(self.group_N, self.resamples)
        score_2R = [
            task.scores(self.truths, values, weight_RN, self.spec)[self.score] for values in (exact, predictions)
        ]
        drop_R = score_2R[0] - score_2R[1] if task.SCORES[self.score].better == "higher" else score_2R[1] - score_2R[0]
        if not task.SCORES[self.score].share:
            drop_R = drop_R / np.maximum(np.abs(score_2R[0]), 1e-12)
        defined = drop_R[1:][np.isfinite(drop_R[1:])]
        if not np.isfinite(drop_R[0]) or not len(defined):
            return Drop(None, None, None)
        tail = (1 - self.confidence) / 2
        low, high = map(float, np.quantile(defined, [tail, 1 - tail]))
        too_few_groups = len(np.unique(self.group_N)) < MIN_GROUPS
        if too_few_groups or self.spec.task in CATEGORICAL or low == high == 0.0:
            parts = task.parts(self.truths, exact, weight_RN[:1], self.spec)
            high = max(high, 1 - tail ** (1 / trials(parts, self.group_N)))
        return Drop(float(drop_R[0]), low, high)


def measure_latencies(models: dict[str, Model], images: Sequence[Integer[Array, "_ _ ..."]]) -> dict[str, float]:
    """Return the median latency per image of each model in milliseconds, from pixels to prediction.

    The models are timed in interleaved rounds, so that background load affects all alike.
    """
    calls: dict[str, Callable[[], Any]] = {
        name: (lambda model=model: [model.predict(image) for image in images])  # type: ignore[misc]
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            seconds[name].append(_mean_seconds(call) / len(images))
    return {name: 1000 * float(np.median(values)) for name, values in seconds.items()}


def _mean_seconds(call: Callable[[], Any]) -> float:
    """Return the mean duration of a call, over at least `MIN_ROUND_SECONDS`."""
    started, calls, spent = time.perf_counter(), 0, 0.0
    while spent < MIN_ROUND_SECONDS:
        call()
        calls += 1
        spent = time.perf_counter() - started
    return spent / calls
