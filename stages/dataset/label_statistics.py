"""Numbers about the labels of one image: how many, how large and where the things of a class are.

Shares of the image: an area of 1 is the whole image; a middle at (0, 0) is its upper left corner, at (1, 1) the lower
right.
"""

from typing import Any

import numpy as np

from stages.dataset.annotations import IGNORE_INDEX, Annotation

ObjectMeasurements = dict[str, list[dict[str, float]]]
"""Class or point: its things, each with x and y of its middle, and area where it has one."""


def measure_objects(
    annotation: Annotation, height: int, width: int, mask_HW: np.ndarray[Any, Any] | None
) -> ObjectMeasurements:
    """The things of an image by class; a class of a mask is one thing, a point is one without area.

    Args:
        annotation: labels of the image.
        height: of the image, pixels.
        width: of the image, pixels.
        mask_HW: indices of `annotation.mask`, or None where there is no mask.
    """
    found: ObjectMeasurements = {}
    for shape in annotation.shapes or ():
        x0, y0, x1, y1 = shape.box
        pixels = (x1 - x0) * (y1 - y0) if shape.rle is None else sum(shape.rle[1::2])
        middle = {"x": (x0 + x1) / 2 / width, "y": (y0 + y1) / 2 / height}
        found.setdefault(shape.label, []).append({"area": pixels / (height * width), **middle})
    for name, xy in (annotation.points or {}).items():
        if xy is not None:
            found[name] = [{"x": (xy[0] + 0.5) / width, "y": (xy[1] + 0.5) / height}]
    if annotation.mask is not None and mask_HW is not None:
        for index in np.unique(mask_HW[mask_HW != IGNORE_INDEX]):
            there_HW = mask_HW == index
            rows, columns = there_HW.sum(axis=1), there_HW.sum(axis=0)
            pixels = int(rows.sum())
            x = float(columns @ (np.arange(width) + 0.5)) / pixels / width
            y = float(rows @ (np.arange(height) + 0.5)) / pixels / height
            found[annotation.mask[index]] = [{"area": pixels / (height * width), "x": x, "y": y}]
    return found


def round_measurements(found: ObjectMeasurements) -> ObjectMeasurements:
    """To 1e-5, of which a table stays small."""
    return {label: [{k: round(v, 5) for k, v in thing.items()} for thing in some] for label, some in found.items()}
