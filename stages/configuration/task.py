"""The task, and the score that says how well it is done."""

import re
from collections.abc import Iterator

import numpy as np

from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.inspection import Facts
from stages.dataset.annotations import Annotation
from stages.importers.format_detection import FormatCandidate
from stages.tasks import TASKS

GOAL = {"image": 25.0, "instances": 0.5}
"""Of the task's first score, to begin with; 0.8 elsewhere."""
LEFT, RIGHT = "left", "right"


def asked(reading: FormatCandidate, facts: Facts, params: Params) -> Iterator[Choice]:
    """The task, and the score that says how well it is done."""
    first = next((one for one in facts.annotations if one.points), facts.annotations[0])
    name, why = _task(reading, facts, first)
    counted = name == "regression" and first.scalars is None
    goal = ("at_most", _quarter(facts.annotations)) if name == "regression" else ("at_least", GOAL.get(name, 0.8))
    yield Choice("task.name", name, why)
    yield Choice("task.target", "count" if counted else "auto", "how many dots there are" if counted else "")
    yield Choice("task.score", next(iter(TASKS[name].SCORES)), "docs/reference/tasks.md has the others")
    near = {"segmentation": (2.0, "pixels off a boundary"), "landmarks": (0.05, "share of the diagonal")}
    tolerance, unit = near.get(name, (0.05, ""))
    yield Choice("task.tolerance", tolerance, f"what is right nevertheless, {unit}; a placeholder" if unit else "")
    yield Choice("task.classes", [])
    yield Choice("task.units", {})
    pairs = _mirrored(list(first.points or ()))
    yield Choice("task.flip_pairs", pairs, "their names are those of left and right" if pairs else "")
    yield Choice("task.skeleton", [])
    yield Choice("representation.name", "density" if counted else "auto", "a blob a thing, summed" if counted else "")
    for key in ("at_least", "at_most"):
        placeholder = "a placeholder: what must be reached for the answer to be worth something to you?"
        had = getattr(params.objective, key) is not None
        other = "the score is better the lower" if goal[0] == "at_most" else "the score is better the higher"
        why = placeholder if key == goal[0] else other if had else ""
        yield Choice(f"objective.{key}", goal[1] if key == goal[0] else None, why)


def _task(reading: FormatCandidate, facts: Facts, first: Annotation) -> tuple[str, str]:
    """What can be asked of images with such labels, and why."""
    if first.labels is not None:
        several = reading.changes.get("columns", {}).get("separator") or any(
            len(one.labels or ()) != 1 for one in facts.annotations
        )
        if several:
            return "multilabel", "an image has any number of classes"
        classes = sorted({label for one in facts.annotations for label in one.labels or ()})
        grades = "; if these are grades: ordinal, and task.classes from the lowest to the highest"
        told = f"{len(classes)} classes: {', '.join(classes[:6])}{' ...' if len(classes) > 6 else ''}"
        return "classification", told + (grades if all(label.isdecimal() for label in classes) else "")
    if first.scalars is not None:
        return "regression", "images have numbers; say their units in task.units"
    if first.points is not None:
        return "landmarks", f"{len(first.points)} named points"
    if first.mask is not None:
        return "segmentation", "images have masks"
    if first.image:
        return "image", "images have an image beside them"
    if reading.format == "dots":
        return "regression", "a dot a thing: they are counted"
    return "instances", "single things are outlined"


def _quarter(annotations: list[Annotation]) -> float:
    """A quarter of the error of always answering the median, over scalars or counts."""
    values = np.array([list(a.scalars.values()) if a.scalars else [len(a.shapes or ())] for a in annotations], float)
    error = float(np.abs(values - np.median(values, axis=0)).mean())
    return float(f"{error / 4:.2g}") or 1.0


def _mirrored(points: list[str]) -> list[list[str]]:
    """Pairs that change names in a mirror."""
    other = {name: re.sub(LEFT, RIGHT, name, flags=re.IGNORECASE) for name in points if LEFT in name.lower()}
    known = {name.lower(): name for name in points}
    return [[name, known[twin.lower()]] for name, twin in other.items() if twin.lower() in known]
