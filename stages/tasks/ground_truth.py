"""Ground truth of images in the format of their task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.shapes import Array, Integer
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import decode_targets, parse_annotations, read_manifest
from stages.tasks import TASKS
from stages.tasks.task_spec import TaskSpec


@dataclass(frozen=True)
class Labelled:
    """Labels and size of an original image."""

    path: str
    annotation: Annotation
    target: Integer[Array, "_ _ ..."] | None
    """Label image or paired image; None if there is none."""
    height: int
    width: int


def truth_of(labelled: Labelled, spec: TaskSpec) -> Any:
    """Return the ground truth of an image in the format of its task.

    Raises:
        UserError: the labels do not contain the ground truth.
    """
    try:
        return TASKS[spec.task].truth(labelled.annotation, labelled.target, labelled.height, labelled.width, spec)
    except ValueError as error:
        raise UserError(f"{labelled.path}: {error}") from None


def truths_of(ingested: Path, paths: list[str], spec: TaskSpec) -> list[Any]:
    """Return the ground truth of each ingested image in the format of the task.

    Args:
        ingested: output folder of ingest.
        paths: paths of the images in the manifest; the result has the same order.
        spec: task specification.

    Raises:
        UserError: the labels do not contain the ground truth, or the manifest was written by another version.
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
