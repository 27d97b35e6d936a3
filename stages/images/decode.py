"""File bytes to pixels, the one way: what ingest accepts is what training and serving see."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
READABLE_FORMATS = (*PILLOW_FORMATS, "NPY")
IMAGE_SUFFIXES = frozenset(".npy .bmp .gif .jpeg .jpg .jpe .jfif .png .pbm .pgm .pnm .ppm .tif .tiff .webp".split())
READABLE_MODES = frozenset(("1", "L", "P", "RGB", "RGBA", "LA", "PA", "I;16", "I;16L", "I;16B", "I"))
DEEP_MODES = frozenset(("I;16", "I;16L", "I;16B", "I"))  # 16 bits; PNG's come as I
NPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*")
MAX_MEGAPIXELS = 178.0  # Pillow itself refuses more than 178,956,970 pixels
MAX_BYTES_PER_PIXEL = 16  # of a pixel, in an image of as many as are allowed; smaller ones may have more channels
MULTIPLE_FRAMES = "holds several frames; one image per file is expected"  # uncounted: a small file can hold a million
LUMA = (0.299, 0.587, 0.114)
EXIF_CAMERA = (0x010F, 0x0110)  # make, model
EXIF_ORIENTATION, EXIF_SOFTWARE, EXIF_CHANGED, EXIF_MORE, EXIF_TAKEN = 0x0112, 0x0131, 0x0132, 0x8769, 0x9003
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What an orientation of EXIF asks for (EXIF 2.3, tag 0x0112); 1 is upright."""
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262
LUMINANCE_50 = 3688  # sum of the luminance table of quality 50 (ITU-T T.81, table K.1)


class Unreadable(ValueError):
    """Why a file is not taken as an image."""


class TooManyPixels(Unreadable):
    """It may well be an image, but a larger one than is allowed."""


class NotAdmitted(Exception):
    """Raised by who is asked before pixels are decoded: see `Admit`."""


Admit = Callable[[int, int, int], None]
"""Told of an image before it is decoded: pixels; and where the reader holds all values as they are stored, channels and
bits of each, else 0. May raise `NotAdmitted` or `Unreadable`."""


def admit_all(pixels: int, channels: int, bits: int) -> None:
    """Whatever comes."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image and what its file says of itself."""

    image: np.ndarray[Any, Any]
    """uint8 or uint16; [H, W] when grey, [H, W, 3] when colour, [H, W, C] of more channels; upright."""
    format: str
    """As Pillow names it: JPEG, PNG ..."""
    mode: str
    """Pillow's mode of the file: L, RGB, P ..."""
    camera: str = ""
    """Make and model from EXIF; empty when unknown."""
    taken: str = ""
    """When, from EXIF, as it stands there; empty when unknown."""
    software: str = ""
    """What wrote the file, from EXIF; empty when unknown."""
    quality: float = 0.0
    """Of a JPEG's compression, 1 to 100 on the scale of libjpeg; 0 for other formats."""
    turned: bool = False
    """EXIF said that it was not upright, and it was turned."""


