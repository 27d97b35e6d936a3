"""What a variant costs in score, with an interval, and what it takes in time."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.runtime import Model
from stages.tasks import TASKS
from stages.tasks.evaluation import trials
from stages.tasks.intervals import resample_weights
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
ROUNDS, LEAST_SECONDS = 9, 0.02
"""Each variant is timed in so many turns, each so long at least, one after the other."""
FLIPPING = ("classification", "multilabel", "ordinal")
"""Tasks whose answers are right or wrong, where a rare flip may be in none of the images."""
FEW_GROUPS = 5
"""Of fewer a bootstrap knows nothing: all draws of three are the same one in 27 resamples."""


@dataclass(frozen=True)
class Drop:
    """How much lower a variant scores than float32 on the same images; below 0 it scores higher.

    Of scores that are shares in points (.01 is one of a hundred); of others, as mean absolute errors are, as a share
    of float32's own value.
    """

    value: float | None
    low: float | None
    high: float | None

    def within(self, most: float) -> bool:
        """Whether the whole interval lies below `most`."""
        return self.high is not None and self.high <= most


@dataclass(frozen=True)
class Judge:
    """Validation images, their truths, and how a drop is measured on them."""

    truths: Sequence[Any]
    group_N: Array
    spec: TaskSpec
    score: str
    resamples: int
    confidence: float

    def drop(self, exact: Sequence[Any], answers: Sequence[Any]) -> Drop:
        """Of `answers` below the exact ones, by a paired bootstrap over groups.

        What so few images could not have shown is not claimed: where answers flip, where groups are few and where
        nothing differs at all, the upper end is no lower than the exact binomial one for as many trials without a
        difference (Clopper and Pearson 1934); of classes, the rarest one counts (`docs/why/intervals.md`).
        """
        kind = TASKS[self.spec.task]
        weight_RN = resample_weights(self.group_N, self.resamples)
        both = [kind.scores(self.truths, given, weight_RN, self.spec)[self.score] for given in (exact, answers)]
        fallen_R = both[0] - both[1] if kind.SCORES[self.score].better == "higher" else both[1] - both[0]
        if not kind.SCORES[self.score].share:
            fallen_R = fallen_R / np.maximum(np.abs(both[0]), 1e-12)
        defined = fallen_R[1:][np.isfinite(fallen_R[1:])]
        if not np.isfinite(fallen_R[0]) or not len(defined):
            return Drop(None, None, None)
        tail = (1 - self.confidence) / 2
        low, high = map(float, np.quantile(defined, [tail, 1 - tail]))
        few = len(np.unique(self.group_N)) < FEW_GROUPS
        if few or self.spec.task in FLIPPING or low == high == 0.0:
            parts = kind.parts(self.truths, exact, weight_RN[:1], self.spec)
            high = max(high, 1 - tail ** (1 / trials(parts, self.group_N)))
        return Drop(float(fallen_R[0]), low, high)


def milliseconds(models: dict[str, Model], images: Sequence[Array]) -> dict[str, float]:
    """Median of an image's answer by each model, from pixels on; in turns, so that a busy moment strikes all."""
    calls: dict[str, Callable[[], Any]] = {
        name: (lambda model=model: [model.answer(image) for image in images])  # type: ignore[misc]
        for name, model in models.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            taken[name].append(_seconds(call) / len(images))
    return {name: 1000 * float(np.median(values)) for name, values in taken.items()}


def _seconds(call: Callable[[], Any]) -> float:
    """Of one call, the mean over as many as `LEAST_SECONDS` hold."""
    started, calls, spent = time.perf_counter(), 0, 0.0
    while spent < LEAST_SECONDS:
        call()
        calls += 1
        spent = time.perf_counter() - started
    return spent / calls


def answers_of(model: Model, files: Iterable[bytes]) -> list[Any]:
    """From the bytes of files on."""
    return [model.answer_file(data) for data in files]
