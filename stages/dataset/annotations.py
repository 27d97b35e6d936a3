"""Annotations of one image: the common representation of all label formats.

Coordinates are in pixels of the upright original image, x to the right and y down. Integer coordinates of points
are pixel centres, as in annotation tools. Boxes are given by their edges, so that a box around the whole image is
(0, 0, width, height), as in COCO.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.plurals import list_names, quantity
from stages.core.shapes import Array, Bool, Integer, Shaped

IGNORE_INDEX = 255
"""Mask index of pixels whose class is unknown; they are excluded from training and scoring."""


@dataclass(frozen=True)
class ObjectAnnotation:
    """Annotation of one object in an image."""

    label: str
    box: tuple[float, float, float, float]
    """Edges x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1."""
    rle: tuple[int, ...] | None = None
    """Mask over the whole image in the encoding of `encode_rle`; None if only the box is known."""
    crowd: bool = False
    """Whether this is a group of objects, or marked as difficult by the source; excluded from training and scoring."""


@dataclass(frozen=True)
class Annotation:
    """Labels of one image; a kind of label that the source does not have is None."""

    labels: tuple[str, ...] | None = None
    """Classes: exactly one for classification and ordinal tasks, any number for multilabel."""
    scalars: dict[str, float] | None = None
    """Value by name, in the unit of the source."""
    points: dict[str, tuple[float, float] | None] | None = None
    """(x, y) by name; None if the point is not visible. All images of a data set have the same names."""
    shapes: tuple[ObjectAnnotation, ...] | None = None
    """Objects in the image."""
    mask: tuple[str, ...] | None = None
    """Class names of the indices 0, 1, ... of the target file, a label image. Index 255 is `IGNORE_INDEX`."""
    image: bool = False
    """Whether the target file is the image to predict."""

    def to_json(self) -> str:
        """Serialize the annotation to one line of JSON.

        Raises:
            ValueError: a number is NaN or infinite.
        """
        kept: dict[str, Any] = {k: v for k, v in vars(self).items() if v is not None and v is not False}
        if self.shapes is not None:
            kept["shapes"] = [
                {k: v for k, v in vars(s).items() if v is not None and v is not False} for s in self.shapes
            ]
        return json.dumps(kept, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Annotation":
        """Parse the output of `to_json`.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the text is damaged.
        """
        values = json.loads(text)
        for name in ("labels", "mask"):
            if name in values:
                values[name] = tuple(values[name])
        if "points" in values:
            values["points"] = {n: None if xy is None else (xy[0], xy[1]) for n, xy in values["points"].items()}
        if "shapes" in values:
            values["shapes"] = tuple(_shape(s) for s in values["shapes"])
        return Annotation(**values)


def _shape(values: dict[str, Any]) -> ObjectAnnotation:
    rle = values.get("rle")
    return ObjectAnnotation(
        values["label"], tuple(values["box"]), None if rle is None else tuple(rle), values.get("crowd", False)
    )


def encode_rle(mask_HW: Shaped[Array, "H W"]) -> tuple[int, ...]:
    """Encode a mask, bool or 0 and 1, as run lengths in column-major order, background first (COCO's uncompressed RLE).

    >>> encode_rle(np.array([[0, 1], [0, 1]], bool))
    (2, 2)
    """
    flat = np.concatenate([[False], mask_HW.astype(bool).ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(int(n) for n in np.diff(np.concatenate([[0], edges, [mask_HW.size]])))


def decode_rle(runs: Iterable[int], height: int, width: int) -> Bool[Array, "{height} {width}"]:
    """Decode the output of `encode_rle`.

    Args:
        runs: run lengths in pixels.
        height: height of the image, pixels.
        width: width of the image, pixels.

    Raises:
        ValueError: a run is negative, or the runs do not add up to height * width.
    """
    lengths = list(runs)
    if negative := [length for length in lengths if length < 0]:
        raise ValueError(f"the run length {negative[0]} is negative")
    if sum(lengths) != height * width:  # as Python integers: a sum of 64 bits can overflow to the right value
        raise ValueError(f"the run lengths add up to {sum(lengths)}, not to {height} x {width} = {height * width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T


def bounding_box(mask_HW: Shaped[Array, "H W"]) -> tuple[float, float, float, float]:
    """Return the tight box (x0, y0, x1, y1) of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    assert len(rows), "an empty mask has no box"
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def annotate_mask(label: str, mask_HW: Bool[Array, "H W"], crowd: bool = False) -> ObjectAnnotation:
    """Return the annotation of one object from its mask, which must not be empty.

    Args:
        label: class of the object.
        mask_HW: pixels of the object.
        crowd: True if the mask covers a group of objects.
    """
    return ObjectAnnotation(label, bounding_box(mask_HW), encode_rle(mask_HW), crowd)


def annotate_labels(label: str, value_HW: Integer[Array, "H W"]) -> list[ObjectAnnotation]:
    """Return the annotation of one object per value other than 0, in the order of the values.

    Args:
        label: class of the objects.
        value_HW: number of the object of each pixel, 0 for background.
    """
    flat = value_HW.ravel(order="F")  # column-major, as in `encode_rle`
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    order = order[flat[starts[order]] != 0]
    runs_of_objects = np.split(order, np.flatnonzero(np.diff(flat[starts[order]])) + 1) if len(order) else []
    return [_annotate_runs(label, starts[runs], ends[runs], value_HW.shape) for runs in runs_of_objects]


def _annotate_runs(
    label: str, starts: Integer[Array, " N"], ends: Integer[Array, " N"], shape: tuple[int, ...]
) -> ObjectAnnotation:
    """Return the annotation of an object that covers these runs of pixels in column-major order."""
    height, width = shape
    left, top = np.divmod(starts, height)
    right, bottom = np.divmod(ends - 1, height)
    whole_height = (left < right).any()  # a run that goes on in the next column
    y0, y1 = (0, height) if whole_height else (top.min(), bottom.max() + 1)
    runs = np.diff(np.concatenate([[0], np.column_stack([starts, ends]).ravel(), [height * width]])).tolist()
    box = (float(left.min()), float(y0), float(right.max() + 1), float(y1))
    return ObjectAnnotation(label, box, tuple(runs if runs[-1] else runs[:-1]))


def class_names(annotation: Annotation) -> list[str]:
    """Return the sorted distinct classes of an image and of the objects in it, without those of its mask."""
    of_objects = [shape.label for shape in annotation.shapes or ()]
    return sorted({*(annotation.labels or ()), *of_objects})


def describe_labels(annotation: Annotation, most: int = 3) -> str:
    """Return the labels of an image in words, with the positions of at most `most` objects or points.

    >>> describe_labels(Annotation(labels=("cat",)))
    'cat'
    >>> describe_labels(Annotation(shapes=(ObjectAnnotation("cell", (1, 2, 30, 40)),)))
    '1 object: cell at 1,2 to 30,40'
    """
    found = list(annotation.labels or ())
    found += [f"{name} {value:g}" for name, value in (annotation.scalars or {}).items()]
    if annotation.shapes is not None:
        where = [f"{s.label} at {s.box[0]:g},{s.box[1]:g} to {s.box[2]:g},{s.box[3]:g}" for s in annotation.shapes]
        found.append(f"{quantity(len(where), 'object')}{_listed(where, most)}")
    if annotation.points is not None:
        seen = [f"{name} at {xy[0]:g},{xy[1]:g}" for name, xy in annotation.points.items() if xy is not None]
        found.append(f"{quantity(len(seen), 'point')}{_listed(seen, most)}")
    found += ["a mask"] if annotation.mask is not None else []
    found += ["a paired image"] if annotation.image else []
    return ", ".join(found)


def _listed(names: list[str], most: int) -> str:
    return f": {list_names(names, most)}" if names else ""
