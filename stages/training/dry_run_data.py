"""A few images, over and over, as if `prepare` had written many: to see how a training goes before there is one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.dataset.pixel_store import FRAME, Writer, open_split, write_about, write_rows, write_things
from stages.images.decode import to_channels
from stages.images.geometry import Placement, cut, frames
from stages.preprocessing.resize import fitted
from stages.tasks.build_spec import training_spec
from stages.tasks.ground_truth import Labelled, truth_of
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.training.training_plan import Material

Array = np.ndarray[Any, Any]
Sample = tuple[Labelled, Array]
"""An image's labels, and its pixels."""


@dataclass(frozen=True)
class _Part:
    """One working image."""

    image_SSC: Array
    target: Any
    frame: Placement


def rehearsal(folder: Path, samples: Sequence[Sample], spec: TaskSpec, training: int, validation: int) -> Material:
    """Write at least so many working images of both splits, whole originals, into `folder`, and open them.

    Raises:
        UserError: the labels do not hold what the outline asks.
        ValueError: an image has other channels than the outline.
    """
    parts = [list(_parts(labelled, image, spec)) for labelled, image in samples]
    originals = [_write(folder, split, parts, spec, n) for split, n in (("train", training), ("val", validation))]
    write_about(folder, {**spec.as_json(), "told_apart": {}, "answers_lost": {}, "black_rim": 0.0})
    train_set, val_set = open_split(folder, "train"), open_split(folder, "val")
    truths = [truth_of(samples[i % len(samples)][0], spec) for i in range(originals[1])]
    return Material(spec, train_set, val_set, truths, val_set, truths)


def _parts(labelled: Labelled, image: Array, spec: TaskSpec) -> Iterator[_Part]:
    kind = REPRESENTATIONS[spec.representation]
    truth, image_HWC = truth_of(labelled, training_spec(spec)), to_channels(image, spec.channels)
    for frame in frames(labelled.height, labelled.width, spec.fit, spec.size, spec.overlap):
        if kind.stores == "image":
            target = _working(to_channels(truth, spec.channels), frame, spec)
        else:
            target = kind.target(truth, frame, spec)
        yield _Part(_working(image_HWC, frame, spec), target, frame)


def _working(image_HWC: Array, frame: Placement, spec: TaskSpec) -> Array:
    if spec.fit == "tile":
        return cut(image_HWC, frame, spec.size)
    return fitted(torch.from_numpy(image_HWC.copy())[None], spec.fit, spec.size)[0].numpy()


def _write(folder: Path, split: str, parts: Sequence[list[_Part]], spec: TaskSpec, least: int) -> int:
    """Returns how many originals were written."""
    chosen: list[tuple[str, _Part]] = []
    originals = 0
    for several in cycle(parts):
        if len(chosen) >= least:
            break
        chosen += [(str(originals), part) for part in several]
        originals += 1
    images = Writer(folder / f"{split}.npy", len(chosen))
    for _, part in chosen:
        images.add(part.image_SSC)
    images.close()
    if REPRESENTATIONS[spec.representation].stores == "things":
        things = [part.target for _, part in chosen]
        write_things(folder, split, [(one.box_M4, one.label_M, one.mask_MSS) for one in things])
    else:
        targets = Writer(folder / f"{split}.target.npy", len(chosen))
        for _, part in chosen:
            targets.add(part.target)
        targets.close()
    place = [{name: getattr(part.frame, name) for name in FRAME} for _, part in chosen]
    named = [{"path": path, "label": "", "group": path} for path, _ in chosen]
    write_rows(folder, split, pd.DataFrame([one | other for one, other in zip(named, place, strict=True)]))
    return originals
