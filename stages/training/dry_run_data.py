"""Write a small prepared data set from a few images, so that a training can be timed before `prepare` has run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from stages.core.shapes import Array, Integer
from stages.dataset.pixel_store import (
    PLACEMENT_COLUMNS,
    ArrayWriter,
    open_split,
    write_about,
    write_objects,
    write_rows,
)
from stages.images.decode import to_channels
from stages.images.geometry import Placement, crop_tile, placements
from stages.preprocessing.resize import fit_image
from stages.tasks.build_spec import training_spec
from stages.tasks.ground_truth import Labelled, truth_of
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.training.training_plan import TrainingData

LabelledImage = tuple[Labelled, Integer[Array, "_ _ ..."]]
"""Labels of an original image, and its pixels [H, W] or [H, W, C]."""


@dataclass(frozen=True)
class _WorkingImage:
    image_SSC: Integer[Array, "S S C"]
    target: Any
    placement: Placement


def write_dry_run_data(
    folder: Path, samples: Sequence[LabelledImage], spec: TaskSpec, training: int, validation: int
) -> TrainingData:
    """Write both splits into a folder and open them; the images are repeated where more are needed.

    Args:
        folder: an empty folder.
        samples: original images with their labels.
        spec: the task.
        training: minimum number of working images in the training split; originals are written with all their tiles.
        validation: minimum number of working images in the validation split.

    Raises:
        UserError: the labels do not contain what the task requires.
        ValueError: the number of channels of an image differs from that of the task.
    """
    originals = [list(_working_images(labelled, image, spec)) for labelled, image in samples]
    counts = [
        _write_split(folder, split, originals, spec, n) for split, n in (("train", training), ("val", validation))
    ]
    write_about(folder, {**spec.as_json(), "symmetry_auc": {}, "symmetry_score_drop": {}, "black_border_share": 0.0})
    train_set, val_set = open_split(folder, "train"), open_split(folder, "val")
    truths = [truth_of(samples[i % len(samples)][0], spec) for i in range(counts[1])]
    return TrainingData(spec, train_set, val_set, truths, val_set, truths)


def _working_images(labelled: Labelled, image: Integer[Array, "_ _ ..."], spec: TaskSpec) -> Iterator[_WorkingImage]:
    kind = REPRESENTATIONS[spec.representation]
    truth, image_HWC = truth_of(labelled, training_spec(spec)), to_channels(image, spec.channels)
    for placement in placements(labelled.height, labelled.width, spec.fit, spec.size, spec.overlap):
        if kind.stores == "image":
            target = _resized(to_channels(truth, spec.channels), placement, spec)
        else:
            target = kind.target(truth, placement, spec)
        yield _WorkingImage(_resized(image_HWC, placement, spec), target, placement)


def _resized(
    image_HWC: Integer[Array, "H W C"], placement: Placement, spec: TaskSpec
) -> Integer[Array, "{spec.size} {spec.size} C"]:
    if spec.fit == "tile":
        return crop_tile(image_HWC, placement, spec.size)
    return fit_image(torch.from_numpy(image_HWC.copy())[None], spec.fit, spec.size)[0].numpy()


def _write_split(
    folder: Path, split: str, originals: Sequence[list[_WorkingImage]], spec: TaskSpec, at_least: int
) -> int:
    """Write original images until there are enough working images, and return the number of originals."""
    working: list[tuple[str, _WorkingImage]] = []
    count = 0
    for tiles in cycle(originals):
        if len(working) >= at_least:
            break
        working += [(str(count), tile) for tile in tiles]
        count += 1
    _write_arrays(folder / f"{split}.npy", [one.image_SSC for _, one in working])
    if REPRESENTATIONS[spec.representation].stores == "things":
        objects = [one.target for _, one in working]
        write_objects(folder, split, [(one.box_M4, one.label_M, one.mask_MSS) for one in objects])
    else:
        _write_arrays(folder / f"{split}.target.npy", [one.target for _, one in working])
    rows = [
        {"path": path, "label": "", "group": path} | {name: getattr(one.placement, name) for name in PLACEMENT_COLUMNS}
        for path, one in working
    ]
    write_rows(folder, split, pd.DataFrame(rows))
    return count


def _write_arrays(file: Path, arrays: Sequence[Any]) -> None:
    writer = ArrayWriter(file, len(arrays))
    for array in arrays:
        writer.add(array)
    writer.close()
