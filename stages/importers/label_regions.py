"""Measure whether images are masks: few values, or one value per object, in connected regions."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MAX_VALUES = 32  # distinct values of a mask; numbers of objects may be more
MIN_FLAT = 0.7  # share of the pixels of a mask that equal their right and lower neighbours
PIECES = 1.25  # regions per value up to which each value is one region
MANY_OBJECTS = 10  # values of one region each in an image from which they number objects
FEWEST_OBJECTS = 4  # values of one region each from which they may number objects
MIN_OBJECT_PIXELS = 4  # mean size of regions below which values are grey levels of 16 bits, not numbers of objects
MIN_VOTES = 0.75  # share of the images that must agree
GAPS = 1.5  # largest number per object up to which numbers count up from 1, a few being absent
MAX_EXPLAINED = 0.4  # share of the variance of areas that values explain, up to which they are not classes
SIDE = 32  # pixels to which masks are reduced before they are compared


def is_label_image(level: Array) -> bool:
    """Return whether an image [H, W] or [H, W, C] consists of regions of few values, or of one value per region.

    An image of a single value shows neither.
    """
    value_HW = _as_numbers(level)
    values = np.unique(value_HW)
    if len(values) < 2:
        return False
    flat = (value_HW[:-1, :-1] == value_HW[1:, :-1]) & (value_HW[:-1, :-1] == value_HW[:-1, 1:])
    if not flat.size or flat.mean() < MIN_FLAT:
        return False
    return len(values) <= MAX_VALUES or count_regions(value_HW) <= PIECES * len(values)


def _as_numbers(level: Array) -> Array:
    """Return one number per colour [H, W]."""
    if level.ndim == 2:
        return level
    channels = (level[:, :, place].astype(np.int64) << 16 * place for place in range(min(3, level.shape[2])))
    return np.asarray(sum(channels))


def count_regions(value_HW: Array) -> int:
    """Return the number of connected regions of equal values other than 0."""
    from skimage import measure

    return int(measure.label(value_HW, background=0, connectivity=2).max())  # type: ignore[no-untyped-call]


def number_objects(levels: Sequence[Array]) -> bool:
    """Return whether the values of label images [H, W] are numbers of objects rather than classes.

    Each value is one connected region in nearly all cases, and the values are not the same in all images. In addition,
    the values are many; or the files have more than 8 bits, which classes do not need; or they count up from 1 to a
    number that varies, and do not determine the area of a region as classes do.
    """
    found = [np.unique(level_HW[level_HW != 0]) for level_HW in levels]
    total = sum(map(len, found))
    if not total or all(np.array_equal(values, found[0]) for values in found):
        return False
    if sum(level_HW.size for level_HW in levels) < MIN_OBJECT_PIXELS * total:
        return False
    if max(map(len, found)) < FEWEST_OBJECTS or sum(map(count_regions, levels)) > PIECES * total:
        return False
    many = np.mean([len(values) >= MANY_OBJECTS for values in found]) >= MIN_VOTES
    deep = all(level_HW.dtype.itemsize > 1 for level_HW in levels) and np.mean(list(map(len, found))) >= FEWEST_OBJECTS
    counted = np.mean([values.max(initial=0) <= GAPS * len(values) for values in found]) >= MIN_VOTES
    varied = len({len(values) for values in found}) > 2
    return bool(many or deep or (counted and varied and _explained_by_value(levels) <= MAX_EXPLAINED))


def _explained_by_value(levels: Iterable[Array]) -> float:
    """Return the share of the variance of the logarithm of areas that the values explain, adjusted for chance."""
    areas: dict[int, list[float]] = {}
    for level_HW in levels:
        for value, count in zip(*np.unique(level_HW[level_HW != 0], return_counts=True), strict=True):
            areas.setdefault(int(value), []).append(float(np.log(count)))
    every = np.array([area for of_value in areas.values() for area in of_value])
    spare = len(every) - len(areas)
    if spare < 1 or every.var() == 0:
        return 0.0
    within = sum(float(np.var(of_value)) * len(of_value) for of_value in areas.values()) / spare
    return float(1 - within / every.var(ddof=1))


def reduce_mask(level_HW: Array) -> Array:
    """Return a mask [SIDE, SIDE] of the pixels other than the lowest value."""
    rows, columns = (np.linspace(0, length - 1, SIDE).round().astype(int) for length in level_HW.shape)
    return np.asarray(level_HW[np.ix_(rows, columns)] != level_HW.min())


def overlap(one: Array, other: Array) -> float:
    """Return the intersection of two masks over their union; 1 if both are empty."""
    union = float((one | other).sum())
    return float((one & other).sum()) / union if union else 1.0
