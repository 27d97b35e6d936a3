"""Clusters of similar images, such as exposures of one object, that the proposed groups do not explain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.configuration.group_similarity import ImageSignature, add_signatures
from stages.core.plurals import quantity
from stages.dataset.counters import NUMBER
from stages.importers.sample import Sample
from stages.near_duplicates.clusters import find_clusters
from stages.near_duplicates.image_similarity import SIDE, image_details

MOST_COMPARED, WINDOW = 400, 100  # images: maximum, and those that are consecutive by number or by name
EXPLAINED = 0.5  # share of these images with a far nearer one in their group, from which groups explain the clusters
EXAMPLES = 3


@dataclass(frozen=True)
class LookAlikes:
    """Images that have a far nearer image than distinct images are."""

    compared: int
    """Number of compared images."""
    pairs: list[tuple[int, list[int]]]
    """Index of each such image, and the indices of the images that are far nearer, the nearest first."""

    def explained(self, groups: Sequence[str]) -> bool:
        """Return True if groups, one per image of the source, keep most of the images with similar ones together."""
        together = sum(any(groups[one] == groups[other] for other in others) for one, others in self.pairs)
        return together >= EXPLAINED * len(self.pairs)

    def question(self, items: Sequence[Sample], grouped: bool) -> str:
        """Return the question whether similar images show one object, with examples.

        Args:
            items: images of the source.
            grouped: whether groups are proposed, which do not keep the images together.
        """
        shown = self.pairs[:: max(1, len(self.pairs) // EXAMPLES)][:EXAMPLES]
        examples = "; ".join(f"{items[one].path} and {items[others[0]].path}" for one, others in shown)
        reason = "the proposed groups do not keep them together" if grouped else "no names explain this"
        return (
            f"{len(self.pairs)} of {quantity(self.compared, 'compared image')} have a far nearer image than distinct "
            f"images are, and {reason}: do {examples} show the same object? If so, a random split puts copies of "
            "training images into validation and test: name the object in a column of a table, or in the paths"
        )


def find_look_alikes(
    items: Sequence[Sample], known: dict[int, ImageSignature], most_megapixels: float
) -> LookAlikes | None:
    """Find images with far nearer ones in a sample; None if a large share has none, or if there are too few images.

    Args:
        items: images of the source.
        known: signatures of opened images by index; more are added.
        most_megapixels: maximum number of megapixels opened.
    """
    add_signatures(items, _chosen(items), known, most_megapixels)
    places = np.array(list({known[place].pixels: place for place in sorted(known)}.values()), int)  # no equal images
    if not len(places):
        return None
    detail_NF = image_details(np.stack([known[place].thumbnail.reshape(SIDE, SIDE) for place in places]))
    places = places[detail_NF.any(axis=1)]
    clusters = find_clusters(detail_NF[detail_NF.any(axis=1)], pd.DataFrame({"path": places}))
    if clusters is None or not clusters.exist:
        return None
    found = np.flatnonzero(clusters.near_RR.any(axis=1))
    others = [[clusters.nearest_R[i], *np.flatnonzero(clusters.near_RR[i])] for i in found]
    return LookAlikes(
        len(places), [(int(places[i]), places[near].tolist()) for i, near in zip(found, others, strict=True)]
    )


def _chosen(items: Sequence[Sample]) -> list[int]:
    """Return the indices of all images, or of consecutive ones by number and by name and random ones."""
    if len(items) <= MOST_COMPARED:
        return list(range(len(items)))
    numbers = [int(match[2]) if (match := NUMBER.fullmatch(item.path)) else -1 for item in items]
    start = (len(items) - WINDOW) // 2
    by_number = np.argsort(numbers, kind="stable")[start : start + WINDOW]
    by_name = range(start, start + WINDOW)
    at_random = np.random.default_rng(0).permutation(len(items))
    return list(dict.fromkeys([*by_number.tolist(), *by_name, *at_random.tolist()]))[:MOST_COMPARED]
