"""Similarity of two images: correlation of their details, upright, mirrored and slightly cropped.

The details of an image are its grey levels at 16x16 pixels, high-pass filtered, as a unit vector of 256 values.

Axes: N images, P pairs, F = 256 values of an image.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from stages.core.shapes import Array, Bool, Float, Integer, Real, UInt8
from stages.images.image_statistics import to_grey

SIDE = 32  # width and height of a thumbnail, pixels; details are compared at half of this size
SMOOTH = 2.0  # standard deviation, pixels of 16; coarser structure is removed, because images of one device share it
FLAT = 0.5  # grey levels, root mean square; images with less detail are not compared
SHARES = (0.975, 0.95, 0.925)  # side lengths of a crop, as shares of the image
PLACES = (0.0, 0.5, 1.0)  # positions of the crop, from start to end
WINDOWS = 2 * len(SHARES) * len(PLACES) ** 2  # crops that are compared for each pair
AT_ONCE = 2000  # pairs or images per batch


def grey_thumbnail(image: Integer[Array, "H W *C"]) -> UInt8[Array, "32 32"]:
    """Return a grey thumbnail of an image."""
    return np.asarray(Image.fromarray(to_grey(image)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def image_details(thumb_NHW: Real[Array, "N 32 32"]) -> Float[Array, "N 256"]:
    """Return the details of thumbnails; all values are zero for images with almost no detail."""
    return _unit(thumb_NHW.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4), dtype=np.float32))


def _unit(small_NHW: Float[Array, "N 16 16"]) -> Float[Array, "N 256"]:
    smooth = gaussian_filter1d(small_NHW, SMOOTH, axis=-1, mode="nearest")
    rest = (small_NHW - gaussian_filter1d(smooth, SMOOTH, axis=-2, mode="nearest")).reshape(-1, 256)
    rest -= rest.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.where(length < FLAT * 16, 0, rest / np.maximum(length, 1e-6))


def mirrored(details_NF: Float[Array, "N 256"]) -> Float[Array, "N 256"]:
    """Return the details of the mirrored images."""
    return details_NF.reshape(-1, 16, 16)[:, :, ::-1].reshape(len(details_NF), -1)


def correlations(
    details_NF: Float[Array, "N 256"], pairs_P2: Integer[Array, "P 2"]
) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
    """Return the correlation of each pair of images, and the correlation after mirroring one of the two."""
    parts = np.split(pairs_P2, range(AT_ONCE, len(pairs_P2), AT_ONCE))
    one, other = (
        np.concatenate([(f(details_NF[p[:, 0]]) * details_NF[p[:, 1]]).sum(axis=1) for p in parts])
        for f in (lambda d: d, mirrored)
    )
    return one, other


def cropped_correlation(
    thumb_NHW: UInt8[Array, "N 32 32"], pairs_P2: Integer[Array, "P 2"], mirror_P: Bool[Array, " P"]
) -> Float[Array, " P"]:
    """Return the highest correlation of one image with a crop of the other, for each pair.

    Args:
        thumb_NHW: thumbnails.
        pairs_P2: indices of the pairs.
        mirror_P: True for pairs in which one image is mirrored.
    """
    best = [np.empty(0)]
    for p, mirror in zip(
        np.split(pairs_P2, range(AT_ONCE, len(pairs_P2), AT_ONCE)),
        np.split(mirror_P, range(AT_ONCE, len(mirror_P), AT_ONCE)),
        strict=True,
    ):
        one, other = thumb_NHW[p[:, 0]].astype(np.float32), thumb_NHW[p[:, 1]].astype(np.float32)
        one = np.where(mirror[:, None, None], one[:, :, ::-1], one)
        best.append(np.maximum(_through_windows(one, other), _through_windows(other, one)))
    return np.concatenate(best)


def _through_windows(whole_PHW: Float[Array, "P 32 32"], part_PHW: Float[Array, "P 32 32"]) -> Float[Array, " P"]:
    part_PF = image_details(part_PHW)
    highest = np.full(len(part_PF), -1.0)
    for crop_PF in crop_details(whole_PHW, SHARES, PLACES):
        highest = np.maximum(highest, (crop_PF * part_PF).sum(axis=1))
    return highest


def crop_details(
    thumb_NHW: Float[Array, "N 32 32"], shares: Sequence[float], places: Sequence[float]
) -> Iterator[Float[Array, "N 256"]]:
    """Yield the details of all thumbnails after each crop.

    Args:
        thumb_NHW: thumbnails.
        shares: side lengths of the crops, as shares of the image.
        places: vertical and horizontal positions of the crops, 0 (start) to 1 (end).
    """
    for share, top in product(shares, places):
        rows_NHW = _window(share, top) @ thumb_NHW
        for left in places:
            yield _unit(rows_NHW @ _window(share, left).T)


def _window(share: float, place: float) -> Float[Array, "16 32"]:
    """Return a matrix that averages a `share` of 32 pixels at `place` (0: start, 1: end) to 16 values."""
    edges = place * (1 - share) * SIDE + np.arange(17) * share * SIDE / 16
    pixel = np.arange(SIDE)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(covered, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
