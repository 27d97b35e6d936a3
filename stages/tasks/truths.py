"""The truth of an image, out of its labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.frame import UserError
from stages.images.annotations import Annotation
from stages.images.manifest import annotations, read_manifest, targets
from stages.tasks import TASKS
from stages.tasks.outline import Outline


@dataclass(frozen=True)
class Labelled:
    """An original image's labels and size."""

    path: str
    annotation: Annotation
    target: np.ndarray[Any, Any] | None
    """Label image or paired image, where there is one."""
    height: int
    width: int


def truth_of(labelled: Labelled, outline: Outline) -> Any:
    """The truth as the task has it.

    Raises:
        UserError: the labels do not hold it.
    """
    try:
        return TASKS[outline.task].truth(labelled.annotation, labelled.target, labelled.height, labelled.width, outline)
    except ValueError as error:
        raise UserError(f"{labelled.path}: {error}") from None


def truths_of(ingested: Path, paths: list[str], outline: Outline) -> list[Any]:
    """The truths of ingested images, in the order of their paths."""
    rows = read_manifest(ingested).set_index("path", drop=False).loc[paths]
    together = zip(rows["path"], annotations(rows), targets(rows, ingested), rows["height"], rows["width"], strict=True)
    return [truth_of(Labelled(*one), outline) for one in together]
