"""Sample of a data set with injected faults, and the function that encodes it as a file."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
EXIF_MAKE, EXIF_CHANGED, EXIF_SUBFOLDER, EXIF_TAKEN = 0x010F, 0x0132, 0x8769, 0x9003
FIRST_DAY = datetime(2024, 5, 1, 12)


@dataclass(frozen=True)
class FaultSample:
    """An image, and the settings with which its file is written."""

    image: Array
    """uint8, [H, W] or [H, W, 3]."""
    label: str
    split: str
    path: str
    quality: int
    """JPEG quality, 1 to 100; 0 for PNG."""
    camera: str
    day: float
    """Date of exposure, in days after the first day."""
    padding: int = 0
    """Length in bytes of a comment in the file."""
    arrival: int = 1
    origin: str = ""


Transform = Callable[[FaultSample, float, Rng], FaultSample]
"""Function from a sample, a strength and a random generator to the changed sample."""


def encode(sample: FaultSample) -> bytes:
    """Return the bytes of a sample's file."""
    exif = Image.Exif()
    exif[EXIF_MAKE] = sample.camera
    taken = (FIRST_DAY + timedelta(days=sample.day)).strftime("%Y:%m:%d %H:%M:%S")
    exif[EXIF_CHANGED] = taken
    exif.get_ifd(EXIF_SUBFOLDER)[EXIF_TAKEN] = taken
    file = io.BytesIO()
    if sample.quality:
        comment = {"comment": b" " * sample.padding} if sample.padding else {}
        Image.fromarray(sample.image).save(file, "JPEG", quality=sample.quality, exif=exif, **comment)
    else:
        text = PngImagePlugin.PngInfo()
        if sample.padding:
            text.add_text("Comment", " " * sample.padding)
        Image.fromarray(sample.image).save(file, "PNG", exif=exif, pnginfo=text)
    return file.getvalue()
