"""Distribution of distances between distinct images, which distinguishes copies from similar images.

No fixed threshold is suitable for both digits and photographs. The local density of the data set is therefore estimated
around each image, and a pair is called a copy only if no pair of distinct images is expected to be so close
(a-contrario detection: Desolneux, Moisan and Morel 2000).

Axes: N images, R references, P pairs, F = 256 values of an image.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.near_duplicates.image_similarity import AT_ONCE, mirrored

NEIGHBOURS = 10  # for the density estimate, so that a few copies among them have little effect
MIN_IMAGES = 20  # for the density estimate

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DistanceDistribution:
    """Distribution of the distances between distinct images of a data set."""

    references: Array
    """Details of random images, [R, 256]."""
    dimension: float
    """Intrinsic dimension of the images."""
    images: int
    """Number of images N, including the references."""

    @property
    def neighbours(self) -> int:
        """Rank of the neighbour whose distance defines the local density."""
        return max(3, min(NEIGHBOURS, len(self.references) // 10))

    def radii(self, details_NF: Array) -> Array:
        """Return the distance [N] of each image to the neighbour of rank `neighbours`, excluding the image itself."""
        return _nearest(details_NF, self.references, self.neighbours)[:, -1]

    def expected(self, distance_P: Array, radius_P: Array) -> Array:
        """Return the expected number [P] of pairs of distinct images in the data set that are at least as close.

        An image with k = `neighbours` references within `radius` has k * N / R * (distance / radius) ** dimension
        images within `distance`; the total number of pairs is N / 2 times that.
        """
        about_one = self.neighbours * self.images / len(self.references)
        return self.images / 2 * about_one * (distance_P / radius_P) ** self.dimension


def estimate_distribution(references_RF: Array, images: int) -> DistanceDistribution:
    """Estimate the distribution from the details of at least `MIN_IMAGES` random images.

    The intrinsic dimension follows Levina and Bickel (2004), averaged as by MacKay and Ghahramani (2005), without the
    nearest neighbour of each image, which may be a copy. For k neighbours, the logarithms of radius / distance of ranks
    2 to k - 1 sum to (k - 1 - H) / dimension on average, with H = 1 + 1/2 + ... + 1/(k - 1).

    Args:
        references_RF: details of random images.
        images: number of images in the data set.
    """
    k = DistanceDistribution(references_RF, 1.0, images).neighbours
    near_RK = _nearest(references_RF, references_RF, k)
    sums = np.log(near_RK[:, -1:] / near_RK[:, 1:-1]).sum(axis=1)
    harmonic = sum(1 / j for j in range(1, k))
    return DistanceDistribution(references_RF, (k - 1 - harmonic) / max(float(sums.mean()), 1e-3), images)


def _nearest(details_NF: Array, references_RF: Array, k: int) -> Array:
    """Return sorted distances [N, k] to the nearest references, mirrored or not, excluding the image itself."""
    found = []
    for start in range(0, len(details_NF), AT_ONCE):
        some = details_NF[start : start + AT_ONCE]
        upright = some @ references_RF.T
        upright[upright > 1 - 1e-6] = -1  # the image itself; exact copies were removed before
        alike = np.maximum(upright, mirrored(some) @ references_RF.T)
        found.append(-np.sort(-np.partition(alike, -k, axis=1)[:, -k:], axis=1))
    return distance(np.concatenate(found))


def distance(correlation: Array) -> Array:
    """Return the distance between unit vectors of details with this correlation."""
    return np.sqrt(np.maximum(2 - 2 * correlation, 1e-6))
