"""Out-of-fold pixel classifier: class probabilities of every pixel, with which masks and boxes are compared.

Axes: N images, S side of the downsampled image, C channels, M pixels, F features, K classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from stages.core.shapes import Array, Float, Integer, Shaped, UInt8
from stages.dataset.annotations import IGNORE_INDEX
from stages.probes.cross_validation import folds

SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels of the downsampled image
UNITS = 192  # random features
RIDGE = 1.0
FITTED = 300_000  # approximate number of training pixels


def predict_pixels(
    image_NSSC: UInt8[Array, "N S S C"],
    index_NSS: UInt8[Array, "N S S"],
    groups_N: Shaped[Array, " N"],
    classes: int,
) -> Iterator[tuple[int, Float[Array, "S S {classes}"]]]:
    """Yield the index of each image and its out-of-fold class probabilities, fold by fold.

    The model is ridge regression of class indicators on levels, edges and local variation at four scales and on random
    features of them (Rahimi and Recht 2008). Its outputs are clipped and normalized to probabilities.

    Args:
        image_NSSC: downsampled images.
        index_NSS: class of each pixel, or `IGNORE_INDEX`.
        groups_N: group of each image; at least two groups.
        classes: number of classes.
    """
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(image_NSSC))[:50]
    sample_MF = np.concatenate([_features(image_NSSC[n])[::49] for n in chosen])
    mean_F, scale_F = sample_MF.mean(axis=0), sample_MF.std(axis=0) + 1e-6
    weight_FU = rng.normal(size=(len(mean_F), UNITS)).astype(np.float32) / np.float32(np.sqrt(len(mean_F)))
    bias_U = rng.uniform(-1, 1, UNITS).astype(np.float32)

    def expanded(feature_MF: Float[Array, "M F"]) -> Float[Array, "M _"]:
        x_MF = (feature_MF - mean_F) / scale_F
        return np.concatenate([np.ones_like(x_MF[:, :1]), x_MF, np.maximum(x_MF @ weight_FU + bias_U, 0)], axis=1)

    parts = [held_out for _, held_out in folds(groups_N)]
    sums = [_sums(image_NSSC, index_NSS, part, classes, expanded) for part in parts]
    inner, outer = sum(one for one, _ in sums), sum(other for _, other in sums)
    for part, (own_inner, own_outer) in zip(parts, sums, strict=True):
        coefficient = np.linalg.solve(inner - own_inner + RIDGE * np.eye(len(own_inner)), outer - own_outer)
        coefficient = coefficient.astype(np.float32)
        for n in part:
            p = np.clip(expanded(_features(image_NSSC[n])) @ coefficient, 0.001, 1)
            yield int(n), (p / p.sum(axis=1, keepdims=True)).reshape(*index_NSS.shape[1:], classes)


def _sums(
    image_NSSC: UInt8[Array, "N S S C"],
    index_NSS: UInt8[Array, "N S S"],
    part: Integer[Array, " T"],
    classes: int,
    expanded: Callable[[Array], Array],
) -> tuple[Float[Array, "F F"], Float[Array, "F {classes}"]]:
    """Return the matrices X'X and X'Y of the normal equations, from random known pixels of each image of a fold."""
    rng, each = np.random.default_rng(1), max(64, FITTED // len(image_NSSC))
    inner: Any = 0.0
    outer: Any = 0.0
    for n in part:
        chosen = rng.permutation(np.flatnonzero(index_NSS[n].ravel() != IGNORE_INDEX))[:each]
        x = expanded(_features(image_NSSC[n])[chosen]).astype(np.float64)
        inner = inner + x.T @ x
        outer = outer + x.T @ np.eye(classes)[index_NSS[n].ravel()[chosen]]
    return inner, outer


def _features(image_SSC: UInt8[Array, "S S C"]) -> Float[Array, "M F"]:
    """Return levels, edges and local variation of one image, pixel by pixel."""
    level_SSC = image_SSC.astype(np.float32) / 255
    grey_SS = level_SSC.mean(axis=2)
    middle, spread = grey_SS.mean(), grey_SS.std() + 0.01
    maps = [*np.moveaxis(level_SSC, 2, 0), (grey_SS - middle) / spread]  # also relative to the image
    for scale in SCALES:
        smooth_SSC = gaussian_filter(level_SSC, (scale, scale, 0), truncate=3)
        smooth_SS = smooth_SSC.mean(axis=2)
        maps += [*np.moveaxis(smooth_SSC, 2, 0), (smooth_SS - middle) / spread, np.hypot(*np.gradient(smooth_SS))]
        maps.append(np.sqrt(np.maximum(gaussian_filter(grey_SS**2, scale, truncate=3) - smooth_SS**2, 0)))
    return np.stack([feature.ravel() for feature in maps], axis=1)
