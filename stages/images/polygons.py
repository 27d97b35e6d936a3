"""Rasterization of polygons."""

import math
from typing import Any

from stages.core.shapes import Array, Bool
from stages.images.decode import Unreadable

MAX_COORDINATE = 1e6  # pixels; larger coordinates make rasterizers hang


def rasterize_polygons(polygons: list[Any], height: int, width: int, where: str) -> Bool[Array, "{height} {width}"]:
    """Return the union of polygons as a mask, rasterized as in the COCO API (pycocotools).

    Args:
        polygons: lists of coordinates x1, y1, x2, y2, ... in pixels, at least three corners each.
        height: height of the image, pixels.
        width: width of the image, pixels.
        where: position in the source, for the error messages.

    Returns:
        A mask with at least one pixel.

    Raises:
        Unreadable: a polygon has fewer than three corners, an odd number of coordinates or an invalid one; or the union
            covers no pixel.
    """
    from pycocotools import mask as coco_mask

    for polygon in polygons:
        is_list = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not is_list or not all(is_coordinate(value) for value in polygon):
            raise Unreadable(
                f"{where}: the polygon {str(polygon)[:60]} is not a flat list x1, y1, x2, y2, ... of three or more "
                f"corners, with finite coordinates between -{MAX_COORDINATE:,.0f} and {MAX_COORDINATE:,.0f}"
            )
    mask_HW: Array = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(bool)
    if not mask_HW.any():
        raise Unreadable(f"{where}: the polygon covers no pixel of the {width}x{height} image")
    return mask_HW


def is_coordinate(value: Any) -> bool:
    """Return whether a value is a finite number with an absolute value below `MAX_COORDINATE`."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and abs(value) < MAX_COORDINATE
    )
