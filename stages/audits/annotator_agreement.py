"""Agreement of several annotations of one image: the same objects, points or masks up to a tolerance, or a conflict.

Axes: M and T objects of two annotations, P points.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from stages.core.shapes import Array, Float
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, decode_rle
from stages.dataset.manifest import decode_targets, parse_annotations

MIN_IOU = 0.5
"""IoU from which two boxes or masks show the same object, as COCO counts a detection."""
MAX_DISTANCE = 0.05
"""Distance up to which two points are the same, a share of the diagonal."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of the annotations of one image, over all pairs of annotations."""

    iou: tuple[float, ...] = ()
    """IoU of each object, or of each class of a mask."""
    distance: tuple[float, ...] = ()
    """Distance of each point, a share of the diagonal."""


def agreement_of(same: pd.DataFrame, folder: Any) -> Agreement | None:
    """Return the agreement of annotations of equal pixels; None if they contradict each other.

    They contradict each other if classes or numbers differ, if one has an object or a visible point that another lacks,
    or if the tolerances are exceeded. Paired images must be equal.

    Args:
        same: rows of the manifest.
        folder: output folder of ingest.
    """
    annotations, targets = parse_annotations(same), list(decode_targets(same, folder))
    pixels, sizes = same["pixels"].tolist(), list(zip(same["height"], same["width"], strict=True))
    found: list[Agreement] = []
    for i, j in combinations(range(len(same)), 2):
        if pixels[i] != pixels[j]:  # resized copies have other coordinates
            continue
        one, other = annotations[i], annotations[j]
        if one == other and same["target_pixels"].iloc[i] == same["target_pixels"].iloc[j]:
            continue
        pair = _of_pair(one, other, (targets[i], targets[j]), sizes[i])
        if pair is None:
            return None
        found.append(pair)
    return Agreement(tuple(v for pair in found for v in pair.iou), tuple(v for pair in found for v in pair.distance))


def _of_pair(one: Annotation, other: Annotation, targets: tuple[Any, Any], size: tuple[int, int]) -> Agreement | None:
    kinds = (one.labels, one.scalars, one.mask, one.image), (other.labels, other.scalars, other.mask, other.image)
    if kinds[0] != kinds[1] or one.image:
        return None
    iou = _of_objects(one.shapes or (), other.shapes or (), size)
    if one.mask is not None and iou is not None:
        of_mask = _of_masks(*targets)
        iou = None if of_mask is None else [*iou, *of_mask]
    distance = _of_points(one.points or {}, other.points or {}, size)
    return None if iou is None or distance is None else Agreement(tuple(iou), tuple(distance))


def _of_objects(
    ones: tuple[ObjectAnnotation, ...], others: tuple[ObjectAnnotation, ...], size: tuple[int, int]
) -> list[float] | None:
    """Return the IoU of each object with its partner of the same class; None if one has no partner."""
    if len(ones) != len(others):
        return None
    iou_MT = np.array([[_iou(a, b, size) if a.label == b.label else 0.0 for b in others] for a in ones])
    iou_MT = iou_MT.reshape(len(ones), len(others))
    matched_M = iou_MT[linear_sum_assignment(-iou_MT)]
    return None if (matched_M < MIN_IOU).any() else matched_M.tolist()


def _iou(one: ObjectAnnotation, other: ObjectAnnotation, size: tuple[int, int]) -> float:
    if one.rle is not None and other.rle is not None:
        return _iou_of_masks(decode_rle(one.rle, *size), decode_rle(other.rle, *size))
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one.box, other.box
    both = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    return both / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - both)


def _iou_of_masks(one_HW: Array, other_HW: Array) -> float:
    return float((one_HW & other_HW).sum() / (one_HW | other_HW).sum())


def _of_masks(one_HW: Array, other_HW: Array) -> list[float] | None:
    """Return the IoU of each class of two masks, where both are known; None if one is too low."""
    known_HW = (one_HW != IGNORE_INDEX) & (other_HW != IGNORE_INDEX)
    one, other = one_HW[known_HW], other_HW[known_HW]
    iou = [_iou_of_masks(one == k, other == k) for k in np.union1d(one, other)]
    return None if any(value < MIN_IOU for value in iou) else iou


def _of_points(
    ones: dict[str, tuple[float, float] | None], others: dict[str, tuple[float, float] | None], size: tuple[int, int]
) -> list[float] | None:
    """Return the distance of each visible point; None if one is too far or visible in only one annotation."""
    seen = [name for name, xy in ones.items() if xy is not None]
    if ones.keys() != others.keys() or seen != [name for name in ones if others[name] is not None]:
        return None
    places_2P2: Float[Array, "2 P 2"] = np.array([[points[name] for name in seen] for points in (ones, others)], float)
    if not seen:
        return []
    distance_P = np.hypot(*(places_2P2[0] - places_2P2[1]).T) / np.hypot(*size)
    return None if (distance_P > MAX_DISTANCE).any() else distance_P.tolist()
