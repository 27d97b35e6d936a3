"""Scores that are defined on a set of images: those that a perfect prediction has there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.tasks import TASKS
from stages.tasks.task_spec import TaskSpec


def perfect_scores(truths: Sequence[Any], spec: TaskSpec) -> dict[str, float]:
    """Return every score of predictions that equal the truths.

    A score that is NaN here is undefined on these images, or has no other value than the worst one. A score that is
    defined here is defined for nearly every prediction: a distance between boundaries requires predicted ones, too.
    """
    perfect = [TASKS[spec.task].as_prediction(truth, spec) for truth in truths]
    found = TASKS[spec.task].scores(truths, perfect, np.ones((1, len(truths))), spec)
    return {name: float(value_R[0]) for name, value_R in found.items()}


def excluded_scalars(truths: Sequence[Any], spec: TaskSpec, score: str) -> list[str]:
    """Return the scalars that a score excludes on these images, because it is undefined for them.

    Args:
        truths: ground truth of N images.
        spec: specification of the task; only regression has scalars.
        score: a score of the task.
    """
    if spec.task != "regression":
        return []
    perfect = [TASKS[spec.task].as_prediction(truth, spec) for truth in truths]
    value_RS = TASKS[spec.task].parts(truths, perfect, np.ones((1, len(truths))), spec).scores[score]
    return [name for name, value in zip(spec.scalars, value_RS[0], strict=True) if not np.isfinite(value)]
