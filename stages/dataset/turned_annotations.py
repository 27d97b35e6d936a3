"""Turn annotations that refer to the stored pixels of a photo to its upright orientation."""

from dataclasses import replace

import numpy as np
from PIL import Image

from stages.dataset.annotations import Annotation, ObjectAnnotation, decode_rle, encode_rle
from stages.images.decode import TURNS

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def turn_annotation(annotation: Annotation, orientation: int, height: int, width: int) -> Annotation:
    """Return the annotation with its points and objects in the upright image.

    Args:
        annotation: annotation in pixels of the stored image.
        orientation: EXIF orientation, 5 to 8.
        height: height of the stored image, pixels.
        width: width of the stored image, pixels.
    """
    points = annotation.points and {
        # The position of a pixel is its centre, so that the last one has the position width - 1.
        name: xy and _move(xy, orientation, height - 1, width - 1)
        for name, xy in annotation.points.items()
    }
    shapes = annotation.shapes and tuple(_turn(shape, orientation, height, width) for shape in annotation.shapes)
    return replace(annotation, points=points, shapes=shapes)


def _move(xy: tuple[float, float], orientation: int, height: float, width: float) -> tuple[float, float]:
    """Return the position in the upright image of a position in the stored image of this size."""
    x, y = xy
    return height - y if orientation in (6, 7) else y, width - x if orientation in (7, 8) else x


def _turn(shape: ObjectAnnotation, orientation: int, height: int, width: int) -> ObjectAnnotation:
    x0, y0, x1, y1 = shape.box
    columns, rows = zip(*(_move(xy, orientation, height, width) for xy in ((x0, y0), (x1, y1))), strict=True)
    runs = shape.rle
    if runs is not None:
        mask = Image.fromarray(decode_rle(runs, height, width))
        runs = encode_rle(np.asarray(mask.transpose(TURNS[orientation])))
    return replace(shape, box=(min(columns), min(rows), max(columns), max(rows)), rle=runs)
