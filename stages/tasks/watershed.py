"""Things out of a map of background, interior and boundary: seeds in the interiors, grown over the foreground.

As with the U-Net of Caicedo et al. 2019, "Nucleus segmentation across imaging experiments".
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SMALLEST = 6  # pixels of an interior; smaller ones are noise
LEAST = 0.5  # probability of interior and boundary together that counts as foreground
STEPS = 255  # of the relief


def pieces(probability_3HW: Array) -> tuple[Array, Array]:
    """Number of the thing at each pixel, 0 for none, [H, W]; and the mean foreground probability of each, [M]."""
    from scipy import ndimage

    foreground_HW = probability_3HW[1] + probability_3HW[2]
    interior_HW = probability_3HW.argmax(axis=0) == 1
    seed_HW, count = ndimage.label(interior_HW)
    sizes = ndimage.sum_labels(interior_HW, seed_HW, np.arange(1, count + 1)) if count else np.zeros(0)
    kept = np.flatnonzero(sizes >= SMALLEST) + 1
    renumbered = np.zeros(count + 1, np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    seed_HW = renumbered[seed_HW]
    if not len(kept):
        return seed_HW, np.zeros(0, np.float32)
    beyond = len(kept) + 1  # the background floods too, so that things end where it begins
    marker_HW = np.where((foreground_HW < LEAST) & (seed_HW == 0), beyond, seed_HW)
    relief_HW = ((1 - probability_3HW[1]) * STEPS).astype(np.uint8)
    grown_HW = ndimage.watershed_ift(relief_HW, marker_HW.astype(np.int32))
    piece_HW = np.where(grown_HW == beyond, 0, grown_HW)
    score_M = ndimage.mean(foreground_HW, piece_HW, np.arange(1, len(kept) + 1))
    return piece_HW, np.asarray(score_M, np.float32)
