"""How images look, in numbers that tell cameras, lenses, light and software apart: statistics, colour, spectrum, noise.

Axes: N images, F features.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import norm, rankdata

from stages.dataset.manifest import decode_images
from stages.images.image_statistics import EXPOSURE, STRUCTURE, to_grey

BINS = 16  # of the radial spectrum, from the slowest wave to the finest
WINDOW = 256  # pixels of the middle, at the image's own scale, where blur and noise are seen
NARROWEST = 32  # pixels to which smaller images are padded
SMALL = 16  # pixels a side, from which a label is foretold
FEWEST_OF_CLASS = 10  # images; smaller classes are looked at together

WORDS = {
    "brightness": ("light", "darker", "brighter"),
    "darkest": ("light", "darker in their shadows", "brighter in their shadows"),
    "brightest": ("light", "darker in their lights", "brighter in their lights"),
    "black": ("light", "less often pure black", "more often pure black"),
    "white": ("light", "less often pure white", "more often pure white"),
    "border": ("light", "darker at the border", "brighter at the border"),
    "redness": ("colour", "less red", "redder"),
    "blueness": ("colour", "less blue", "bluer"),
    "red_to_green": ("colour", "less red", "redder"),
    "blue_to_green": ("colour", "less blue", "bluer"),
    "contrast": ("contrast", "lower in contrast", "higher in contrast"),
    "entropy": ("contrast", "of fewer grey levels", "of more grey levels"),
    "sharpness": ("detail", "softer", "sharper"),
    "fineness": ("detail", "poorer in fine detail, as after blur or enlarging", "richer in fine detail"),
    "noise": ("noise", "less noisy", "noisier"),
    "foreground": ("content", "less filled by what stands out", "more filled by what stands out"),
    "width": ("size", "narrower in pixels", "wider in pixels"),
    "height": ("size", "lower in pixels", "higher in pixels"),
    "quality": ("file", "stored at a lower JPEG quality", "stored at a higher JPEG quality"),
}
"""Feature: its family, and what images with less and with more of it are."""
FILE = ("width", "height", "quality")
"""Told in words, but no ground to call images different: their pixels decide."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Appearance:
    """The looks of some rows."""

    features: pd.DataFrame
    """[N, F] by the rows' index."""
    small: Array
    """[N, 256] grey levels at 16x16, 0 to 1."""


def appearance(rows: pd.DataFrame, folder: Path) -> Appearance:
    """Look at every image of `rows`."""
    measured, small = [], []
    for picture in decode_images(rows, folder):
        grey = to_grey(picture.image)
        measured.append(_waves(grey) | {"noise": noise(grey)})
        small.append(np.asarray(Image.fromarray(grey).resize((SMALL, SMALL), Image.Resampling.BILINEAR)))
    table = pd.DataFrame(measured, index=rows.index).join(rows[[*EXPOSURE, *STRUCTURE]].astype(float))
    for name in ("red", "blue"):
        table[f"{name}_to_green"] = np.log((rows[name] + 1) / (rows["green"] + 1))
    return Appearance(table, np.stack(small).reshape(len(rows), -1) / 255)


def _waves(grey: Array) -> dict[str, float]:
    """wave_0 to wave_15: log10 of the power by frequency, 0 to .5 a pixel; fineness: how much of it the finest have."""
    power = spectrum(grey)
    fineness = float(power[-BINS // 4 :].mean() - power[BINS // 4 : BINS // 2].mean())
    return {f"wave_{i}": float(value) for i, value in enumerate(power)} | {"fineness": fineness}


def spectrum(grey: Array) -> Array:
    """[16] log10 of the power by radial frequency, of the middle of an image [H, W] under a Hann window."""
    top, left = (max(0, (side - WINDOW) // 2) for side in grey.shape)
    part = grey[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    taper = np.outer(*(np.hanning(side + 2)[1:-1] for side in part.shape))
    part = (part - part.mean()) * taper
    size = [max(NARROWEST, side) for side in part.shape]
    power = np.abs(np.fft.rfft2(part, size)) ** 2 / (taper**2).sum()
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    place = np.minimum((frequency * 2 * BINS).astype(int), BINS)  # the corners beyond .5 are left out
    count = np.bincount(place.ravel(), minlength=BINS + 1)[:BINS]
    return np.log10(np.bincount(place.ravel(), power.ravel(), BINS + 1)[:BINS] / count + 1e-3)


def noise(grey: Array) -> float:
    """Standard deviation of the noise, grey levels (Immerkaer 1996, by the median, so that edges count little)."""
    top, left = (max(0, (side - WINDOW) // 2) for side in grey.shape)
    part = grey[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    if min(part.shape) < 3:
        return 0.0
    rough = np.diff(np.diff(part, 2, axis=0), 2, axis=1)  # what is left of a smooth image: 0; of noise: 6 times as much
    return float(np.median(np.abs(rough)) / (6 * norm.ppf(0.75)))


def within_classes(features: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Normal scores among the images of one class: what remains when classes differ and stand in other shares."""
    strata = labels.where(labels.groupby(labels).transform("size") >= FEWEST_OF_CLASS, "")
    return features.groupby(strata.to_numpy()).transform(lambda x: norm.ppf((rankdata(x) - 0.5) / len(x)))
