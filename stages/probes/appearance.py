"""Appearance features that differ between cameras, lenses, light and software: statistics, colour, spectrum, noise.

Axes: N images, F features.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import norm, rankdata

from stages.core.shapes import Array, Float, UInt8
from stages.dataset.manifest import decode_images
from stages.images.image_statistics import EXPOSURE, STRUCTURE, to_grey

BINS = 16  # of the radial spectrum, from low to high frequency
WINDOW = 256  # side of the central crop, in pixels of the original, for the spectrum and the noise
MIN_SIDE = 32  # pixels to which smaller images are padded
SMALL = 16  # side of the thumbnails, pixels
MIN_CLASS_SIZE = 10  # images; smaller classes are pooled

WORDS = {
    "brightness": ("light", "darker", "brighter"),
    "darkest": ("light", "darker in the shadows", "brighter in the shadows"),
    "brightest": ("light", "darker in the highlights", "brighter in the highlights"),
    "black": ("light", "poorer in black pixels", "richer in black pixels"),
    "white": ("light", "poorer in white pixels", "richer in white pixels"),
    "border": ("light", "darker at the border", "brighter at the border"),
    "redness": ("colour", "less red", "redder"),
    "blueness": ("colour", "less blue", "bluer"),
    "red_to_green": ("colour", "less red", "redder"),
    "blue_to_green": ("colour", "less blue", "bluer"),
    "contrast": ("contrast", "lower in contrast", "higher in contrast"),
    "entropy": ("contrast", "poorer in grey levels", "richer in grey levels"),
    "sharpness": ("detail", "softer", "sharper"),
    "fineness": ("detail", "poorer in fine detail, as after blurring or upsampling", "richer in fine detail"),
    "noise": ("noise", "less noisy", "noisier"),
    "foreground": ("content", "poorer in foreground", "richer in foreground"),
    "width": ("size", "narrower in pixels", "wider in pixels"),
    "height": ("size", "shorter in pixels", "taller in pixels"),
    "quality": ("file", "stored at a lower JPEG quality", "stored at a higher JPEG quality"),
}
"""Family of each feature, and descriptions of images with low and high values."""
FILE = ("width", "height", "quality")
"""Features that are reported as causes but not used by the test, which uses pixels only."""


@dataclass(frozen=True)
class Appearance:
    """Appearance features of manifest rows."""

    features: pd.DataFrame
    """Image statistics [N, F], with the index of the rows."""
    small: Float[Array, "N 256"]
    """Grey levels of thumbnails of 16x16 pixels, 0 to 1."""


def measure_appearance(rows: pd.DataFrame, folder: Path) -> Appearance:
    """Return the appearance features of the images of manifest rows."""
    measured, small = [], []
    for picture in decode_images(rows, folder):
        grey = to_grey(picture.image)
        measured.append(_waves(grey) | {"noise": noise(grey)})
        small.append(np.asarray(Image.fromarray(grey).resize((SMALL, SMALL), Image.Resampling.BILINEAR)))
    table = pd.DataFrame(measured, index=rows.index).join(rows[[*EXPOSURE, *STRUCTURE]].astype(float))
    for name in ("red", "blue"):
        table[f"{name}_to_green"] = np.log((rows[name] + 1) / (rows["green"] + 1))
    return Appearance(table, np.stack(small).reshape(len(rows), -1) / 255)


def _waves(grey: UInt8[Array, "H W"]) -> dict[str, float]:
    """Return `wave_0` to `wave_15`, the log10 power by frequency (0 to 0.5 cycles per pixel), and `fineness`.

    Fineness is the mean of the last quarter of the bands minus that of the second quarter.
    """
    power = spectrum(grey)
    fineness = float(power[-BINS // 4 :].mean() - power[BINS // 4 : BINS // 2].mean())
    return {f"wave_{i}": float(value) for i, value in enumerate(power)} | {"fineness": fineness}


def spectrum(grey: UInt8[Array, "H W"]) -> Float[Array, " 16"]:
    """Return log10 of the power of the central crop of an image (Hann window) in 16 bands of radial frequency."""
    top, left = (max(0, (side - WINDOW) // 2) for side in grey.shape)
    part = grey[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    taper = np.outer(*(np.hanning(side + 2)[1:-1] for side in part.shape))
    part = (part - part.mean()) * taper
    size = [max(MIN_SIDE, side) for side in part.shape]
    power = np.abs(np.fft.rfft2(part, size)) ** 2 / (taper**2).sum()
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    place = np.minimum((frequency * 2 * BINS).astype(int), BINS)  # the corners beyond 0.5 are omitted
    count = np.bincount(place.ravel(), minlength=BINS + 1)[:BINS]
    return np.log10(np.bincount(place.ravel(), power.ravel(), BINS + 1)[:BINS] / count + 1e-3)


def noise(grey: UInt8[Array, "H W"]) -> float:
    """Return the standard deviation of the noise of the central crop of an image, in grey levels.

    The method is that of Immerkaer (1996), with the median for robustness. The result is 0 if a side has fewer than
    three pixels.
    """
    top, left = (max(0, (side - WINDOW) // 2) for side in grey.shape)
    part = grey[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    if min(part.shape) < 3:
        return 0.0
    rough = np.diff(np.diff(part, 2, axis=0), 2, axis=1)  # 0 for a smooth image; 6 standard deviations for noise
    return float(np.median(np.abs(rough)) / (6 * norm.ppf(0.75)))


def within_classes(features: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Return normal scores of the features within each class, so that differences between classes have no effect.

    Classes with fewer than `MIN_CLASS_SIZE` images are pooled.
    """
    strata = labels.where(labels.groupby(labels).transform("size") >= MIN_CLASS_SIZE, "")
    return features.groupby(strata.to_numpy()).transform(lambda x: norm.ppf((rankdata(x) - 0.5) / len(x)))
