"""Checks of one image: each yields a message per problem of the image's labels, mask or paired image."""

from collections.abc import Iterator
from math import isfinite

import pandas as pd

from stages.checks.check_data import Sample
from stages.core.plurals import quantity
from stages.dataset.annotations import IGNORE_INDEX, ObjectAnnotation

POINT_SLACK = 1.0  # pixels: the edge of the last pixel is half a pixel beyond its centre, and tools round
BOX_SLACK = 0.5  # pixels: COCO rounds edges


def annotation(sample: Sample) -> Iterator[str]:
    """Yield a message if the labels cannot be parsed."""
    if sample.annotation is None and not pd.isna(sample.text):
        yield f"its labels cannot be read: {sample.text!s:.60}"


def scalars_finite(sample: Sample) -> Iterator[str]:
    """Yield a message for each value that is not a finite number."""
    for name, value in (sample.labels.scalars or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            yield f"{name} is {value!r}, which is not a finite number"


def points_inside(sample: Sample) -> Iterator[str]:
    """Yield a message for each point more than `POINT_SLACK` pixels beyond the centres of the outermost pixels."""
    for name, xy in (sample.labels.points or {}).items():
        if xy is not None and not _inside(*xy, sample.width - 1, sample.height - 1, POINT_SLACK):
            yield f"point {name} at x {xy[0]:g}, y {xy[1]:g} is outside the {sample.size} image"


def boxes_inside(sample: Sample) -> Iterator[str]:
    """Yield a message for each box that reaches more than `BOX_SLACK` pixels outside the image."""
    for shape in sample.labels.shapes or ():
        corners = (shape.box[:2], shape.box[2:])
        if not all(_inside(x, y, sample.width, sample.height, BOX_SLACK) for x, y in corners):
            yield f"{_box(shape)} reaches outside the {sample.size} image"


def _inside(x: float, y: float, right: float, bottom: float, slack: float) -> bool:  # false for NaN
    return -slack <= x <= right + slack and -slack <= y <= bottom + slack


def boxes_area(sample: Sample) -> Iterator[str]:
    """Yield a message for each box without an area."""
    for shape in sample.labels.shapes or ():
        x0, y0, x1, y1 = shape.box
        if not (x1 > x0 and y1 > y0):
            yield f"{_box(shape)} has no area"


def _box(shape: ObjectAnnotation) -> str:
    x0, y0, x1, y1 = shape.box
    return f"box of {shape.label} from x {x0:g}, y {y0:g} to x {x1:g}, y {y1:g}"


def outlines_size(sample: Sample) -> Iterator[str]:
    """Yield a message for each outline that is empty, has a negative run length, or differs in size from the image."""
    for shape in sample.labels.shapes or ():
        if shape.rle is None:
            continue
        pixels = sum(shape.rle)
        if min(shape.rle, default=0) < 0:
            yield f"outline of {shape.label} has a negative run length, {min(shape.rle)}"
        elif pixels != sample.width * sample.height:
            expected = f"{sample.width * sample.height:.0f} pixels ({sample.size})"
            yield f"outline of {shape.label} has {quantity(pixels, 'pixel')}, but the image has {expected}"
        elif not sum(shape.rle[1::2]):
            yield f"outline of {shape.label} is empty"


def target_readable(sample: Sample) -> Iterator[str]:
    """Yield a message if the mask or paired image is missing or cannot be read, or if the mask has several channels."""
    if sample.target is None and (sample.labels.mask is not None or sample.labels.image):
        yield f"its {_target_name(sample)} is missing"
    if sample.target is not None and sample.target.problem:
        yield f"its {_target_name(sample)} {sample.target.problem}"


def target_size(sample: Sample) -> Iterator[str]:
    """Yield a message if the size of the mask or paired image differs from that of the image."""
    size = sample.target.size if sample.target else None
    if size not in (None, (sample.width, sample.height)):
        yield f"its {_target_name(sample)} is {size[0]}x{size[1]}, but the image is {sample.size}"


def _target_name(sample: Sample) -> str:
    if sample.labels.mask is not None:
        return "mask"
    return "paired image" if sample.labels.image else "mask or paired image"


def mask_values(sample: Sample) -> Iterator[str]:
    """Yield a message for each value in the mask that is neither a class nor unknown."""
    classes = len(sample.labels.mask or ())
    for value, pixels in sample.mask_counts.items():
        if value >= classes and value != IGNORE_INDEX:
            allowed = f"0 to {classes - 1} and {IGNORE_INDEX}" if classes > 1 else f"0 and {IGNORE_INDEX}"
            yield f"its mask contains {value} ({quantity(pixels, 'pixel')}); allowed are {allowed}"


def mask_known(sample: Sample) -> Iterator[str]:
    """Yield a message if the class of every pixel of the mask is unknown."""
    if set(sample.mask_counts) == {IGNORE_INDEX}:
        yield f"every pixel of its mask is unknown ({IGNORE_INDEX})"
