"""Area and position of the labelled objects of one image.

Values are relative to the image size: an area of 1 is the whole image; a centre at (0, 0) is the upper left corner, at
(1, 1) the lower right.
"""

import numpy as np

from stages.core.shapes import Array, Integer
from stages.dataset.annotations import IGNORE_INDEX, Annotation

ObjectMeasurements = dict[str, list[dict[str, float]]]
"""Objects by the name of their class or point, each with x and y of its centre, and its area unless it is a point."""


def measure_objects(
    annotation: Annotation, height: int, width: int, mask_HW: Integer[Array, "{height} {width} *C"] | None
) -> ObjectMeasurements:
    """Measure the objects of an image by class; each class of a mask counts as one object, and a point has no area.

    Args:
        annotation: labels of the image.
        height: height of the image, pixels.
        width: width of the image, pixels.
        mask_HW: mask of indices of `annotation.mask`; ignored if `annotation.mask` is None.
    """
    objects: ObjectMeasurements = {}
    for shape in annotation.shapes or ():
        x0, y0, x1, y1 = shape.box
        pixels = (x1 - x0) * (y1 - y0) if shape.rle is None else sum(shape.rle[1::2])
        centre = {"x": (x0 + x1) / 2 / width, "y": (y0 + y1) / 2 / height}
        objects.setdefault(shape.label, []).append({"area": pixels / (height * width), **centre})
    for name, xy in (annotation.points or {}).items():
        if xy is not None:
            objects[name] = [{"x": (xy[0] + 0.5) / width, "y": (xy[1] + 0.5) / height}]
    if annotation.mask is not None and mask_HW is not None:
        for index in np.unique(mask_HW[mask_HW != IGNORE_INDEX]):
            class_HW = mask_HW == index
            rows, columns = class_HW.sum(axis=1), class_HW.sum(axis=0)
            pixels = int(rows.sum())
            x = float(columns @ (np.arange(width) + 0.5)) / pixels / width
            y = float(rows @ (np.arange(height) + 0.5)) / pixels / height
            objects[annotation.mask[index]] = [{"area": pixels / (height * width), "x": x, "y": y}]
    return objects


def round_measurements(objects: ObjectMeasurements) -> ObjectMeasurements:
    """Round all values to 5 decimals to keep the manifest small."""
    return {
        label: [{k: round(v, 5) for k, v in entry.items()} for entry in entries] for label, entries in objects.items()
    }
