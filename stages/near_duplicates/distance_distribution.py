"""How near the distinct pictures of a data set come to each other, by which copies are told from look-alikes.

No fixed threshold holds for digits and for photographs. So about every picture it is found how near others of the data
set lie, and a pair is called a copy only where so near a pair is not expected among all the data (a-contrario
detection: Desolneux, Moisan and Morel 2000).

Axes: N pictures, R references, P pairs, F = 256 values of a picture.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.near_duplicates.image_similarity import AT_ONCE, mirrored

NEIGHBOURS = 10  # that tell how dense the data lie about a picture; a few copies among them do no harm
FEWEST = 20  # pictures; fewer do not tell how near distinct ones come

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Density:
    """How near the distinct pictures of a data set come to each other."""

    references: Array
    """[R, 256] details of pictures at random."""
    dimension: float
    """In how many directions the pictures differ, as far as their distances tell."""
    pictures: int
    """N, of which the references are some."""

    @property
    def neighbours(self) -> int:
        """Rank of the neighbour whose distance tells the density."""
        return max(3, min(NEIGHBOURS, len(self.references) // 10))

    def radii(self, details_NF: Array) -> Array:
        """[N] distance to the neighbour of that rank, each picture itself left out."""
        return _nearest(details_NF, self.references, self.neighbours)[:, -1]

    def expected(self, distance_P: Array, radius_P: Array) -> Array:
        """[P]: how many pairs of distinct pictures so near are expected in the whole data set.

        About a picture that has k = `neighbours` references within `radius`, k * N / R * (distance / radius) **
        dimension pictures lie within `distance`; N / 2 times that in all.
        """
        about_one = self.neighbours * self.pictures / len(self.references)
        return self.pictures / 2 * about_one * (distance_P / radius_P) ** self.dimension


def density(references_RF: Array, pictures: int) -> Density:
    """Learn it from the details of at least `FEWEST` pictures taken at random.

    The dimension is that of Levina and Bickel (2004), averaged as MacKay and Ghahramani (2005) do, without each
    picture's nearest neighbour, which may be a copy. Of k neighbours, the logarithms of radius / distance are ordered
    exponential variables: those of ranks 2 to k - 1 sum to (k - 1 - H) / dimension, H = 1 + 1/2 + ... + 1/(k - 1).
    """
    found = Density(references_RF, 1.0, pictures)
    k = found.neighbours
    near_RK = _nearest(references_RF, references_RF, k)
    sums = np.log(near_RK[:, -1:] / near_RK[:, 1:-1]).sum(axis=1)
    harmonic = sum(1 / j for j in range(1, k))
    return Density(references_RF, (k - 1 - harmonic) / max(float(sums.mean()), 1e-3), pictures)


def _nearest(details_NF: Array, references_RF: Array, k: int) -> Array:
    """[N, k] distances to the nearest references, as they are or mirrored, in rising order; itself left out."""
    found = []
    for start in range(0, len(details_NF), AT_ONCE):
        some = details_NF[start : start + AT_ONCE]
        as_it_is = some @ references_RF.T
        as_it_is[as_it_is > 1 - 1e-6] = -1  # itself; what is copied exactly was taken out before
        alike = np.maximum(as_it_is, mirrored(some) @ references_RF.T)
        found.append(-np.sort(-np.partition(alike, -k, axis=1)[:, -k:], axis=1))
    return distance(np.concatenate(found))


def distance(correlation: Array) -> Array:
    """Between details of length 1."""
    return np.sqrt(np.maximum(2 - 2 * correlation, 1e-6))
