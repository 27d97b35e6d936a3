"""Links between similar images, such as several exposures of one object, among all images of a data set.

The images of an object are seldom aligned to the pixel, so that each image is compared with the others after small
shifts. All pairs are compared, in blocks: 6,000 images take 8 CPU seconds, and 20,000 images 100.

Axes: N images, K nearest images of each, L links, F = 256 values of an image.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.core.shapes import Array, Bool, Float, Integer, Real
from stages.near_duplicates.clusters import FAR_NEARER, LARGE_SHARE, MIN_IMAGES, expected_nearer, rank_beyond
from stages.near_duplicates.distance_distribution import distance
from stages.near_duplicates.image_similarity import SIDE, image_details, mirrored

SHIFT = 2  # pixels of a thumbnail, 6 % of its side
NEAREST = 64  # nearest images of each that can be linked to it
LINKED = 0.1  # expected number of distinct images as near as a linked one, in data where a large share has links
MOST = 0.8  # share of the images with links, from which small components join the nearest one
JOINED = 1.0  # expected number of distinct images as near as the one through which a small component joins
BLOCK = 500  # images compared with all others at once


@dataclass(frozen=True)
class SimilarityLinks:
    """Links between images that are nearer than distinct images are."""

    nearest_NK: Integer[Array, "N K"]
    """Indices of the nearest images of each image, the nearest first."""
    expected_NK: Float[Array, "N K"]
    """Number of distinct images that are expected as near."""

    @property
    def far_nearer_NK(self) -> Bool[Array, "N K"]:
        """True for the nearest images that are far nearer than distinct images are."""
        return self.expected_NK < FAR_NEARER

    @property
    def exist(self) -> bool:
        """True if a large share of the images has a far nearer one."""
        return float(self.far_nearer_NK.any(axis=1).mean()) >= LARGE_SHARE

    def components(self) -> Integer[Array, " N"]:
        """Return the number of the connected component of each image.

        If most images have links, components have about the same number of images, so that each of those that are
        smaller than half of the images are in joins its nearest one, unless distinct images are as near.
        """
        image, rank = np.nonzero(self.expected_NK < LINKED)
        component_N = self._connected(image, rank)
        size_N = np.bincount(component_N)[component_N]
        if (size_N > 1).mean() < MOST:
            return component_N
        outside_NK = component_N[self.nearest_NK] != component_N[:, None]
        is_small_N = size_N < np.median(size_N)
        ends = np.nonzero(is_small_N[:, None] & outside_NK & (self.expected_NK < JOINED))
        nearest_first = np.argsort(self.expected_NK[ends], kind="stable")
        one, at = ends[0][nearest_first], ends[1][nearest_first]
        _, best = np.unique(component_N[one], return_index=True)
        return self._connected(np.concatenate([image, one[best]]), np.concatenate([rank, at[best]]))

    def nearest_apart(self, component_N: Integer[Array, " N"]) -> tuple[int, int] | None:
        """Return the nearest two images of different components; None if distinct images are as near."""
        is_apart_NK = component_N[self.nearest_NK] != component_N[:, None]
        expected_NK = np.where(is_apart_NK, self.expected_NK, np.inf)
        image, rank = np.unravel_index(expected_NK.argmin(), expected_NK.shape)
        if expected_NK[image, rank] >= JOINED:
            return None
        return int(image), int(self.nearest_NK[image, rank])

    def _connected(self, image: Integer[Array, " L"], rank: Integer[Array, " L"]) -> Integer[Array, " N"]:
        """Return the connected component of each image if images are linked to their nearest images of these ranks."""
        count = len(self.nearest_NK)
        graph = coo_array((np.ones(len(image)), (image, self.nearest_NK[image, rank])), shape=(count, count))
        return connected_components(graph, directed=False)[1]


def find_links(thumb_NHW: Real[Array, "N 32 32"]) -> SimilarityLinks | None:
    """Compare all images with each other, after small shifts and mirrored; None for fewer than `MIN_IMAGES` images.

    Args:
        thumb_NHW: thumbnails of images that have details.
    """
    count = len(thumb_NHW)
    if count < MIN_IMAGES:
        return None
    nearest_NK, distance_NK = _find_nearest(thumb_NHW, min(NEAREST, count - 1))
    k = rank_beyond(count)
    beyond_N, far_N = distance_NK[:, k - 1], distance_NK[:, 2 * k - 1]
    return SimilarityLinks(nearest_NK, expected_nearer(distance_NK, nearest_NK, beyond_N, far_N))


def _find_nearest(thumb_NHW: Real[Array, "N 32 32"], most: int) -> tuple[Integer[Array, "N K"], Float[Array, "N K"]]:
    """Return the indices and distances of the nearest images of each image, the nearest first."""
    detail_NF = image_details(thumb_NHW)
    padded_NHW = np.pad(thumb_NHW, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    steps = range(2 * SHIFT + 1)
    views = [image_details(padded_NHW[:, y : y + SIDE, x : x + SIDE]) for y, x in product(steps, steps)]
    views.append(mirrored(detail_NF))
    nearest, distances = [], []
    for start in range(0, len(detail_NF), BLOCK):
        block_BF = detail_NF[start : start + BLOCK]
        alike_BN = np.full((len(block_BF), len(detail_NF)), -1, np.float32)
        for view_NF in views:
            np.maximum(alike_BN, block_BF @ view_NF.T, out=alike_BN)
        own = np.arange(len(block_BF))
        alike_BN[own, start + own] = -2
        some_BK = np.argpartition(-alike_BN, most - 1, axis=1)[:, :most]
        order_BK = np.argsort(-np.take_along_axis(alike_BN, some_BK, 1), axis=1, kind="stable")
        nearest.append(np.take_along_axis(some_BK, order_BK, 1))
        distances.append(distance(np.take_along_axis(alike_BN, nearest[-1], 1)))
    return np.concatenate(nearest), np.concatenate(distances)
