"""Clusters of similar images: is the nearest image of many images far nearer than distinct images are?

Copies are recognized by the distances between distinct images, which are learned from the data. If nearly every image
has several copies, such as exposures of one object, these distances are learned from copies, and none stands out. Here
the distances of rank k to 2 k, beyond the copies, predict how near the nearest image should be.

Axes: R images of a sample, F = 256 values of an image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Bool, Float, Integer
from stages.near_duplicates.distance_distribution import distance
from stages.near_duplicates.image_similarity import mirrored

MIN_IMAGES = 24  # minimum number of images
MAX_RANK = 10  # maximum rank k of the neighbours that are beyond the copies, a quarter of the images
FAR_NEARER = 0.01  # expected number of images as near as the nearest; 1 % of distinct images are below it
LARGE_SHARE = 0.2  # share of the images with a far nearer one, from which the images form clusters
MIN_SHARE_ACROSS = 0.05  # share of the images with a far nearer one in another group or split, which is reported


@dataclass(frozen=True)
class Clusters:
    """Images of a sample that have a far nearer image than distinct images are."""

    sample: pd.DataFrame
    """Rows of the manifest of the images that were compared."""
    near_RR: Bool[Array, "R R"]
    """True where two images are far nearer than distinct images are."""
    nearest_R: Integer[Array, " R"]
    """Index of the nearest image of each image."""

    @property
    def share(self) -> float:
        """Share of the images that have a far nearer one."""
        return float(self.near_RR.any(axis=1).mean())

    def evidence(self, similar: list[tuple[str, str]], compared: int) -> dict[str, Any]:
        """Return the figures of a finding about pairs of similar images among the compared images."""
        return {"pairs": similar[:50], "count": len(similar), "compared": compared, "share": self.share}

    @property
    def exist(self) -> bool:
        """True if a large share of the images has a far nearer one."""
        return self.share >= LARGE_SHARE

    def across_groups(self) -> list[tuple[str, str]]:
        """Return the paths of images with a far nearer one in another group; empty if they are few."""
        group = self.sample["group"].to_numpy()
        return self._pairs(group[:, None] != group, np.ones(len(group), bool))

    def across_splits(self) -> list[tuple[str, str]]:
        """Return the paths of validation images with a far nearer training image; empty if they are few."""
        split = self.sample["split"].to_numpy()
        return self._pairs(np.broadcast_to(split == "train", self.near_RR.shape), split == "val")

    def _pairs(self, apart_RR: Bool[Array, "R R"], of_R: Bool[Array, " R"]) -> list[tuple[str, str]]:
        near_RR = self.near_RR & apart_RR
        found = np.flatnonzero(near_RR.any(axis=1) & of_R)
        if not self.exist or len(found) < max(2, MIN_SHARE_ACROSS * of_R.sum()):
            return []
        path = self.sample["path"].tolist()
        return [
            (path[i], path[self.nearest_R[i] if near_RR[i, self.nearest_R[i]] else near_RR[i].argmax()]) for i in found
        ]


def list_pairs(similar: list[tuple[str, str]], most: int) -> str:
    """Return the first pairs of paths in backquotes, and `...` if there are more.

    >>> list_pairs([("a.png", "b.png"), ("c.png", "d.png")], most=1)
    '`a.png` ~ `b.png`; ...'
    """
    return "; ".join(f"`{one}` ~ `{other}`" for one, other in similar[:most]) + ("; ..." if len(similar) > most else "")


def explain_most(sets: Iterable[pd.DataFrame], similar: list[tuple[str, str]]) -> bool:
    """Return whether sets of near-duplicates contain at least half of the pairs of similar images.

    The images are then copies that stand out from distinct images, so that no clusters need to be reported.

    Args:
        sets: rows of near-duplicates.
        similar: paths of pairs of similar images.
    """
    set_of = {path: number for number, rows in enumerate(sets) for path in rows["path"]}
    explained = sum(one in set_of and set_of[one] == set_of.get(other) for one, other in similar)
    return 2 * explained >= len(similar)


def find_clusters(detail_RF: Float[Array, "R 256"], sample: pd.DataFrame) -> Clusters | None:
    """Compare the nearest image of each image with those of rank k and 2 k; None for fewer than `MIN_IMAGES` images.

    Args:
        detail_RF: details of the images.
        sample: their rows of the manifest.
    """
    count = len(detail_RF)
    if count < MIN_IMAGES:
        return None
    distance_RR = distance(np.maximum(detail_RF @ detail_RF.T, mirrored(detail_RF) @ detail_RF.T))
    np.fill_diagonal(distance_RR, np.inf)
    k = rank_beyond(count)
    ranked_RK = np.partition(distance_RR, (k - 1, 2 * k - 1), axis=1)
    expected_RR = expected_nearer(distance_RR, np.arange(count)[None], ranked_RK[:, k - 1], ranked_RK[:, 2 * k - 1])
    return Clusters(sample, expected_RR < FAR_NEARER, distance_RR.argmin(axis=1))


def rank_beyond(count: int) -> int:
    """Return the rank k of the neighbours that are beyond the copies."""
    return min(MAX_RANK, count // 4)


def expected_nearer(
    distance_RK: Float[Array, "R K"],
    other_RK: Integer[Array, "_ K"],
    beyond_R: Float[Array, " R"],
    far_R: Float[Array, " R"],
) -> Float[Array, "R K"]:
    """Return the number of distinct images that are expected as near to an image as another one, for pairs of images.

    If images around one are uniform in m dimensions, the logarithm of the ratio of the distances of rank 2 k and k is
    (1/k + ... + 1/(2k - 1)) / m on average (Levina and Bickel 2004), and k (d / d_k)^m images are expected within d.

    Args:
        distance_RK: distances of each image to others.
        other_RK: indices of the others; one row if they are the same for all images.
        beyond_R: distance of rank k of each image.
        far_R: distance of rank 2 k.
    """
    k = rank_beyond(len(beyond_R))
    harmonic = sum(1 / rank for rank in range(k, 2 * k))
    dimension = harmonic / max(float(np.log(far_R / beyond_R).mean()), 1e-3)
    return k * (distance_RK / np.minimum(beyond_R[:, None], beyond_R[other_RK])) ** dimension
