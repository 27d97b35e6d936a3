"""Measure how much score a variant loses, with a confidence interval, and its latency.

Few groups cannot bound a rare change of class directly. The changes of the probabilities are then magnified
(`docs/why/change-of-arithmetic.md`).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer, Shaped
from stages.quantization.magnified_change import decided_classes, magnified
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
SMALLEST_UNIT = 1e-12
"""Smallest score by which a drop is divided."""
MAX_MAGNIFICATION = 20
"""Largest factor by which changes of the probabilities are magnified."""


@dataclass(frozen=True)
class Drop:
    """Drop in score of a variant below float32 on the same images; negative if the variant is better.

    Absolute for scores between 0 and 1; for other scores, such as a mean absolute error, relative to the value of
    float32. All values are None if the drop is undefined on these images.
    """

    value: float | None
    low: float | None
    high: float | None
    magnification: int = 1
    """Factor by which the changes of the probabilities were magnified; the upper end is divided by it."""

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

    def measure(self, exact: Sequence[Any], predictions: Sequence[Any], magnification: int = 1) -> Drop:
        """Return the drop of `predictions` below `exact`, with the interval of a paired bootstrap over groups.

        If predictions are right or wrong, if there are fewer than `MIN_GROUPS` groups, or if nothing differs, the upper
        end is at least that of the exact binomial interval for as many trials without a difference (Clopper and Pearson
        1934), divided by the magnification. The number of trials is that of the rarest class
        (`docs/why/intervals.md`). With a magnification, the upper end is also at least that of the drop and of the
        disagreement with magnified changes, divided by it.

        Args:
            exact: predictions of float32, one per image.
            predictions: predictions of the variant, one per image.
            magnification: factor for the changes of the probabilities; see `choose_magnification`.
        """
        weight_RN = resample_weights(self.group_N, self.resamples)
        drop_R = self._drops(self.truths, exact, predictions, weight_RN)
        interval = self._percentiles(drop_R)
        if interval is None:
            return Drop(None, None, None, magnification)
        low, high = interval
        if self._too_few_groups() or self.spec.task in CATEGORICAL or low == high == 0.0:
            high = max(high, self._binomial_limit(exact) / magnification)
        if magnification > 1:
            far = magnified(exact, predictions, magnification, self.spec.task)
            wide = self._percentiles(self._drops(self.truths, exact, far, weight_RN) / magnification)
            disagreement = self.disagreement(exact, predictions, self.group_N, magnification, self.unit(exact))
            if wide is None or disagreement is None:
                return Drop(None, None, None, magnification)
            high = max(high, wide[1], disagreement)
        return Drop(float(drop_R[0]), low, high, magnification)

    def disagreement(
        self,
        exact: Sequence[Float[Array, " K"]],
        predictions: Sequence[Float[Array, " K"]],
        group_N: Shaped[Array, " N"],
        magnification: int,
        unit: float,
    ) -> float | None:
        """Return an upper limit of the disagreement with float32 on images whose labels are not used.

        The classes that float32 predicts serve as the truth. The result is the upper end of the interval of the drop
        with magnified changes, divided by the magnification; None if the score is undefined on these images.

        Args:
            exact: probabilities of float32, one row per image.
            predictions: probabilities of the variant.
            group_N: group of each image.
            magnification: factor for the changes of the probabilities.
            unit: drop that counts as 1; see `unit`.
        """
        decided = decided_classes(exact, self.spec.task)
        far = magnified(exact, predictions, magnification, self.spec.task)
        weight_RN = resample_weights(group_N, self.resamples)
        drop_R = self._differences(decided, exact, far, weight_RN)[0] / (unit * magnification)
        interval = self._percentiles(drop_R)
        return None if interval is None else interval[1]

    def unit(self, exact: Sequence[Any]) -> float:
        """Return the drop that counts as 1: 1 for scores between 0 and 1, otherwise the score of float32."""
        task = TASKS[self.spec.task]
        if task.SCORES[self.score].share:
            return 1.0
        score_R = task.scores(self.truths, exact, np.ones((1, len(self.truths))), self.spec)[self.score]
        return max(abs(float(score_R[0])), SMALLEST_UNIT)

    def choose_magnification(self, exact: Sequence[Any], most: float) -> int:
        """Return the smallest magnification with which a variant without any change is accepted.

        It depends on the number of groups, not on the variant. The result is 1 if none is required, if none up to
        `MAX_MAGNIFICATION` suffices, or if predictions are not classes.

        Args:
            exact: predictions of float32, one per image.
            most: largest accepted drop.
        """
        if self.spec.task not in CATEGORICAL or self._too_few_groups() or most <= 0:
            return 1
        factor = max(1, math.ceil(self._binomial_limit(exact) / most))
        return factor if factor <= MAX_MAGNIFICATION else 1

    def _drops(
        self, truths: Sequence[Any], exact: Sequence[Any], predictions: Sequence[Any], weight_RN: Float[Array, "R N"]
    ) -> Float[Array, " R"]:
        """Return the drop under each bootstrap weight, relative to float32 if the score is not between 0 and 1."""
        difference_R, exact_R = self._differences(truths, exact, predictions, weight_RN)
        if TASKS[self.spec.task].SCORES[self.score].share:
            return difference_R
        return difference_R / np.maximum(np.abs(exact_R), SMALLEST_UNIT)

    def _differences(
        self, truths: Sequence[Any], exact: Sequence[Any], predictions: Sequence[Any], weight_RN: Float[Array, "R N"]
    ) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
        """Return by how much `predictions` score worse under each bootstrap weight, and the score of `exact`."""
        task = TASKS[self.spec.task]
        exact_R, other_R = (
            task.scores(truths, values, weight_RN, self.spec)[self.score] for values in (exact, predictions)
        )
        better = task.SCORES[self.score].better
        return (exact_R - other_R if better == "higher" else other_R - exact_R), exact_R

    def _percentiles(self, drop_R: Float[Array, " R"]) -> tuple[float, float] | None:
        """Return the ends of the interval; None if the drop is undefined."""
        defined = drop_R[1:][np.isfinite(drop_R[1:])]
        if not np.isfinite(drop_R[0]) or not len(defined):
            return None
        tail = (1 - self.confidence) / 2
        low, high = map(float, np.quantile(defined, [tail, 1 - tail]))
        return low, high

    def _binomial_limit(self, exact: Sequence[Any]) -> float:
        parts = TASKS[self.spec.task].parts(self.truths, exact, np.ones((1, len(self.truths))), self.spec)
        return float(1 - ((1 - self.confidence) / 2) ** (1 / trials(parts, self.group_N)))

    def _too_few_groups(self) -> bool:
        return len(np.unique(self.group_N)) < MIN_GROUPS


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
