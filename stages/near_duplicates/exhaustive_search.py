"""Search all pairs of a sample for copies that perceptual hashes do not find: rotated, inverted and strongly cropped.

The hashes of such copies differ as much as those of distinct images, so all pairs are compared by their details.

Axes: N images, P pairs, F = 256 values of an image.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from stages.core.shapes import Array, Bool, Float, Integer, UInt8
from stages.near_duplicates.distance_distribution import DistanceDistribution, distance
from stages.near_duplicates.image_similarity import crop_details

SHARES = (0.95, 0.9, 0.85, 0.8, 0.75)  # side lengths of a crop, as shares of the image
PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)  # positions of the crop, from start to end
NEAR = 0.01  # maximum expected number of equally close pairs of distinct images, in all comparisons
MIN_CORRELATION = 0.7  # in images with few details, crops of distinct images reach 0.56
CHANGES = ("mirrored", "rotated", "inverted", "cropped")
COMPARISONS = 8 + 1 + len(SHARES) * len(PLACES) ** 2  # comparisons of each pair


def find_pairs(
    thumb_NHW: UInt8[Array, "N 32 32"], detail_NF: Float[Array, "N 256"], learned: DistanceDistribution
) -> tuple[Integer[Array, "P 2"], Integer[Array, " P"], Float[Array, " P"], Float[Array, " P"]]:
    """Compare all pairs of images, each after every change, and return those that are closer than distinct images.

    Args:
        thumb_NHW: thumbnails.
        detail_NF: details of the thumbnails.
        learned: distances between distinct images of the data set.

    Returns:
        Indices of the images of each pair, index of the change in `CHANGES` (-1: none), correlation, expected number.
    """
    best = np.full((len(detail_NF), len(detail_NF)), -1.0, np.float32)
    kind = np.full(best.shape, -1, np.int8)
    for change, changed_NF in _changed(thumb_NHW, detail_NF):
        alike = changed_NF @ detail_NF.T
        alike = np.maximum(alike, alike.T)
        kind[alike > best] = CHANGES.index(change) if change else -1
        np.maximum(best, alike, out=best)
    one, two = np.triu_indices(len(best), 1)
    expected = _expected(best[one, two], learned.radii(detail_NF)[np.stack([one, two], axis=1)].min(axis=1), learned)
    near = expected <= NEAR
    one, two = one[near], two[near]
    return np.stack([one, two], axis=1), kind[one, two].astype(int), best[one, two], expected[near]


def are_near(
    thumb_NHW: UInt8[Array, "N 32 32"],
    detail_NF: Float[Array, "N 256"],
    pairs_P2: Integer[Array, "P 2"],
    learned: DistanceDistribution,
) -> Bool[Array, " P"]:
    """Return, for each pair, whether it is closer than distinct images, after any change.

    Args:
        thumb_NHW: thumbnails.
        detail_NF: details of the thumbnails.
        pairs_P2: indices of the pairs.
        learned: distances between distinct images of the data set.
    """
    one, two = pairs_P2.T
    best = np.full(len(pairs_P2), -1.0, np.float32)
    for _, changed_NF in _changed(thumb_NHW, detail_NF):
        for a, b in ((one, two), (two, one)):
            best = np.maximum(best, (changed_NF[a] * detail_NF[b]).sum(axis=1))
    return _expected(best, learned.radii(detail_NF)[pairs_P2].min(axis=1), learned) <= NEAR


def _expected(
    best_P: Float[Array, " P"], radius_P: Float[Array, " P"], learned: DistanceDistribution
) -> Float[Array, " P"]:
    """Return the expected number of equally close pairs, corrected for the number of comparisons of each pair."""
    return np.where(best_P >= MIN_CORRELATION, COMPARISONS * learned.expected(distance(best_P), radius_P), np.inf)


def _changed(
    thumb_NHW: UInt8[Array, "N 32 32"], detail_NF: Float[Array, "N 256"]
) -> Iterator[tuple[str, Float[Array, "N 256"]]]:
    """Yield the details of all images after each change, with the name of the change, empty for none."""
    detail_NHW = detail_NF.reshape(-1, 16, 16)
    for quarters, mirror in product(range(4), (False, True)):
        turned_NHW = np.rot90(detail_NHW[:, :, ::-1] if mirror else detail_NHW, quarters, (1, 2))
        yield "rotated" if quarters else "mirrored" if mirror else "", np.ascontiguousarray(turned_NHW).reshape(-1, 256)
    yield "inverted", -detail_NF
    for crop_NF in crop_details(thumb_NHW.astype(np.float32), SHARES, PLACES):
        yield "cropped", crop_NF
