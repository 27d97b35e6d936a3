"""Proposal of the sections `task`, `representation` and `objective`."""

import re
from collections.abc import Iterator

import numpy as np

from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.inspection import SourceFacts
from stages.core.plurals import quantity
from stages.dataset.annotations import Annotation
from stages.importers.format_candidate import FormatCandidate
from stages.tasks import TASKS

GOAL = {"image": 25.0, "instances": 0.5}
"""Placeholder objective by task; 0.8 for other tasks, except regression, whose objective depends on the labels."""
LEFT, RIGHT = "left", "right"


def propose_task(reading: FormatCandidate, facts: SourceFacts, params: Params) -> Iterator[Choice]:
    """Propose the sections `task`, `representation` and `objective`.

    Args:
        reading: chosen interpretation of the source.
        facts: statistics of its images.
        params: current params.
    """
    first = next((one for one in facts.annotations if one.points), facts.annotations[0])
    name, why = _task(reading, facts, first)
    counted = name == "regression" and first.scalars is None
    goal = ("at_most", _quarter(facts.annotations)) if name == "regression" else ("at_least", GOAL.get(name, 0.8))
    yield Choice("task.name", name, why)
    yield Choice("task.target", "count" if counted else "auto", "number of dots" if counted else "")
    yield Choice("task.score", next(iter(TASKS[name].SCORES)), "docs/reference/tasks.md lists the others")
    near = {"segmentation": (2.0, "distance from a boundary in pixels"), "landmarks": (0.05, "share of the diagonal")}
    tolerance, unit = near.get(name, (0.05, ""))
    yield Choice("task.tolerance", tolerance, f"tolerated error, {unit}; a placeholder" if unit else "")
    yield Choice("task.classes", [])
    yield Choice("task.units", {})
    pairs = _mirrored(list(first.points or ()))
    yield Choice("task.flip_pairs", pairs, "point names contain left and right" if pairs else "")
    yield Choice("task.skeleton", [])
    blobs = "the count is the sum of a map with one blob per object"
    yield Choice("representation.name", "density" if counted else "auto", blobs if counted else "")
    for key in ("at_least", "at_most"):
        placeholder = "a placeholder: which score makes the model useful?"
        was_set = getattr(params.objective, key) is not None
        other = "lower scores are better" if goal[0] == "at_most" else "higher scores are better"
        why = placeholder if key == goal[0] else other if was_set else ""
        yield Choice(f"objective.{key}", goal[1] if key == goal[0] else None, why)


def _task(reading: FormatCandidate, facts: SourceFacts, first: Annotation) -> tuple[str, str]:
    """Return the task that matches the labels, and the reason."""
    if first.labels is not None:
        several = reading.changes.get("columns", {}).get("separator") or any(
            len(one.labels or ()) != 1 for one in facts.annotations
        )
        if several:
            return "multilabel", "an image can have any number of classes"
        classes = sorted({label for one in facts.annotations for label in one.labels or ()})
        grades = "; for grades use ordinal, and list task.classes from lowest to highest"
        more = " ..." if len(classes) > 6 else ""
        listed = f"{quantity(len(classes), 'class', 'classes')}: {', '.join(classes[:6])}{more}"
        return "classification", listed + (grades if all(label.isdecimal() for label in classes) else "")
    if first.scalars is not None:
        return "regression", "images have numbers; set their units in task.units"
    if first.points is not None:
        return "landmarks", f"each image has {quantity(len(first.points), 'named point')}"
    if first.mask is not None:
        return "segmentation", "images have masks"
    if first.image:
        return "image", "each image has a target image"
    if reading.format == "dots":
        return "regression", "the labels are one dot per object, so objects are counted"
    return "instances", "individual objects are outlined"


def _quarter(annotations: list[Annotation]) -> float:
    """Return a quarter of the mean absolute error of predicting the median, for scalars or counts; 1 if it is 0."""
    values = np.array([list(a.scalars.values()) if a.scalars else [len(a.shapes or ())] for a in annotations], float)
    error = float(np.abs(values - np.median(values, axis=0)).mean())
    return float(f"{error / 4:.2g}") or 1.0


def _mirrored(points: list[str]) -> list[list[str]]:
    """Return the pairs of points that swap names in a mirrored image."""
    other = {name: re.sub(LEFT, RIGHT, name, flags=re.IGNORECASE) for name in points if LEFT in name.lower()}
    known = {name.lower(): name for name in points}
    return [[name, known[twin.lower()]] for name, twin in other.items() if twin.lower() in known]
