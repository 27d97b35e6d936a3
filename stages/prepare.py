"""Decode the images to the working size, with their targets: `python -m stages.prepare INGESTED GATED OUTPUT`.

The images of the sealed test split are not decoded.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.articulation.point_tree import bones_from_points, infer_point_tree, trees_from_pairs
from stages.articulation.skeleton import bones_from_foreground
from stages.articulation.symmetry import black_border_share, measure_symmetries
from stages.config.combinations import parts_problem
from stages.config.schema_data import Prepare
from stages.config.schema_task import Representation, Task
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.core.progress import track
from stages.dataset.annotations import Annotation
from stages.dataset.combined_classes import JOINT, combine_objects
from stages.dataset.manifest import DATASET_FILE, decode_images, decode_targets, parse_annotations, read_manifest
from stages.dataset.pixel_store import (
    PLACEMENT_COLUMNS,
    ArrayWriter,
    PixelStore,
    open_split,
    write_about,
    write_bones,
    write_objects,
    write_rows,
)
from stages.images.decode import to_channels
from stages.images.geometry import Placement, crop_tile, placements
from stages.preprocessing.resize import fit_image
from stages.runner.stage import In, Out, run
from stages.tasks.build_spec import build_task_spec, training_spec
from stages.tasks.ground_truth import Labelled, truth_of, truths_of
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
MAX_BRIGHTER = 1e-4
"""Share of pixels that may be brighter than the level that is scaled to 1: hot pixels of a camera."""


def main(
    ingested: In, _gated: In, output: Out, *, task: Task, representation: Representation, prepare: Prepare
) -> dict[str, Any]:
    """Write the pixel store of the training and validation images.

    Args:
        ingested: output of ingest.
        _gated: output of the gate, which must have passed.
        output: folder of the pixel store.
        task: params of the task.
        representation: params of the representation.
        prepare: params of this stage.

    Returns:
        working size, channels, images (or tiles) per split, symmetry measures and share of black border; if bones were
        written, also the share of images with articulated parts.

    Raises:
        UserError: the manifest was written by another version, a split is missing, or the images do not fit the params.
    """
    rows = read_manifest(ingested)
    if set(rows["split"]) != {"train", "val"}:
        raise UserError(
            f"all images are in {' and '.join(sorted(set(rows['split'])))}, but training requires train and val; check "
            "section split of params.yaml"
        )
    dataset = json.loads((ingested / DATASET_FILE).read_text())
    facts = _shared_properties(rows)
    facts |= {"mask_values": dataset.get("mask_values", {}), "combinations": dataset.get("combinations", ())}
    spec = build_task_spec(task.model_dump(), representation.model_dump(), prepare.model_dump(), facts)
    _report_overlaps(rows, spec)
    training = rows[rows["split"] == "train"]
    if spec.task == "regression":
        spec = _with_moments(spec, training, ingested)
    counts = {}
    for split, part in rows.groupby("split"):
        counts[str(split)] = _write_split(output, str(split), part, ingested, spec)
    write_about(output, {**dataset, **spec.as_json()})
    train_set = open_split(output, "train")
    spec = replace(spec, white=_white_level(train_set, spec, prepare.white))
    about = {**dataset, **spec.as_json()}
    of_classes = REPRESENTATIONS[spec.representation].stores == "index"
    class_N = np.asarray(train_set.target) if of_classes else None
    looks = {**measure_symmetries(train_set, class_N), "black_border_share": black_border_share(train_set)}
    write_about(output, about | looks)
    parts = _write_bones(output, train_set, spec, prepare.articulated_parts, task.skeleton)
    return {"size": spec.size, "channels": spec.channels, **counts, **parts, **looks}


def _white_level(train_set: PixelStore, spec: TaskSpec, white: int | str) -> int:
    """Return the level of 16-bit images that is scaled to 1; 0, the largest of the bit depth, for others."""
    if spec.depth == 8:
        return 0
    if isinstance(white, int):
        return white
    if REPRESENTATIONS[spec.representation].stores == "image":
        return 0  # input and target must have the same scale, and targets may be brighter
    whites = 2 ** np.arange(8, 17) - 1
    brighter = np.zeros(len(whites))
    for image_HWC in train_set.image_NHWC:
        ordered = np.sort(image_HWC, axis=None)
        brighter += ordered.size - np.searchsorted(ordered, whites, side="right")
    return int(whites[np.argmax(brighter <= MAX_BRIGHTER * train_set.image_NHWC.size)])


def _write_bones(
    output: Path, train_set: PixelStore, spec: TaskSpec, parts: str, skeleton: tuple[tuple[str, str], ...]
) -> dict[str, float]:
    """Write the bones of the training images; return the share of images with movable parts, empty without bones."""
    if parts == "auto":
        parts = "points" if spec.task == "landmarks" and skeleton else "none"
    if parts == "none":
        return {}
    images = track(range(len(train_set)), "prepare: articulated parts", len(train_set))
    if parts == "points":
        if problem := parts_problem(spec.task, parts):
            raise UserError(problem)
        xy_NP2 = np.asarray(train_set.target)
        try:
            trees = trees_from_pairs(skeleton, spec.points) or [infer_point_tree(xy_NP2)]
        except ValueError as error:
            raise UserError(f"task.skeleton: {error}") from None
        bones = [bones_from_points(xy_NP2[index], trees, spec.size) for index in images]
    else:
        positions = train_set.placements()
        bones = [bones_from_foreground(_inner(train_set.image_NHWC[index], positions[index])) for index in images]
    write_bones(output, "train", bones)
    return {"articulated": float(np.mean([len(bone_K7) > 1 for bone_K7 in bones]))}


def _inner(image_HWC: Array, placement: Placement) -> Array:
    return image_HWC[: placement.inner_height, : placement.inner_width]


def _shared_properties(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the annotations of the images and their common bit depth."""
    depths = sorted(set(rows["depth"]))
    if len(depths) > 1:
        paths = [rows.loc[rows["depth"] == depth, "path"].iloc[0] for depth in depths]
        raise UserError(
            f"{paths[0]} has {depths[0]} bits, but {paths[1]} has {depths[1]}; convert all images to one bit depth"
        )
    return {"annotations": parse_annotations(rows), "depth": int(depths[0])}


