"""How alike images are that may belong together, against images that do not.

Axes: N images, F features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stages.images.decode import Unreadable, decode_image
from stages.images.image_metadata import pixel_digest
from stages.images.image_statistics import to_grey, to_uint8
from stages.importers.sample import Sample

Array = np.ndarray[Any, Any]
Pairs = Sequence[tuple[int, int]]
SIDE = 32  # pixels of a thumbnail
SURE = 3.3  # standard errors above chance
MOST_PAIRS = 4000


@dataclass(frozen=True)
class Glance:
    """What is kept of an image that was opened."""

    thumbnail: Array
    """float32 [SIDE * SIDE], grey."""
    tone: Array
    """Mean and deviation of each of three channels, 0 to 255."""
    pixels: str
    """Digest of its decoded pixels."""
    megapixels: float


def glance(image: Array) -> Glance:
    """Of a decoded image."""
    small = Image.fromarray(to_grey(image)).resize((SIDE, SIDE), Image.Resampling.BOX)
    levels_XC = to_uint8(image).reshape(image.shape[0] * image.shape[1], -1)[:, :3].astype(np.float32)
    tone = np.resize(np.stack([levels_XC.mean(axis=0), levels_XC.std(axis=0)]), (2, 3)).ravel()
    digest = pixel_digest(image)
    return Glance(np.asarray(small, np.float32).ravel(), tone, digest, image.shape[0] * image.shape[1] / 1e6)


def opened(items: Sequence[Sample], places: Iterable[int], known: dict[int, Glance], most_megapixels: float) -> None:
    """Add what is seen of more images to `known`, by place, until so many megapixels were read; bad ones are passed."""
    room = most_megapixels
    for place in places:
        if place not in known and room > 0:
            try:
                known[place] = glance(decode_image(items[place].read(), most_megapixels).image)
            except (Unreadable, OSError):  # facts say so of those that they look at, ingest of all
                continue
            room -= known[place].megapixels


@dataclass(frozen=True)
class Evidence:
    """Whether pairs are more alike than strangers."""

    by: str
    """picture or tone."""
    auc: float
    """Of a pair and two strangers: how often the pair is more alike."""
    within: float
    """Correlation of the pictures of a pair, median; or distance in tone, grey levels."""
    between: float
    """Of strangers."""
    pairs: int

    @property
    def sure(self) -> bool:
        """Hardly by chance: an AUC of pairs that do not differ has a standard error of some 1 / sqrt(12 pairs)."""
        return (self.auc - 0.5) * (12 * self.pairs) ** 0.5 >= SURE

    def __str__(self) -> str:
        unit = "correlate at" if self.by == "picture" else "differ in tone by"
        return (
            f"{self.pairs} pairs {unit} {self.within:.2f}, strangers {self.between:.2f}; "
            f"{self.auc:.0%} of the time a pair is more alike than strangers"
        )


def evidence(known: dict[int, Glance], pairs: Pairs, strangers: Pairs) -> list[Evidence]:
    """By picture and by tone; empty where too few of the images were opened."""
    within, between = ([(a, b) for a, b in some if a in known and b in known] for some in (pairs, strangers))
    if not within or not between:
        return []
    thinned = between[:: max(1, len(between) // MOST_PAIRS)]
    places = sorted(known)
    row = {place: i for i, place in enumerate(places)}
    thumbnail_NF = np.stack([known[place].thumbnail for place in places])
    thumbnail_NF = thumbnail_NF - thumbnail_NF.mean(axis=0)  # without what a standing camera sees in every picture
    thumbnail_NF -= thumbnail_NF.mean(axis=1, keepdims=True)
    thumbnail_NF /= np.maximum(np.linalg.norm(thumbnail_NF, axis=1, keepdims=True), 1e-6)
    tone_NF = np.stack([known[place].tone for place in places])

    def of(some: Pairs) -> tuple[Array, Array]:
        one, other = (np.array([row[pair[i]] for pair in some]) for i in (0, 1))
        alike = (thumbnail_NF[one] * thumbnail_NF[other]).sum(axis=1)
        return alike, np.abs(tone_NF[one] - tone_NF[other]).mean(axis=1)

    found = []
    for by, sign, near, far in zip(("picture", "tone"), (1, -1), of(within), of(thinned), strict=True):
        auc = float((np.sign(sign * (near[:, None] - far[None])) + 1).mean() / 2)
        found.append(Evidence(by, auc, float(np.median(near)), float(np.median(far)), len(within)))
    return found
