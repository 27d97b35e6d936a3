"""What a source says of one image: the one form into which every kind of label is read.

Coordinates are in pixels of the upright original image. Points: x to the right, y down, whole numbers are centres of
pixels, as annotation tools and pixel indices have it. Boxes: edges, so that a box around the whole image is
(0, 0, width, height), as COCO has it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
IGNORE_INDEX = 255
"""Index in a mask where the truth is unknown: neither learned nor scored."""


@dataclass(frozen=True)
class ObjectAnnotation:
    """One thing in an image."""

    label: str
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels, edges; x0 < x1, y0 < y1."""
    rle: tuple[int, ...] | None = None
    """Its mask over the whole image as `encode_rle` writes it; None where only the box is known."""
    crowd: bool = False
    """Many things in one outline, not to be told apart: neither learned nor scored."""


@dataclass(frozen=True)
class Annotation:
    """Labels of one image; None where the source has no such kind."""

    labels: tuple[str, ...] | None = None
    """Classes: exactly one where the task is classification or ordinal, any number for multilabel."""
    scalars: dict[str, float] | None = None
    """Name: value, in the unit that the source has."""
    points: dict[str, tuple[float, float] | None] | None = None
    """Name: (x, y); None where it is not visible. The same names in every image of a data set."""
    shapes: tuple[ObjectAnnotation, ...] | None = None
    mask: tuple[str, ...] | None = None
    """The item's target file is a label image; names of its indices 0, 1, ... . Index 255 is `IGNORE`."""
    image: bool = False
    """The item's target file is the image to be answered."""

    def to_json(self) -> str:
        """One line of text."""
        kept: dict[str, Any] = {k: v for k, v in vars(self).items() if v is not None and v is not False}
        if self.shapes is not None:
            kept["shapes"] = [
                {k: v for k, v in vars(s).items() if v is not None and v is not False} for s in self.shapes
            ]
        return json.dumps(kept, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Annotation":
        """Read what `to_json` wrote."""
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


def encode_rle(mask_HW: Array) -> tuple[int, ...]:
    """Run lengths of a boolean mask, down the columns and beginning with background, as COCO's uncompressed RLE.

    >>> encode_rle(np.array([[0, 1], [0, 1]], bool))
    (2, 2)
    """
    flat = np.concatenate([[False], mask_HW.astype(bool).ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(int(n) for n in np.diff(np.concatenate([[0], edges, [mask_HW.size]])))


def decode_rle(runs: Iterable[int], height: int, width: int) -> Array:
    """Boolean [height, width] of what `encode_rle` wrote.

    Raises:
        ValueError: the runs do not add up to height * width.
    """
    lengths = np.fromiter(runs, np.int64)
    if lengths.sum() != height * width or (lengths < 0).any():
        raise ValueError(f"run lengths add up to {lengths.sum()}, not to {height} x {width} = {height * width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T


def bounding_box(mask_HW: Array) -> tuple[float, float, float, float]:
    """The tight box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    assert len(rows), "an empty mask has no box"
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def class_names(annotation: Annotation) -> list[str]:
    """The classes that are said to be in an image, each once: of the image, or of the things in it."""
    things = [shape.label for shape in annotation.shapes or ()]
    return sorted({*(annotation.labels or ()), *things})
