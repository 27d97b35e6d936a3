"""Similarity of images within candidate groups, compared with unrelated images.

Axes: N images, F features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Integer
from stages.images.decode import Unreadable, decode_image
from stages.images.image_metadata import pixel_digest
from stages.images.image_statistics import to_grey, to_uint8
from stages.importers.sample import Sample

Pairs = Sequence[tuple[int, int]]
SIDE = 32  # side of a thumbnail, pixels
SURE = 3.3  # standard errors above chance level
MOST_PAIRS = 4000


@dataclass(frozen=True)
class ImageSignature:
    """Statistics of an opened image."""

    thumbnail: Float[Array, " 1024"]
    """Grey thumbnail, SIDE x SIDE pixels."""
    tone: Float[Array, " 6"]
    """Means and standard deviations of the first three channels, 0 to 255; those of fewer channels are repeated."""
    pixels: str
    """Digest of the decoded pixels."""
    megapixels: float


def compute_signature(image: Integer[Array, "H W *C"]) -> ImageSignature:
    """Compute the statistics of a decoded image."""
    small = Image.fromarray(to_grey(image)).resize((SIDE, SIDE), Image.Resampling.BOX)
    levels_XC = to_uint8(image).reshape(image.shape[0] * image.shape[1], -1)[:, :3].astype(np.float32)
    tone = np.resize(np.stack([levels_XC.mean(axis=0), levels_XC.std(axis=0)]), (2, 3)).ravel()
    digest = pixel_digest(image)
    return ImageSignature(np.asarray(small, np.float32).ravel(), tone, digest, image.shape[0] * image.shape[1] / 1e6)


def add_signatures(
    items: Sequence[Sample], places: Iterable[int], known: dict[int, ImageSignature], most_megapixels: float
) -> None:
    """Add signatures of more images to `known`, up to a limit of megapixels; skip unreadable images.

    Args:
        items: images of the source.
        places: indices of the images to open.
        known: signatures by index; modified in place.
        most_megapixels: after so many decoded megapixels, no further image is opened; larger images are skipped.
    """
    room = most_megapixels
    for place in places:
        if place not in known and room > 0:
            try:
                known[place] = compute_signature(decode_image(items[place].read(), most_megapixels).image)
            except (Unreadable, OSError):  # reported by `inspect_images` and by ingest
                continue
            room -= known[place].megapixels


@dataclass(frozen=True)
class SimilarityEvidence:
    """Comparison of image pairs within groups with unrelated pairs."""

    by: str
    """Compared property: `picture` or `tone`."""
    auc: float
    """Probability that a pair is more similar than an unrelated pair (AUC, 0 to 1)."""
    within: float
    """Median correlation of the thumbnails of a pair, or median difference in tone, grey levels."""
    between: float
    """The same for unrelated pairs."""
    pairs: int

    @property
    def significant(self) -> bool:
        """True if the AUC is significantly above 0.5; its standard error by chance is about 1 / sqrt(12 pairs)."""
        return (self.auc - 0.5) * (12 * self.pairs) ** 0.5 >= SURE

    def __str__(self) -> str:
        return describe_comparison(self.by, self.auc, self.within, self.between, self.pairs)


def describe_comparison(by: str, auc: float, within: float, between: float, pairs: int) -> str:
    """Describe a comparison of related and unrelated pairs of images.

    Args:
        by: compared property: `picture` or `tone`.
        auc: probability that a related pair is more similar than an unrelated one.
        within: median correlation, or median difference in tone, of related pairs.
        between: the same for unrelated pairs.
        pairs: number of related pairs.
    """
    ending = "s" if pairs == 1 else ""
    verb, preposition = (f"correlate{ending}", "at") if by == "picture" else (f"differ{ending} in tone", "by")
    return (
        f"{quantity(pairs, 'pair')} {verb} {preposition} {within:.2f}, unrelated images {preposition} "
        f"{between:.2f}; a pair is more similar than unrelated images in {auc:.0%} of the comparisons"
    )


def compare_pairs(known: dict[int, ImageSignature], pairs: Pairs, unrelated: Pairs) -> list[SimilarityEvidence]:
    """Compare pairs with unrelated pairs by thumbnail and by tone.

    Args:
        known: signatures by index.
        pairs: index pairs within groups.
        unrelated: index pairs of unrelated images.

    Returns:
        One comparison per property; empty if no pair or no unrelated pair was opened.
    """
    within, between = ([(a, b) for a, b in some if a in known and b in known] for some in (pairs, unrelated))
    if not within or not between:
        return []
    thinned = between[:: max(1, len(between) // MOST_PAIRS)]
    places = sorted(known)
    row = {place: i for i, place in enumerate(places)}
    thumbnail_NF = np.stack([known[place].thumbnail for place in places])
    thumbnail_NF = thumbnail_NF - thumbnail_NF.mean(axis=0)  # removes the background of a static camera
    thumbnail_NF -= thumbnail_NF.mean(axis=1, keepdims=True)
    thumbnail_NF /= np.maximum(np.linalg.norm(thumbnail_NF, axis=1, keepdims=True), 1e-6)
    tone_NF = np.stack([known[place].tone for place in places])

    def similarities(some: Pairs) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
        one, other = (np.array([row[pair[i]] for pair in some]) for i in (0, 1))
        alike = (thumbnail_NF[one] * thumbnail_NF[other]).sum(axis=1)
        return alike, np.abs(tone_NF[one] - tone_NF[other]).mean(axis=1)

    found = []
    for by, sign, near, far in zip(
        ("picture", "tone"), (1, -1), similarities(within), similarities(thinned), strict=True
    ):
        auc = float((np.sign(sign * (near[:, None] - far[None])) + 1).mean() / 2)
        found.append(SimilarityEvidence(by, auc, float(np.median(near)), float(np.median(far)), len(within)))
    return found
