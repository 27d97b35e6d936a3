"""Ground truth of images in the form of their task."""

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
    """Labels and size of an original image."""

    path: str
    annotation: Annotation
    target: np.ndarray[Any, Any] | None
    """Label image or paired image; None if there is none."""
    height: int
    width: int


def truth_of(labelled: Labelled, spec: TaskSpec) -> Any:
    """Return the ground truth of an image in the form of its task.

    Raises:
        UserError: the labels do not contain it.
    """
    try:
        return TASKS[spec.task].truth(labelled.annotation, labelled.target, labelled.height, labelled.width, spec)
    except ValueError as error:
        raise UserError(f"{labelled.path}: {error}") from None


def truths_of(ingested: Path, paths: list[str], spec: TaskSpec) -> list[Any]:
    """Return the ground truth of ingested images.

    Args:
        ingested: output folder of ingest.
        paths: manifest paths, which define the order.
        spec: task specification.
    """
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
