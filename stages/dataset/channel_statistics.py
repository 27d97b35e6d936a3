"""Mean and standard deviation of the pixels of a split, per channel."""

import numpy as np

from stages.dataset.pixel_store import PixelStore

MAX_IMAGES = 500
"""Number of evenly spaced images that are read."""
MIN_DEVIATION = 1e-4
"""Smallest standard deviation that is returned, so that dividing by it is safe."""


def channel_statistics(store: PixelStore, white: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, for pixels in 0..1, without the padding of the images.

    Args:
        store: images, of which at most `MAX_IMAGES` are read.
        white: level that is scaled to 1.
    """
    channels = store.image_NHWC.shape[3]
    pixels, sum_C, squares_C = 0, np.zeros(channels), np.zeros(channels)
    placements = store.placements()
    for index in np.unique(np.linspace(0, len(store) - 1, min(MAX_IMAGES, len(store))).round().astype(int)):
        inner_HWC = store.image_NHWC[index][: placements[index].inner_height, : placements[index].inner_width]
        value_XC = inner_HWC.reshape(-1, channels) / white
        pixels += len(value_XC)
        sum_C += value_XC.sum(axis=0)
        squares_C += (value_XC**2).sum(axis=0)
    mean_C = sum_C / pixels
    deviation_C = np.sqrt(np.maximum(squares_C / pixels - mean_C**2, MIN_DEVIATION**2))
    return mean_C.tolist(), deviation_C.tolist()
