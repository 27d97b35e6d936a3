"""Directions in which annotated figures lie, to propose rotations: an animal seen from above may lie in any direction.

Axes: N images, P points. Points are complex numbers, x + iy.
"""

from collections.abc import Sequence

import numpy as np

from stages.core.shapes import Array, Float, Shaped
from stages.dataset.annotations import Annotation

MIN_FIGURES = 16  # figures with at least two visible points
SECTORS = 8  # of 45 degrees
MIN_SHARE = 0.02  # of the figures in a sector that counts as covered
MIN_COVERED = 5  # sectors from which any direction is assumed: more than a half turn, as in short recordings
MAX_UPRIGHT = 2  # sectors that figures of one direction cover
MIN_FIT = 0.5  # share of the squared distances from the centre that the rotated mean figure explains
ITERATIONS = 10


def covered_sectors(annotations: Sequence[Annotation]) -> int | None:
    """Return in how many of `SECTORS` directions the annotated figures lie; None if this cannot be measured.

    Each figure is rotated onto the mean figure (generalized Procrustes analysis without reflection, Gower 1975). This
    requires `MIN_FIGURES` figures of a similar shape; without it, their directions are not defined.
    """
    names = list(next((one.points for one in annotations if one.points), {}))
    figures = [[_complex((one.points or {}).get(name)) for name in names] for one in annotations]
    z_NP = np.array(figures, complex).reshape(len(annotations), len(names))
    z_NP = z_NP[np.isfinite(z_NP).sum(axis=1) >= 2]
    if len(z_NP) < MIN_FIGURES:
        return None
    z_NP = z_NP - np.nanmean(z_NP, axis=1, keepdims=True)
    size_N = np.sqrt(np.nanmean(np.abs(z_NP) ** 2, axis=1))
    z_NP = np.nan_to_num(z_NP[size_N > 0] / size_N[size_N > 0, None])  # a missing point has weight 0
    turn_N, fit = _align(z_NP)
    if len(z_NP) < MIN_FIGURES or fit < MIN_FIT:
        return None
    sector_N = np.floor((np.angle(turn_N) / (2 * np.pi) % 1) * SECTORS).astype(int) % SECTORS
    return int((np.bincount(sector_N, minlength=SECTORS) >= max(1, MIN_SHARE * len(z_NP))).sum())


def _complex(xy: tuple[float, float] | None) -> complex:
    return complex(np.nan, np.nan) if xy is None else complex(*xy)


def _align(z_NP: Shaped[Array, "N P"]) -> tuple[Shaped[Array, " N"], float]:
    """Return the rotation of each figure against the mean figure, as unit numbers, and how well the mean fits."""
    mean_P = z_NP[np.argmax((z_NP != 0).sum(axis=1))]
    turn_N = np.ones(len(z_NP), complex)
    for _ in range(ITERATIONS):
        turn_N = _unit(z_NP @ mean_P.conj())
        mean_P = (turn_N.conj() @ z_NP) / np.maximum((z_NP != 0).sum(axis=0), 1)
    explained_NP = np.abs(z_NP - turn_N[:, None] * np.where(z_NP != 0, mean_P, 0)) ** 2
    return turn_N, float(1 - explained_NP.sum() / max(float((np.abs(z_NP) ** 2).sum()), 1e-9))


def _unit(values_N: Shaped[Array, " N"]) -> Shaped[Array, " N"]:
    length_N: Float[Array, " N"] = np.abs(values_N)
    return np.where(length_N > 0, values_N / np.maximum(length_N, 1e-12), 1)