def decode_image(data: bytes, max_megapixels: float = MAX_MEGAPIXELS, admit: Admit = admit_all) -> DecodedImage:
    """Decode the bytes of one image file.

    Grey stays grey, palettes become colour, EXIF orientation is applied once. `admit` is told what will be decoded.

    Raises:
        Unreadable: not an image, damaged, larger than `max_megapixels` (checked before decoding), several frames,
            more than 16 bits, or transparent: none of which can be read without guessing.
    """
    if not data:
        raise Unreadable("empty file, 0 bytes")
    if data.startswith(NPY):
        return _array(data, max_megapixels, admit)
    if data.startswith(TIFF) and _is_beyond_pillow(data):
        return _deep_tiff(data, max_megapixels, admit)
    if data.startswith(b"\x89PNG") and data[24:26] in (b"\x10\x02", b"\x10\x06", b"\x10\x04"):
        raise Unreadable("is a colour PNG of 16 bits, of which Pillow would keep 8; store it as TIFF or npy")
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as file:
            _refuse_what_needs_guessing(file, max_megapixels)
            format_, mode = str(file.format), file.mode
            admit(file.width * file.height, 0, 0)
            file.load()  # before EXIF: after a failed load Pillow would hand out a black image
            exif = file.getexif()
            turn = TURNS.get(exif.get(EXIF_ORIENTATION, 1))
            taken = exif.get_ifd(EXIF_MORE).get(EXIF_TAKEN, exif.get(EXIF_CHANGED, ""))
            quality = _quality(getattr(file, "quantization", None) or {})
            white_is_zero = tags.get(TIFF_PHOTOMETRIC) == 0 if (tags := getattr(file, "tag_v2", None)) else False
            bits = tags.get(TIFF_BITS, (8,))[0] if tags else 8
            # Not by ImageOps.exif_transpose, which writes the EXIF anew and fails where another tag is of a wrong type.
            upright = file if turn is None else file.transpose(turn)
    except (Unreadable, NotAdmitted, MemoryError):
        raise
    except Exception as error:  # Pillow raises six types on damaged files, SyntaxError and OverflowError among them
        raise Unreadable(_why(error)) from error
    camera = " ".join(_text(exif[tag]) for tag in EXIF_CAMERA if tag in exif)
    software = _text(exif.get(EXIF_SOFTWARE, ""))
    image = _pixels(upright)
    if image.dtype == np.uint16:  # as Pillow does with 8 bits
        image = image * (65535 // 4095) + image // 256 if bits == 12 else image
        image = 65535 - image if white_is_zero else image
    return DecodedImage(image, format_, mode, camera, _text(taken), software, quality, turn is not None)


def _text(value: Any) -> str:
    """A value of EXIF, where anything may stand, as text that a table can hold."""
    return "".join(c for c in str(value).encode(errors="replace").decode() if c.isprintable()).strip()


def _quality(tables: dict[int, Any]) -> float:
    """Quality by which libjpeg would have scaled its table to this luminance table, 1 to 100; 0 without tables."""
    if not tables:
        return 0.0
    scale = 100 * sum(tables[min(tables)]) / LUMINANCE_50
    return max(1.0, round(100 - scale / 2 if scale <= 100 else 5000 / scale, 1))


def decode_label_image(data: bytes, height: int, width: int) -> np.ndarray[Any, Any]:
    """[height, width] values of a label image: of a palette its indices, of equal colours their level.

    Raises:
        Unreadable: not an image, damaged, of another size (checked before decoding), several frames or coloured.
    """
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as file:
            if file.size != (width, height):
                raise Unreadable(f"is {file.width}x{file.height}, the image {width}x{height}")
            _refuse_size_and_frames(file, np.inf)
            if file.mode in ("P", "L", "1", "I;16", "I"):
                return np.asarray(file.convert("L") if file.mode == "1" else file)
            colours = np.asarray(file.convert("RGB"))
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # as in `read`
        raise Unreadable(_why(error)) from error
    if (colours != colours[:, :, :1]).any():
        raise Unreadable("is coloured; values of a grey or palette image are needed")
    return colours[:, :, 0]


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: " + re.sub(r" <_io.BytesIO[^>]*>", "", str(error))  # what Pillow was given


def _refuse_what_needs_guessing(file: Image.Image, max_megapixels: float) -> None:
    _refuse_size_and_frames(file, max_megapixels)
    if file.mode not in READABLE_MODES:
        raise Unreadable(f"mode {file.mode} is not read; convert it to 8-bit grey or RGB")


def _refuse_size_and_frames(file: Image.Image, max_megapixels: float) -> None:
    width, height = file.size
    if width * height > max_megapixels * 1e6:
        raise TooManyPixels(f"{width}x{height} is {width * height / 1e6:.1f} megapixels, above {max_megapixels:g}")
    if getattr(file, "is_animated", False):
        raise Unreadable(MULTIPLE_FRAMES)


def _array(data: bytes, max_megapixels: float, admit: Admit) -> DecodedImage:
    """A file of numpy's, [H, W] or [H, W, C]."""
    try:
        image = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header can be damaged in as many ways as it has words
        raise Unreadable(f"is no readable npy: {error}") from error
    checked = _checked(image, max_megapixels)
    admit(checked.shape[0] * checked.shape[1], 0, 0)  # the values lay in the file as they are
    return DecodedImage(checked, "NPY", f"{image.dtype}")


def _checked(image: np.ndarray[Any, Any], max_megapixels: float) -> np.ndarray[Any, Any]:
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
        raise Unreadable(
            f"holds {image.dtype} of shape {image.shape}; uint8 or uint16 of [H, W] or [H, W, C] is needed"
        )
    if image.shape[0] * image.shape[1] > max_megapixels * 1e6:
        raise TooManyPixels(f"{image.shape[1]}x{image.shape[0]} is above {max_megapixels:g} megapixels")
    return image[:, :, 0] if image.shape[2:] == (1,) else image


def _is_beyond_pillow(data: bytes) -> bool:
    """Whether a TIFF has more than four channels, or more than 8 bits in several: Pillow cannot hold that."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            samples, bits = int(page.samplesperpixel), int(page.bitspersample)  # type: ignore[union-attr]
    except Exception:  # Pillow says what is wrong with it
        return False
    return samples > 4 or (samples > 1 and bits > 8)


def _deep_tiff(data: bytes, max_megapixels: float, admit: Admit) -> DecodedImage:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if file.pages.is_multipage:
                raise Unreadable(MULTIPLE_FRAMES)
            page = file.pages[0]
            if page.imagewidth * page.imagelength > max_megapixels * 1e6:  # type: ignore[union-attr]
                raise TooManyPixels(f"is above {max_megapixels:g} megapixels")
            if (held := page.nbytes) > MAX_BYTES_PER_PIXEL * max_megapixels * 1e6:
                raise TooManyPixels(
                    f"holds {held / 1e6:.0f} MB of values, above {MAX_BYTES_PER_PIXEL * max_megapixels:g}"
                )
            if (photometric := page.photometric.name) not in ("MINISBLACK", "RGB"):  # type: ignore[union-attr]
                raise Unreadable(f"holds colours as {photometric}; convert it to grey or RGB")
            bits = 8 * page.dtype.itemsize  # type: ignore[union-attr]
            admit(page.imagewidth * page.imagelength, page.samplesperpixel, bits)  # type: ignore[union-attr]
            image = _unpacked(page)
            planar = page.planarconfig == 2 and image.ndim == 3  # type: ignore[union-attr]
    except (Unreadable, NotAdmitted):
        raise
    except Exception as error:  # as with Pillow: as many types as ways to be damaged
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    image = np.moveaxis(image, 0, 2) if planar else image
    return DecodedImage(_checked(image, max_megapixels), "TIFF", f"{image.dtype} x {image.shape[-1]}")


def _unpacked(page: Any) -> np.ndarray[Any, Any]:
    """Values of a TIFF's page; raises Unreadable where tifffile has no code to unpack them by itself."""
    try:
        return np.asarray(page.asarray())
    except (KeyError, ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        raise Unreadable(
            f"is packed by {page.compression.name}, which is not read of 16 bits a colour or more than 4 channels: "
            "store it unpacked or by Deflate (tiffcp -c zip OLD NEW), or as npy"
        ) from error


def _pixels(file: Image.Image) -> np.ndarray[Any, Any]:
    if file.mode in DEEP_MODES:
        if "transparency" in file.info and (np.asarray(file) == file.info["transparency"]).any():
            raise Unreadable("is partly transparent; flatten it onto a background")
        levels = np.asarray(file)
        if levels.min() < 0 or levels.max() > 65535:
            raise Unreadable(f"holds levels from {levels.min()} to {levels.max()}; 0 to 65535 can be read")
        return levels.astype(np.uint16)
    if "A" in file.getbands() or "transparency" in file.info:
        rgba = file.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            raise Unreadable("is partly transparent; flatten it onto a background")
        file = rgba.convert("L" if file.mode in ("LA", "L") else "RGB")
    mode = "L" if file.mode in ("1", "L") else "RGB"
    return np.asarray(file if file.mode == mode else file.convert(mode))  # which would copy


def to_channels(image: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
    """uint8 or uint16 [H, W] or [H, W, C] as [H, W, channels]; colour to grey by ITU-R BT.601 luma.

    Raises:
        ValueError: the image has another number of channels, and neither of them is grey or colour.

    >>> to_channels(np.full((2, 2), 7, np.uint8), 3).shape
    (2, 2, 3)
    """
    have = 1 if image.ndim == 2 else image.shape[2]
    if have == channels:
        return image.reshape(*image.shape[:2], channels)
    if {have, channels} != {1, 3}:
        raise ValueError(f"has {have} channels, not {channels}")
    if channels == 3:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
    return (image @ np.array(LUMA)).round().astype(image.dtype)[:, :, None]
