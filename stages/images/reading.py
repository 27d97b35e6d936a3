"""File bytes to pixels, the one way: what ingest accepts is what training and serving see."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .jpe .jfif .png .pbm .pgm .pnm .ppm .tif .tiff .webp".split())
READABLE_MODES = frozenset(("1", "L", "P", "RGB", "RGBA", "LA", "PA"))
MOST_MEGAPIXELS = 178.0  # Pillow itself refuses more than 178,956,970 pixels
EXIF_CAMERA = (0x010F, 0x0110)  # make, model


class Unreadable(ValueError):
    """Why a file is not taken as an image."""


@dataclass(frozen=True)
class Picture:
    """A decoded image and what its file says of itself."""

    image: np.ndarray[Any, np.dtype[np.uint8]]
    """uint8, [H, W] when grey, [H, W, 3] when colour, upright."""
    format: str
    """As Pillow names it: JPEG, PNG ..."""
    mode: str
    """Pillow's mode of the file: L, RGB, P ..."""
    camera: str
    """Make and model from EXIF; empty when unknown."""


def read(data: bytes, max_megapixels: float = MOST_MEGAPIXELS) -> Picture:
    """Decode the bytes of one image file.

    Grey stays grey, palettes become colour, EXIF orientation is applied once.

    Raises:
        Unreadable: not an image, damaged, larger than `max_megapixels` (checked before decoding), several frames,
            more than 8 bits, or transparent: none of which can be read without guessing.
    """
    if not data:
        raise Unreadable("empty file, 0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            _refuse_what_needs_guessing(file, max_megapixels)
            format_, mode = str(file.format), file.mode
            file.load()  # before EXIF: after a failed load Pillow would hand out a black image
            exif = file.getexif()
            upright = ImageOps.exif_transpose(file)
    except Unreadable:
        raise
    except Exception as error:  # Pillow raises six types on damaged files, SyntaxError and OverflowError among them
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    camera = " ".join(str(exif[tag]).strip("\0 ") for tag in EXIF_CAMERA if tag in exif)
    return Picture(_pixels(upright), format_, mode, camera)


def _refuse_what_needs_guessing(file: Image.Image, max_megapixels: float) -> None:
    width, height = file.size
    if width * height > max_megapixels * 1e6:
        raise Unreadable(f"{width}x{height} is {width * height / 1e6:.1f} megapixels, above {max_megapixels:g}")
    if getattr(file, "n_frames", 1) != 1:
        raise Unreadable(f"holds {file.n_frames} frames; one image per file is expected")  # type: ignore[attr-defined]
    if file.mode not in READABLE_MODES:
        raise Unreadable(f"mode {file.mode} is not read; convert it to 8-bit grey or RGB")


def _pixels(file: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if "A" in file.getbands() or "transparency" in file.info:
        rgba = file.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            raise Unreadable("is partly transparent; flatten it onto a background")
        file = rgba.convert("L" if file.mode in ("LA", "L") else "RGB")
    return np.asarray(file.convert("L" if file.mode in ("1", "L") else "RGB"))


def to_channels(image: np.ndarray[Any, np.dtype[np.uint8]], channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Grey or colour uint8 [H, W] or [H, W, 3] as [H, W, channels]; colour to grey by ITU-R BT.601 luma.

    >>> to_channels(np.full((2, 2), 7, np.uint8), 3).shape
    (2, 2, 3)
    """
    have = 1 if image.ndim == 2 else 3
    if have == channels:
        return image.reshape(*image.shape[:2], channels)
    converted = np.asarray(Image.fromarray(image).convert("L" if channels == 1 else "RGB"))
    return converted.reshape(*image.shape[:2], channels)
