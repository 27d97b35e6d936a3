"""Convert images to 8 bits for display: on overlays, contact sheets and pages, never as input of a computation.

Images of 16 bits seldom use their whole range: 12-bit cameras reach 4095 of 65535, which would be drawn black. Their
levels are stretched between two percentiles, as image viewers do. Images of 8 bits are drawn unchanged.
"""

import numpy as np

from stages.core.shapes import Array, Integer, UInt8

PERCENTILES = (0.1, 99.9)  # of the drawn levels; single hot or dead pixels do not determine the contrast
BLOCK = 2**20  # values that are counted or looked up at once
STRETCHED = (
    f"images of 16 bits are drawn with their levels stretched between the percentiles {PERCENTILES[0]:g} and "
    f"{PERCENTILES[1]:g} of each image, so that their brightness cannot be compared"
)
"""Note for pages and messages that present such drawings."""


def display_range(levels: Integer[Array, "..."]) -> tuple[int, int]:
    """Return the levels that are drawn black and white.

    These are two percentiles for 16 bits, or the extremes if the percentiles are equal, as in an image of a few bright
    spots. For 8 bits, and for images of a single level, it is the whole range.
    """
    whole = int(np.iinfo(levels.dtype).max)
    if levels.dtype == np.uint8 or not levels.size:
        return 0, whole
    counts = np.zeros(whole + 1, np.int64)
    for part in _blocks(levels):
        counts += np.bincount(part.ravel(), minlength=whole + 1)
    below = counts.cumsum()
    low, high = (int(np.searchsorted(below, share / 100 * below[-1], side="right")) for share in PERCENTILES)
    low, high = (low, high) if low < high else (int(levels.min()), int(levels.max()))
    return (low, high) if low < high else (0, whole)


def stretch(levels: Integer[Array, "*X"], low: int, high: int) -> UInt8[Array, "*X"]:
    """Map levels linearly to 0 to 255, rounded down; levels outside the range become black or white.

    Args:
        levels: uint16.
        low: level that becomes 0.
        high: level that becomes 255, greater than `low`.
    """
    drawn_L = ((np.arange(65536).clip(low, high) - low) * 255 // (high - low)).astype(np.uint8)
    return np.concatenate([drawn_L[part] for part in _blocks(levels)])


def _blocks(levels: Integer[Array, "..."]) -> list[Integer[Array, "..."]]:
    """Divide an array along its first axis: NumPy takes 8 bytes per value to count or look up values."""
    return np.array_split(levels, max(1, min(len(levels), levels.size // BLOCK)))


def to_display(image: Integer[Array, "H W *C"], levels: tuple[int, int] | None = None) -> UInt8[Array, "H W *D"]:
    """Return an image of 8 or 16 bits as grey [H, W] or RGB [H, W, 3].

    Only the first channel is drawn of one or two channels, and only the first three of more. They share one range, so
    that colours are preserved.

    Args:
        image: uint8 or uint16; uint8 is not stretched.
        levels: levels of 16-bit images that are drawn black and white; by default the `display_range` of the image.
    """
    if image.ndim == 3:
        image = np.ascontiguousarray(image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0])
    return image if image.dtype == np.uint8 else stretch(image, *(levels or display_range(image)))
