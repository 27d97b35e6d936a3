"""Checks that `task.score` is defined on the validation images, because it selects the epoch and the trial.

Images whose labels cannot be read are left out; other rules report them.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.checks.check_data import CheckData, Sample
from stages.checks.dataset_checks import Problem, usual_samples
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.images.decode import Unreadable
from stages.tasks import TASKS
from stages.tasks.build_spec import scoring_spec
from stages.tasks.defined_scores import excluded_scalars, perfect_scores
from stages.tasks.ground_truth import Labelled, truth_of
from stages.tasks.task_spec import TaskSpec

FIRST = 16  # images that are tried first; a score that is defined on some images is defined on more of them
GROWTH = 4


def score_defined(data: CheckData, *, score: str) -> Iterator[Problem]:
    """Yield a problem if the score is undefined on the validation images, or the labels do not suit the task."""
    try:
        spec, samples = _spec_and_validation(data)
    except UserError as error:
        yield f"the labels do not suit the task: {error}", []
        return
    found: dict[str, float] = {}
    for truths in _growing(samples, spec):
        found = perfect_scores(truths, spec)
        if math.isfinite(found[score]):
            return
    if not found:
        return
    requires = TASKS[spec.task].SCORES[score].requires
    defined = ", ".join(name for name, value in found.items() if math.isfinite(value))
    count = quantity(len(samples), "validation image")
    problem = f"the score {score} (task.score) is undefined on {count}, because it requires {requires}"
    yield f"{problem}; scores that are defined: {defined or 'none'}", [sample.path for sample in samples]


def score_covers_numbers(data: CheckData, *, score: str) -> Iterator[Problem]:
    """Yield numbers that the score leaves out, because it is undefined for them on the validation images."""
    try:
        spec, samples = _spec_and_validation(data)
    except UserError:  # reported by `score_defined`
        return
    excluded: list[str] = []
    for truths in _growing(samples, spec):
        excluded = excluded_scalars(truths, spec, score)
        if not excluded:
            return
    if 0 < len(excluded) < len(spec.scalars):
        requires = TASKS[spec.task].SCORES[score].requires
        count = quantity(len(samples), "validation image")
        names = ", ".join(excluded)
        yield f"the score {score} (task.score) leaves out {names}: on {count} it requires {requires}", []


def _spec_and_validation(data: CheckData) -> tuple[TaskSpec, list[Sample]]:
    """Return the specification of the task, and the validation images.

    Raises:
        UserError: the labels do not suit the section `task`.
    """
    samples = usual_samples(data)
    validation = [sample for sample in samples if sample.split == "val"]
    if not validation:
        return TaskSpec(data.task["name"], "", ""), []
    return scoring_spec(data.task, [sample.labels for sample in samples]), validation


def _growing(samples: list[Sample], spec: TaskSpec) -> Iterator[list[Any]]:
    """Yield the truths of more and more images, at last of all."""
    truths: list[Any] = []
    step = FIRST
    for number, sample in enumerate(samples, 1):
        if (truth := _truth(sample, spec)) is not None:
            truths.append(truth)
        if truths and (number == len(samples) or number == step):
            step *= GROWTH
            yield truths


def _truth(sample: Sample, spec: TaskSpec) -> Any:
    """Return the truth of an image; None if its labels or its target are damaged."""
    try:
        target = sample.decode_target() if sample.target_bytes else None
        labelled = Labelled(sample.path, sample.labels, target, int(sample.height), int(sample.width))
        truth = truth_of(labelled, spec)
    except (Unreadable, UserError, OSError, ValueError, TypeError, IndexError):
        return None
    return None if spec.task == "regression" and not np.isfinite(truth).all() else truth
