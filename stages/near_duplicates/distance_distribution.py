"""Distribution of the distances between distinct images, used to distinguish copies from similar images.

No fixed threshold is suitable for both digits and photographs. The local density of the data set is therefore estimated
around each image, and two images are considered copies only if no pair of distinct images is expected to be as close
(a-contrario detection: Desolneux, Moisan and Morel 2000).

Axes: N images, R reference images, P pairs, F = 256 values of an image.
"""

from dataclasses import dataclass

import numpy as np

from stages.core.shapes import Array, Float
from stages.near_duplicates.image_similarity import AT_ONCE, mirrored

NEIGHBOURS = 10  # nearest images used for the density estimate; a few copies among 10 have little effect
MIN_IMAGES = 20  # minimum number of images for the density estimate


@dataclass(frozen=True)
class DistanceDistribution:
    """Distribution of the distances between distinct images of a data set."""

    references: Float[Array, "R 256"]
    """Details of the reference images, a random sample of the data set."""
    dimension: float
    """Intrinsic dimension of the images."""
    images: int
    """Number of images N, including the references."""

    @property
    def neighbours(self) -> int:
        """Rank of the neighbour whose distance defines the local density."""
        return max(3, min(NEIGHBOURS, len(self.references) // 10))

    def radii(self, details_NF: Float[Array, "N 256"]) -> Float[Array, " N"]:
        """Return the distance from each image to its reference of rank `neighbours`, excluding the image itself."""
        return _nearest(details_NF, self.references, self.neighbours)[:, -1]

    def expected(self, distance_P: Float[Array, " P"], radius_P: Float[Array, " P"]) -> Float[Array, " P"]:
        """Return the expected number of pairs of distinct images in the data set that are at least as close as a pair.

        If k = `neighbours` references are within `radius` of an image, k * N / R * (distance / radius) ** dimension
        images are expected within `distance`; the total number of pairs is N / 2 times that.
        """
        about_one = self.neighbours * self.images / len(self.references)
        return self.images / 2 * about_one * (distance_P / radius_P) ** self.dimension


def estimate_distribution(references_RF: Float[Array, "R 256"], images: int) -> DistanceDistribution:
    """Estimate the distribution of the distances between distinct images from a random sample.

    The intrinsic dimension is estimated as in Levina and Bickel (2004) and averaged as in MacKay and Ghahramani (2005).
    The nearest neighbour of each image is excluded, because it may be a copy. For k neighbours, the logarithms of
    radius / distance of ranks 2 to k - 1 sum to (k - 1 - H) / dimension on average, with H = 1 + 1/2 + ... + 1/(k - 1).

    Args:
        references_RF: details of at least `MIN_IMAGES` random images.
        images: number of images in the data set.
    """
    k = DistanceDistribution(references_RF, 1.0, images).neighbours
    near_RK = _nearest(references_RF, references_RF, k)
    sums = np.log(near_RK[:, -1:] / near_RK[:, 1:-1]).sum(axis=1)
    harmonic = sum(1 / j for j in range(1, k))
    return DistanceDistribution(references_RF, (k - 1 - harmonic) / max(float(sums.mean()), 1e-3), images)


def _nearest(details_NF: Float[Array, "N 256"], references_RF: Float[Array, "R 256"], k: int) -> Float[Array, "N {k}"]:
    """Return the sorted distances to the k nearest references, upright or mirrored, excluding the image itself."""
    found = []
    for start in range(0, len(details_NF), AT_ONCE):
        some = details_NF[start : start + AT_ONCE]
        upright = some @ references_RF.T
        upright[upright > 1 - 1e-6] = -1  # the image itself; exact copies were removed before
        alike = np.maximum(upright, mirrored(some) @ references_RF.T)
        found.append(-np.sort(-np.partition(alike, -k, axis=1)[:, -k:], axis=1))
    return distance(np.concatenate(found))


def distance(correlation: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Return the Euclidean distance between two unit vectors from their correlation; at least 0.001."""
    return np.sqrt(np.maximum(2 - 2 * correlation, 1e-6))
