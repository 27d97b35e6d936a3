"""Image features from random patches, without a network and without pretrained weights.

Whitened random patches of the images are used as filters; the positive and negative responses are averaged over the
quarters of a thumbnail. A linear model on these features is a good classifier on a CPU (Coates, Ng and Lee 2011, "An
analysis of single-layer networks in unsupervised feature learning"; Recht et al. 2019, "Do ImageNet classifiers
generalize to ImageNet?").
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from stages.core.shapes import Array, Float, Integer, UInt8
from stages.dataset.manifest import decode_images
from stages.images.decode import to_channels
from stages.images.image_statistics import to_grey, to_uint8

SIDE = 32  # pixels of a thumbnail
PATCH = 6  # pixels of a filter
FILTERS = 128  # twice as many improve the score by one or two points at twice the time
PATCHES = 40_000  # for estimating the whitening
FLOOR = 10.0  # grey levels squared, added to the variance of a patch
SMOOTHING = 0.1  # added to the variances of the whitening, so that noise is not amplified
BIAS = 0.25  # subtracted from the absolute response
CHUNK = 32  # images per batch, about 50 MB


def image_features(
    rows: pd.DataFrame, folder: Path, filters: int = FILTERS, seed: int = 0
) -> Float[Array, "N {8*filters}"]:
    """Return responses of filters that are learned from the images of manifest rows.

    Args:
        rows: N manifest rows.
        folder: output folder of ingest.
        filters: number of filters; there are 8 times as many features (two signs, four quarters).
        seed: seed of the random patches.

    Returns:
        Features, float32, non-negative.
    """
    return thumbnail_features(thumbnails_of(rows, folder), filters, seed)


def thumbnails_of(rows: pd.DataFrame, folder: Path) -> UInt8[Array, "N 32 32 C"]:
    """Return thumbnails of manifest rows: in colour (C = 3) if any image has three channels, else grey (C = 1)."""
    colour = bool((rows["channels"] == 3).any())
    small = np.empty((len(rows), SIDE, SIDE, 3 if colour else 1), np.uint8)
    for place, picture in zip(small, decode_images(rows, folder), strict=True):
        place[:] = to_square(picture.image, SIDE, place.shape[2])
    return small


def to_square(image: Integer[Array, "H W *C"], side: int, channels: int) -> UInt8[Array, "{side} {side} {channels}"]:
    """Return an image as an 8-bit square; images with two or more than three channels become grey.

    Args:
        image: image with 8 or 16 bits.
        side: side of the square, pixels.
        channels: 1 or 3.
    """
    odd = image.ndim == 3 and image.shape[2] not in (1, 3)
    image_HWC = to_channels(to_grey(image) if odd else to_uint8(image), channels)
    whole = Image.fromarray(image_HWC if channels == 3 else image_HWC[:, :, 0])
    resized: UInt8[Array, ...] = np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR))
    return resized.reshape(side, side, channels)


def thumbnail_features(
    small_NHWC: UInt8[Array, "N H W C"], filters: int = FILTERS, seed: int = 0
) -> Float[Array, "N {8*filters}"]:
    """Return float32 features of thumbnails: responses of filters that are learned from them.

    Args:
        small_NHWC: thumbnails.
        filters: number of filters.
        seed: seed of the random patches.
    """
    filter_PK, offset_K = _learn_filters(small_NHWC, filters, np.random.default_rng(seed))
    return filter_responses(small_NHWC, filter_PK, offset_K)


def filter_responses(
    small_NHWC: UInt8[Array, "N H W C"], filter_PK: Float[Array, "P K"], offset_K: Float[Array, " K"]
) -> Float[Array, "N 8*K"]:
    """Return pooled float32 responses of K filters to thumbnails.

    Args:
        small_NHWC: thumbnails.
        filter_PK: filters over patches of P values.
        offset_K: values subtracted from the responses.
    """
    features = np.empty((len(small_NHWC), 8 * len(offset_K)), np.float32)
    for first in range(0, len(small_NHWC), CHUNK):
        patch_NYXP = _normalized(sliding_window_view(small_NHWC[first : first + CHUNK], (PATCH, PATCH), axis=(1, 2)))
        response_NYXK = patch_NYXP @ filter_PK - offset_K
        middle = response_NYXK.shape[1] // 2
        quarters = [response_NYXK[:, y, x] for y in _halves(middle) for x in _halves(middle)]
        pooled = []
        for quarter in quarters:
            above = np.maximum(quarter - BIAS, 0).mean(axis=(1, 2))
            below = np.maximum(-quarter - BIAS, 0).mean(axis=(1, 2))
            pooled += [above, below]
        features[first : first + CHUNK] = np.concatenate(pooled, axis=1)
    return features


def _halves(middle: int) -> tuple[slice, slice]:
    return slice(None, middle), slice(middle, None)


def _normalized(window: UInt8[Array, "*N C h w"]) -> Float[Array, "*N C*h*w"]:
    """Return patches [..., C, h, w] as float32 [..., P] with zero mean and about unit variance, less if flat."""
    patch = window.reshape(*window.shape[:-3], -1).astype(np.float32)
    patch -= patch.mean(axis=-1, keepdims=True)
    patch /= np.sqrt((patch**2).mean(axis=-1, keepdims=True) + FLOOR)
    return patch


def _learn_filters(
    small_NHWC: UInt8[Array, "N H W C"], filters: int, rng: np.random.Generator
) -> tuple[Float[Array, "P K"], Float[Array, " K"]]:
    """Return the weights and offsets of a linear map that combines ZCA whitening and comparison with K patches."""
    count, side = len(small_NHWC), small_NHWC.shape[1] - PATCH + 1
    windows = sliding_window_view(small_NHWC, (PATCH, PATCH), axis=(1, 2))
    image, y, x = rng.integers(count, size=PATCHES), rng.integers(side, size=PATCHES), rng.integers(side, size=PATCHES)
    patch_NP = _normalized(windows[image, y, x])
    mean = patch_NP.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(patch_NP.T))
    whitening = (axes / np.sqrt(np.maximum(variance, 0) + SMOOTHING)) @ axes.T
    white_NP = (patch_NP - mean) @ whitening
    length = np.linalg.norm(white_NP, axis=1)
    textured = np.flatnonzero(length > length.max() / 1000)
    chosen = rng.choice(textured if len(textured) else PATCHES, filters, replace=len(textured) < filters)
    unit = white_NP[chosen] / np.maximum(length[chosen, None], 1e-9)
    filter_PK = (whitening @ unit.T).astype(np.float32)
    return filter_PK, (mean @ filter_PK).astype(np.float32)
