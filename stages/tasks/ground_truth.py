"""The truth of an image, out of its labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import decode_targets, parse_annotations, read_manifest
from stages.tasks import TASKS
from stages.tasks.task_spec import TaskSpec


@dataclass(frozen=True)
class Labelled:
    """An original image's labels and size."""

    path: str
    annotation: Annotation
    target: np.ndarray[Any, Any] | None
    """Label image or paired image, where there is one."""
    height: int
    width: int


def truth_of(labelled: Labelled, spec: TaskSpec) -> Any:
    """The truth as the task has it.

    Raises:
        UserError: the labels do not hold it.
    """
    try:
        return TASKS[spec.task].truth(labelled.annotation, labelled.target, labelled.height, labelled.width, spec)
    except ValueError as error:
        raise UserError(f"{labelled.path}: {error}") from None


def truths_of(ingested: Path, paths: list[str], spec: TaskSpec) -> list[Any]:
    """The truths of ingested images, in the order of their paths."""
    rows = read_manifest(ingested).set_index("path", drop=False).loc[paths]
    together = zip(
        rows["path"],
        parse_annotations(rows),
        decode_targets(rows, ingested),
        rows["height"],
        rows["width"],
        strict=True,
    )
    return [truth_of(Labelled(*one), spec) for one in together]
