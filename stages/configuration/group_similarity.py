"""Similarity of images within candidate groups, compared with unrelated images.

Axes: N images, F features.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float
from stages.images.decode import DecodedImage, Unreadable, decode_image
from stages.images.image_metadata import pixel_digest
from stages.images.image_statistics import channel_histograms, moments, to_grey, to_uint8
from stages.importers.sample import Sample

Pairs = Sequence[tuple[int, int]]
SIDE = 32  # side of a thumbnail, pixels
LEAST_SIDE = 384  # a JPEG is decoded at a scale at which both sides remain at least this, pixels
REDUCED_COST = 4.0  # pixels of a reduced JPEG that take as long to decode as one of another image
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
    """Digest of the decoded pixels, of a reduced image with that of the file: equal only for equal images."""
    megapixels: float
    """Number of decoded pixels, 10^6; those of a reduced image in the file, divided by `REDUCED_COST`."""


def decode_for_signature(data: bytes, max_megapixels: float) -> DecodedImage:
    """Decode an image at the smallest scale that suffices for statistics of the image.

    Raises:
        Unreadable: see `decode_image`.
    """
    return decode_image(data, max_megapixels, least_side=LEAST_SIDE)


def compute_signature(decoded: DecodedImage, data: bytes) -> ImageSignature:
    """Compute the statistics of a decoded image.

    Args:
        decoded: result of `decode_for_signature`.
        data: content of the file.
    """
    image = to_uint8(decoded.image)
    colour = Image.fromarray(image) if image.shape[2:] == (3,) else None
    grey = Image.fromarray(to_grey(image)) if colour is None else colour.convert("L")
    small = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    histograms = channel_histograms(image)[:3]
    mean, std = np.array([moments(counts) for counts in histograms], np.float32).T
    tone = np.concatenate([np.resize(mean, 3), np.resize(std, 3)])
    digest = pixel_digest(decoded.image)
    if decoded.stored_size:  # reduced images can be equal although the images differ
        digest += hashlib.sha256(data).hexdigest()[:16]
    height, width = decoded.size
    megapixels = height * width / 1e6 / (REDUCED_COST if decoded.stored_size else 1)
    return ImageSignature(np.asarray(small, np.float32).ravel(), tone, digest, megapixels)


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
                data = items[place].read()
                known[place] = compute_signature(decode_for_signature(data, most_megapixels), data)
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
    verb, preposition = (
        (f"correlate{ending}", "at") if by == "picture" else (f"differ{ending} in brightness and contrast", "by")
    )
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