def _report_overlaps(rows: pd.DataFrame, spec: TaskSpec) -> None:
    """Print how many pixels of objects of several classes have only one of these in the masks."""
    if spec.task != "segmentation" or spec.target != "shapes" or any(JOINT in label for label in spec.labels):
        return
    counts = np.array(
        [
            _overlapping_pixels(annotation, height, width)
            for annotation, height, width in zip(parse_annotations(rows), rows["height"], rows["width"], strict=True)
        ]
    )
    overlapping, covered = counts.sum(axis=0)
    if overlapping:
        images = quantity(int((counts[:, 0] > 0).sum()), "image")
        print(
            f"prepare: {overlapping / covered:.1%} of the pixels of objects, in {images}, belong to objects of several "
            "classes and have that of the last object in the label file; set ingest.overlaps to combine if they have "
            "all of these classes",
            flush=True,
        )


def _overlapping_pixels(annotation: Annotation, height: int, width: int) -> tuple[int, int]:
    """Return the number of pixels of several classes, and that of pixels of any class."""
    number_HW, found = combine_objects(annotation, height, width)
    pixels = np.bincount(number_HW.ravel(), minlength=len(found))
    classes = np.array([len(one) for one in found])
    return int(pixels[classes > 1].sum()), int(pixels[classes > 0].sum())


def _with_moments(spec: TaskSpec, training: pd.DataFrame, ingested: Path) -> TaskSpec:
    """Return the spec with the mean and standard deviation (1 if it is 0) of each scalar of the training images."""
    value_NS = np.stack(truths_of(ingested, list(training["path"]), spec))
    deviation_S = np.where(value_NS.std(axis=0) > 0, value_NS.std(axis=0), 1.0)
    return replace(spec, mean=tuple(map(float, value_NS.mean(axis=0))), deviation=tuple(map(float, deviation_S)))


def _read_samples(rows: pd.DataFrame, ingested: Path, description: str) -> Iterator[tuple[Labelled, Array]]:
    """Yield the labels and pixels of each image."""
    read = zip(
        rows["path"],
        parse_annotations(rows),
        decode_targets(rows, ingested),
        decode_images(rows, ingested),
        strict=True,
    )
    for path, annotation, target, picture in track(read, description, len(rows)):
        height, width = picture.image.shape[:2]
        yield Labelled(path, annotation, target, height, width), picture.image


def _write_split(output: Path, split: str, rows: pd.DataFrame, ingested: Path, spec: TaskSpec) -> int:
    """Write images, targets and placements of one split, and return the number of images or tiles."""
    tiles = [
        (row, placement)
        for row in rows[["path", "label", "group", "height", "width"]].to_dict("records")
        for placement in placements(row["height"], row["width"], spec.fit, spec.size, spec.overlap)
    ]
    images, target = (
        ArrayWriter(output / f"{split}.npy", len(tiles)),
        ArrayWriter(output / f"{split}.target.npy", len(tiles)),
    )
    representation, training_task = REPRESENTATIONS[spec.representation], training_spec(spec)
    objects = []
    for labelled, original in _read_samples(rows, ingested, f"prepare {split}"):
        truth = truth_of(labelled, training_task)
        image = _convert_channels(original, spec, labelled.path)
        for placement in placements(labelled.height, labelled.width, spec.fit, spec.size, spec.overlap):
            images.add(_to_working_size(image, placement, spec))
            if representation.stores == "image":
                target.add(_to_working_size(_convert_channels(truth, spec, labelled.path), placement, spec))
            elif representation.stores == "things":
                found = representation.target(truth, placement, spec)
                objects.append((found.box_M4, found.label_M, found.mask_MSS))
            else:
                target.add(representation.target(truth, placement, spec))
    images.close()
    if representation.stores == "things":
        write_objects(output, split, objects)
    else:
        target.close()
    write_rows(
        output,
        split,
        pd.DataFrame([row | {k: getattr(placement, k) for k in PLACEMENT_COLUMNS} for row, placement in tiles]),
    )
    return len(tiles)


def _convert_channels(image: Array, spec: TaskSpec, path: str) -> Array:
    try:
        return to_channels(image, spec.channels)
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; set prepare.channels (now {spec.channels}) to the number of channels of the images, "
            "or convert the image"
        ) from None


def _to_working_size(image_HWC: Array, placement: Placement, spec: TaskSpec) -> Array:
    if spec.fit == "tile":
        return crop_tile(image_HWC, placement, spec.size)
    return fit_image(torch.from_numpy(image_HWC.copy())[None], spec.fit, spec.size)[0].numpy()


if __name__ == "__main__":
    run(main)
