"""Sampling probabilities of tiles that prefer those with rare labels (Isensee et al. 2021, "nnU-Net")."""

from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.core.shapes import Array, Float
from stages.dataset.annotations import IGNORE_INDEX


def foreground_probabilities(target_NSS: Any, labels: int, share: float) -> Float[Array, " N"]:
    """Return the sampling probability of each tile, with sum 1.

    With probability `share` a tile is drawn among those with foreground: one of the labels that occur, without the one
    with the most pixels, is drawn uniformly, and then one of the tiles with this label. Otherwise one of all tiles is
    drawn uniformly:

        p_n = share * mean over labels k of [tile n contains k] / (tiles that contain k) + (1 - share) / N

    Args:
        target_NSS: label images, an array or a memory-mapped file; `IGNORE_INDEX` marks unknown pixels.
        labels: number of labels.
        share: share of draws among the tiles with foreground, 0 to 1.

    Raises:
        UserError: no tile contains a second label.

    >>> tile_NSS = np.zeros((4, 2, 2), np.uint8)
    >>> tile_NSS[0, 0, 0], tile_NSS[1, 0, 0], tile_NSS[1, 1, 1] = 1, 1, 2
    >>> foreground_probabilities(tile_NSS, labels=3, share=0.5).tolist()
    [0.25, 0.5, 0.125, 0.125]
    """
    pixels_NK = np.stack([_pixels(np.asarray(label_SS), labels) for label_SS in target_NSS])
    pixels_K = pixels_NK.sum(axis=0)
    rarer_K = (pixels_K > 0) & (np.arange(labels) != pixels_K.argmax())
    if not rarer_K.any():
        raise UserError(
            f"train.foreground_share: {share:g}, but all {len(pixels_NK):,} training tiles contain one label only; "
            "use 0"
        )
    contains_NR = pixels_NK[:, rarer_K] > 0
    foreground_N = (contains_NR / contains_NR.sum(axis=0)).mean(axis=1)
    return share * foreground_N + (1 - share) / len(pixels_NK)


def _pixels(label_SS: Any, labels: int) -> Any:
    return np.bincount(label_SS[label_SS != IGNORE_INDEX], minlength=labels)
