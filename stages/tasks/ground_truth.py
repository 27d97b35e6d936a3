"""Ground truth of images in the format of their task."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import UserError
from stages.core.shapes import Array, Integer
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import decode_images, decode_targets, parse_annotations, read_manifest
from stages.tasks import TASKS
from stages.tasks.constant_places import Example, Scene
from stages.tasks.task_spec import TaskSpec

TEXT_TARGETS = ("label", "labels", "scalars", "points")  # targets for which no file is decoded
MAX_PAIRS, MAX_DECODED = 100, 1000  # training images that determine a constant image, or mask, objects and areas


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
    return list(iterate_truths(ingested, rows, spec))


def iterate_truths(ingested: Path, rows: pd.DataFrame, spec: TaskSpec) -> Iterator[Any]:
    """Yield the ground truth of each row of the manifest in the format of the task.

    Args:
        ingested: output folder of ingest.
        rows: rows of its manifest.
        spec: task specification.

    Raises:
        UserError: the labels do not contain the ground truth.
    """
    together = zip(
        rows["path"],
        parse_annotations(rows),
        decode_targets(rows, ingested),
        rows["height"],
        rows["width"],
        strict=True,
    )
    for one in together:
        yield truth_of(Labelled(*one), spec)


def scenes_of(ingested: Path, rows: pd.DataFrame, spec: TaskSpec) -> Iterator[Scene]:
    """Yield the size of each image of the manifest, with its pixels if constant predictions of the task require them.

    Args:
        ingested: output folder of ingest.
        rows: rows of its manifest.
        spec: task specification.
    """
    if spec.task == "image":
        for decoded in decode_images(rows, ingested):
            height, width = decoded.image.shape[:2]
            yield Scene(height, width, decoded.image)
    else:
        yield from (Scene(int(h), int(w)) for h, w in zip(rows["height"], rows["width"], strict=True))


def training_examples(ingested: Path, spec: TaskSpec) -> Iterator[Example]:
    """Yield ground truth and size of the training images; of a random sample, if files must be decoded for them.

    Args:
        ingested: output folder of ingest.
        spec: task specification.

    Raises:
        UserError: the labels do not contain the ground truth, or the manifest was written by another version.
    """
    rows = read_manifest(ingested)
    rows = rows[rows["split"] == "train"]
    if spec.target not in TEXT_TARGETS:
        most = MAX_PAIRS if spec.task == "image" else MAX_DECODED
        rows = rows.sample(min(most, len(rows)), random_state=0).sort_index()
    yield from zip(iterate_truths(ingested, rows, spec), scenes_of(ingested, rows, spec), strict=True)
