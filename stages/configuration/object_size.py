"""Size of the smallest structures that must remain visible: objects, gaps between points, and thin mask parts."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from stages.core.shapes import Array, Integer
from stages.dataset.annotations import IGNORE_INDEX, Annotation

MOST_SIDE = 512  # maximum height and width of the measured part of a mask, pixels
VISIBLE = {
    "the shorter side of an object": 8.0,
    "the gap between two dots": 4.0,
    "the gap between two points": 4.0,
    "the thickness of the thinnest class": 3.0,
}
"""Minimum size in working pixels by structure."""


def smallest_structure(annotation: Annotation, target: Integer[Array, "H W *C"] | None) -> tuple[float, str] | None:
    """Return the size in pixels of the smallest structure of an image and its key in VISIBLE; None if there is none.

    The size is the 5th percentile of the shorter sides of objects, the median gap between dots or points, or the
    thickness of the thinnest class of the mask.

    Args:
        annotation: labels of the image.
        target: mask or paired image; None if there is none.
    """
    if annotation.points is not None:
        gap = _gap([xy for xy in annotation.points.values() if xy is not None])
        return None if gap is None else (gap, "the gap between two points")
    if annotation.shapes:
        boxes = np.array([shape.box for shape in annotation.shapes if not shape.crowd], float).reshape(-1, 4)
        sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        if len(sides) and sides.max() > 1:
            return float(np.percentile(sides, 5)), "the shorter side of an object"
        gap = _gap([(x, y) for x, y in boxes[:, :2]])
        return None if gap is None else (gap, "the gap between two dots")
    if annotation.mask is not None and target is not None:
        return mask_thickness(target), "the thickness of the thinnest class"
    return None


def _gap(points: list[tuple[float, float]]) -> float | None:
    """Return the median distance to the nearest neighbour, robust to a few touching points; None for fewer than two."""
    if len(points) < 2:
        return None
    distance, _ = cKDTree(np.array(points)).query(points, k=2)
    return float(np.median(distance[:, 1]))


def mask_thickness(mask_HW: Integer[Array, "H W"]) -> float:
    """Return the thickness of the thinnest class of a label image, pixels.

    The thickness is 4 times the mean distance to the edge, which is exact for a straight strip. Only the central
    `MOST_SIDE` x `MOST_SIDE` pixels are measured; if one class fills them or all are unknown, the result is their
    shorter side.
    """
    top, left = (max(0, (side - MOST_SIDE) // 2) for side in mask_HW.shape)
    part_HW = mask_HW[top : top + MOST_SIDE, left : left + MOST_SIDE]
    thicknesses = []
    for value in np.unique(part_HW[part_HW != IGNORE_INDEX]):
        inside_HW = part_HW == value
        if not inside_HW.all():
            distance_HW = ndimage.distance_transform_edt(inside_HW) - 0.5
            thicknesses.append(4 * float(distance_HW[inside_HW].mean()))
    return min(thicknesses, default=float(min(part_HW.shape)))
