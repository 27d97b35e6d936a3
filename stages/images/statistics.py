"""Numbers about one image, cheap enough to take of every file: what the audits and the data page look at."""

from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from stages.images.reading import Picture, to_channels

EXPOSURE = ("brightness", "darkest", "brightest", "redness", "blueness")
"""How an image was lit and coloured: classes may differ in it, but seldom so far that it alone tells them."""
STRUCTURE = ("contrast", "border", "sharpness")
"""Follows from the shape of what is in the image: classes may truly differ in it."""
METADATA = ("width", "height", "bytes", "bytes_per_pixel", "format", "mode", "camera")
"""Properties of the file: they cannot make an image what it is."""


def statistics(picture: Picture) -> dict[str, Any]:
    """Grey levels 0 to 255 unless said otherwise.

    brightness, contrast: mean and standard deviation; darkest, brightest: 5th and 95th percentile; border: mean of
    the outermost sixteenth; sharpness: mean absolute difference of neighbours; redness, blueness: mean of R - G and
    of B - G, -255 to 255; blank: a single grey level.
    """
    image = as_bytes(picture.image)
    grey = _grey(image)
    height, width = grey.shape
    values = grey.astype(np.float32)
    rim = max(1, round(min(height, width) / 16))
    inner = values[rim:-rim, rim:-rim]
    steps = [np.abs(np.diff(values, axis=a)).mean() if values.shape[a] > 1 else 0.0 for a in (0, 1)]
    red_green_blue = image.reshape(-1, 3).mean(axis=0) if image.shape[2:] == (3,) else np.zeros(3)
    darkest, brightest = np.percentile(grey, (5, 95))
    return {
        "width": width,
        "height": height,
        "format": picture.format,
        "mode": picture.mode,
        "camera": picture.camera,
        "brightness": float(values.mean()),
        "contrast": float(values.std()),
        "darkest": float(darkest),
        "brightest": float(brightest),
        "border": float((values.sum() - inner.sum()) / max(1, values.size - inner.size)),
        "sharpness": float(np.mean(steps)),
        "redness": float(red_green_blue[0] - red_green_blue[1]),
        "blueness": float(red_green_blue[2] - red_green_blue[1]),
        "blank": bool(grey.min() == grey.max()),
    }


def as_bytes(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Levels of 16 bits on the scale 0 to 255."""
    return (image // 257).astype(np.uint8) if image.dtype == np.uint16 else image


def grey_bytes(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [H, W] of any image."""
    return _grey(as_bytes(image))


def _grey(image: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[H, W]: luma of colour; of other channels the mean."""
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        return image.mean(axis=2).round().astype(np.uint8)
    return to_channels(image, 1)[:, :, 0]


def perceptual_hash(image: np.ndarray[Any, Any]) -> str:
    """64-bit hash, 16 hex digits, that survives re-encoding and resizing.

    Signs of the 8x8 lowest frequencies, against their median, of the DCT of the grey image at 32x32
    (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions").
    """
    grey = Image.fromarray(grey_bytes(image)).resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, np.float32), norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])  # without the mean, which would lift the median
    return np.packbits(bits).tobytes().hex()
