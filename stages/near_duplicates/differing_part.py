"""Part of the image in which two near-duplicates differ: copies differ little everywhere, objects in one place."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Float, UInt8
from stages.dataset.manifest import decode_images
from stages.near_duplicates.image_similarity import SIDE, grey_thumbnail

REFITS = 4  # regressions of one image on the other, each on the half of the pixels that differ least
CELLS = 8  # cells per side in which differences are averaged
MIN_DIFFERENCE = 0.5  # mean difference of a cell, as a share of the contrast of the image
MIN_LOCAL = 4.0  # the same, as a multiple of that of the median cell
MAX_PAIRS = 100  # pairs that are compared


def cell_differences(one: UInt8[Array, "32 32"], other: UInt8[Array, "32 32"]) -> Float[Array, "8 8"]:
    """Return the mean difference in each cell after equalizing brightness and contrast, as a share of the contrast.

    Args:
        one: thumbnail of an image.
        other: thumbnail of another image.
    """
    x, y = one.ravel().astype(float), other.ravel().astype(float)
    gain, offset = 1.0, float(np.median(y - x))
    for _ in range(REFITS):  # without the part that differs
        difference = np.abs(y - (gain * x + offset))
        kept = difference <= np.median(difference)
        if np.ptp(x[kept]):
            gain, offset = np.polyfit(x[kept], y[kept], 1)
    rest = np.abs(other - (gain * one.astype(float) + offset)) / max(float(other.std()), 1.0)
    return np.asarray(rest.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean(axis=(1, 3)))


def differs_in_one_part(one: UInt8[Array, "32 32"], other: UInt8[Array, "32 32"]) -> bool:
    """Return whether two images differ much in a part and little elsewhere, as objects on one background do.

    Args:
        one: thumbnail of an image.
        other: thumbnail of another image.
    """
    cells = cell_differences(one, other)
    return bool(cells.max() >= max(MIN_DIFFERENCE, MIN_LOCAL * float(np.median(cells))))


def find_differing_parts(pairs: pd.DataFrame, data_rows: pd.DataFrame, folder: Path) -> list[tuple[str, str]]:
    """Return the pairs of paths of near-duplicates that differ in one part, among the first `MAX_PAIRS`.

    Args:
        pairs: columns first, second (paths) and mirrored.
        data_rows: manifest.
        folder: output folder of ingest.
    """
    shown = pairs.head(MAX_PAIRS)
    paths = sorted({*shown["first"], *shown["second"]})
    rows = data_rows.set_index("path", drop=False).loc[paths]
    thumb = dict(zip(paths, (grey_thumbnail(p.image) for p in decode_images(rows, folder)), strict=True))
    return [
        (first, second)
        for first, second, mirrored in zip(shown["first"], shown["second"], shown["mirrored"], strict=True)
        if differs_in_one_part(thumb[first], thumb[second][:, ::-1] if mirrored else thumb[second])
    ]
