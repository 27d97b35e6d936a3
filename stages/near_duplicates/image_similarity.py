"""How alike two pictures are when looked at: details at 16x16 pixels, as they are, mirrored, and slightly cropped.

Axes: N pictures, P pairs, F = 256 values of a picture.
"""

from itertools import product
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from stages.images.image_statistics import to_grey

SIDE = 32  # pixels of a thumbnail; its details are compared at half of that
SMOOTH = 2.0  # pixels of 16; what is smoother (light, a bright disc on black) two pictures of one device share
FLAT = 0.5  # grey levels; with less detail than that nothing but noise would be compared
SHARES = (0.975, 0.95, 0.925)  # of a side, left by a crop
PLACES = (0.0, 0.5, 1.0)  # where the crop was: from the start to the end
WINDOWS = 2 * len(SHARES) * len(PLACES) ** 2  # through which a pair is looked at
AT_ONCE = 2000  # pairs

Array = np.ndarray[Any, Any]


def thumbnail(image: Array) -> Array:
    """uint8 [32, 32] grey, whatever the shape."""
    return np.asarray(Image.fromarray(to_grey(image)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def details(thumb_NHW: Array) -> Array:
    """[N, 256] of thumbnails [N, 32, 32]: without what is smooth, zero mean, length 1; all zero where it is flat."""
    return _unit(thumb_NHW.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4), dtype=np.float32))


def _unit(small_NHW: Array) -> Array:
    smooth = gaussian_filter1d(small_NHW, SMOOTH, axis=-1, mode="nearest")
    rest = (small_NHW - gaussian_filter1d(smooth, SMOOTH, axis=-2, mode="nearest")).reshape(-1, 256)
    rest -= rest.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.where(length < FLAT * 16, 0, rest / np.maximum(length, 1e-6))


def mirrored(details_NF: Array) -> Array:
    """The details of the pictures seen in a mirror."""
    return details_NF.reshape(-1, 16, 16)[:, :, ::-1].reshape(len(details_NF), -1)


def correlations(details_NF: Array, pairs_P2: Array) -> tuple[Array, Array]:
    """[P] correlation of the details, and [P] that of one with the other in a mirror."""
    parts = np.split(pairs_P2, range(AT_ONCE, len(pairs_P2), AT_ONCE))
    one, other = (
        np.concatenate([(f(details_NF[p[:, 0]]) * details_NF[p[:, 1]]).sum(axis=1) for p in parts])
        for f in (lambda d: d, mirrored)
    )
    return one, other


def aligned(thumb_NHW: Array, pairs_P2: Array, mirror_P: Array) -> Array:
    """[P] highest correlation of one picture with a part of the other: where one is slightly cropped."""
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


def _through_windows(whole_PHW: Array, part_PHW: Array) -> Array:
    part_PF = details(part_PHW)
    highest = np.full(len(part_PF), -1.0)
    for share, top in product(SHARES, PLACES):
        rows = _window(share, top) @ whole_PHW
        for left in PLACES:
            highest = np.maximum(highest, (_unit(rows @ _window(share, left).T) * part_PF).sum(axis=1))
    return highest


def _window(share: float, place: float) -> Array:
    """[16, 32]: averages that shrink the `share` of a line beginning at `place` (0 its start, 1 its end) to 16."""
    edges = place * (1 - share) * SIDE + np.arange(17) * share * SIDE / 16
    pixel = np.arange(SIDE)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(covered, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
