"""Representations: formats of the training target, such as coordinates, a heatmap or a disc for a landmark.

Each representation defines the tasks that it supports, the required kind and number of network outputs, and the stored
targets. Losses and in-graph decoding require torch and are in `training` and `networks`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.config.combinations import loss_problem, representation_problem, selected_representation
from stages.core.errors import UserError
from stages.core.shapes import Array, Bool, Float, Integer
from stages.dataset.annotations import IGNORE_INDEX, decode_rle
from stages.images.geometry import Placement, resample_labels
from stages.tasks.task_spec import TaskSpec


@dataclass(frozen=True)
class Representation:
    """Properties of a representation."""

    tasks: tuple[str, ...]
    gives: Literal["vector", "map", "boxes"]
    """Kind of network output: vector (numbers per image), map (numbers per pixel) or boxes."""
    outputs: Callable[[TaskSpec], int]
    """Number of outputs."""
    stores: Literal["index", "vector", "points", "labels", "ids", "density", "image", "things"]
    """Kind of stored target, which determines how augmentation transforms it."""
    target: Callable[[Any, Placement, TaskSpec], Any]
    """Function that returns the stored target of one working image: an array or `ObjectTargets`. It is not used for the
    representation `image`, whose targets are resized as the images are."""
    losses: tuple[str, ...]
    """Supported losses; the first is the default."""
    taught: str = ""
    """Task whose ground truth is the training target; empty for the task itself. Counts are trained through objects."""


def _plain(truth: Any, frame: Placement, spec: TaskSpec) -> Array:
    return np.asarray(truth)


def _points(truth: Any, frame: Placement, spec: TaskSpec) -> Float[Array, "P 2"]:
    return frame.transform_points(np.asarray(truth.xy_P2, np.float64)).astype(np.float32)


def _labels(truth: Any, frame: Placement, spec: TaskSpec) -> Integer[Array, "S S"]:
    return resample_labels(truth, frame, spec.size, IGNORE_INDEX)


def _ids(truth: Any, frame: Placement, spec: TaskSpec) -> Integer[Array, "S S"]:
    """Return instance ids (0: background or crowd); later ones cover earlier ones; boxes without masks are filled."""
    id_HW = np.zeros((frame.height, frame.width), np.uint16)
    for number, mask_HW in enumerate(_masks(truth, frame)):
        if not truth.crowd_M[number]:
            id_HW[mask_HW] = number + 1
    return resample_labels(id_HW, frame, spec.size, 0)


def _masks(truth: Any, frame: Placement) -> Iterator[Bool[Array, "H W"]]:
    for number, box_4 in enumerate(truth.box_M4):
        if truth.mask_M is not None:
            yield decode_rle(truth.mask_M[number], frame.height, frame.width)
        else:
            mask_HW = np.zeros((frame.height, frame.width), bool)
            left, top, right, bottom = np.round(box_4).astype(int)
            mask_HW[top:bottom, left:right] = True
            yield mask_HW


def _density(truth: Any, frame: Placement, spec: TaskSpec) -> Float[Array, "S S C"]:
    """Return the density map of each class: a Gaussian of sum 1 at the centre of the box of every object.

    Crowds are left out. Each Gaussian is normalized inside the image, so that an object at the edge also counts as 1.
    Density maps follow Lempitsky and Zisserman 2010, "Learning to count objects in images".
    """
    density_SSC = np.zeros((spec.size, spec.size, len(spec.scalars)), np.float32)
    box_M4 = frame.transform_boxes(np.asarray(truth.box_M4, np.float64).reshape(-1, 4))
    inner_HWC = density_SSC[: frame.inner_height, : frame.inner_width]  # only this part is summed
    for label, crowd, (x0, y0, x1, y1) in zip(truth.label_M, truth.crowd_M, box_M4, strict=True):
        if crowd:
            continue
        across = _bell((x0 + x1) / 2, frame.inner_width, spec.radius)
        down = _bell((y0 + y1) / 2, frame.inner_height, spec.radius)
        inner_HWC[:, :, label] += np.outer(down, across)
    return density_SSC


def _bell(middle: float, size: int, deviation: float) -> Float[Array, " {size}"]:
    values = np.exp(-0.5 * ((np.arange(size) + 0.5 - middle) / deviation) ** 2)
    return values / max(values.sum(), 1e-12)


@dataclass(frozen=True)
class ObjectTargets:
    """Instances of one working image."""

    box_M4: Float[Array, "M 4"]
    """Boxes x0, y0, x1, y1 in working pixels, float32."""
    label_M: Integer[Array, " M"]
    mask_MSS: Bool[Array, "M S S"] | None
    """Masks; None if only boxes are known."""


def _objects(truth: Any, frame: Placement, spec: TaskSpec) -> ObjectTargets:
    """Return the instances except for crowds and for objects that are too small.

    Too small means a box at most half a working pixel wide or high, or a mask without a working pixel.
    """
    box_M4 = frame.transform_boxes(np.asarray(truth.box_M4, np.float64).reshape(-1, 4)).astype(np.float32)
    kept_M = (
        ~np.asarray(truth.crowd_M, bool) & (box_M4[:, 2] - box_M4[:, 0] > 0.5) & (box_M4[:, 3] - box_M4[:, 1] > 0.5)
    )
    if not spec.masks:
        return ObjectTargets(box_M4[kept_M], truth.label_M[kept_M], None)
    masks = [resample_labels(mask_HW, frame, spec.size, 0) for mask_HW in _masks(truth, frame)]
    mask_MSS = np.stack(masks) if masks else np.zeros((0, spec.size, spec.size), bool)
    kept_M &= mask_MSS.any(axis=(1, 2))
    return ObjectTargets(box_M4[kept_M], truth.label_M[kept_M], mask_MSS[kept_M])


REPRESENTATIONS: dict[str, Representation] = {
    "class": Representation(
        ("classification", "ordinal"), "vector", lambda o: len(o.labels), "index", _plain, ("cross_entropy", "focal")
    ),
    "classes": Representation(
        ("multilabel",), "vector", lambda o: len(o.labels), "vector", _plain, ("binary_cross_entropy",)
    ),
    "cumulative": Representation(
        ("ordinal",), "vector", lambda o: len(o.labels) - 1, "index", _plain, ("cumulative_cross_entropy",)
    ),
    "scalar": Representation(
        ("regression",), "vector", lambda o: len(o.scalars), "vector", _plain, ("huber", "l1", "l2")
    ),
    "density": Representation(
        ("regression",), "map", lambda o: len(o.scalars), "density", _density, ("density_l2", "density_l1"), "instances"
    ),
    "coordinates": Representation(
        ("landmarks",), "vector", lambda o: 3 * len(o.points), "points", _points, ("coordinate_huber", "coordinate_l1")
    ),
    "heatmap": Representation(
        ("landmarks",),
        "map",
        lambda o: len(o.points),
        "points",
        _points,
        ("location_cross_entropy", "heatmap_cross_entropy", "heatmap_l2"),
    ),
    "disc": Representation(
        ("landmarks",),
        "map",
        lambda o: len(o.points),
        "points",
        _points,
        ("disc_cross_entropy_dice", "disc_cross_entropy"),
    ),
    "mask": Representation(
        ("segmentation", "regression"),
        "map",
        lambda o: len(o.labels),
        "labels",
        _labels,
        ("cross_entropy_dice", "cross_entropy", "dice"),
        "segmentation",
    ),
    "image": Representation(("image",), "map", lambda o: o.channels, "image", _plain, ("l1", "l2")),
    "boxes": Representation(("instances",), "boxes", lambda o: len(o.labels), "things", _objects, ("mask_rcnn",)),
    "watershed": Representation(
        ("instances",), "map", lambda o: 3, "ids", _ids, ("boundary_cross_entropy_dice", "boundary_cross_entropy")
    ),
}


def representation_of(task: str, name: str) -> str:
    """Return the representation that `representation.name` selects for a task.

    Raises:
        UserError: the representation does not support the task.
    """
    if problem := representation_problem(task, name):
        raise UserError(problem)
    return selected_representation(task, name)


def loss_of(representation: str, name: str) -> str:
    """Return the loss that `train.loss` selects.

    Raises:
        UserError: the representation has no such loss.
    """
    if problem := loss_problem(representation, name):
        raise UserError(problem)
    return REPRESENTATIONS[representation].losses[0] if name == "auto" else name
