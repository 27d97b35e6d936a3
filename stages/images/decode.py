"""Decode image files to pixels. All stages and the server use this decoder, so that they see the same pixels."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from stages.core.path_parts import IMAGE_SUFFIXES, suffix_of
from stages.core.plurals import quantity
from stages.core.shapes import Array, Integer, Shaped
from stages.images.unsupported_formats import describe_unsupported

PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
READABLE_FORMATS = (*PILLOW_FORMATS, "NPY")
READABLE_MODES = frozenset(("1", "L", "P", "RGB", "RGBA", "LA", "PA", "I;16", "I;16L", "I;16B", "I"))
DEEP_MODES = frozenset(("I;16", "I;16L", "I;16B", "I"))  # 16 bits; Pillow opens 16-bit PNG files in mode I
PIXEL_KINDS = {
    "1": "black and white pixels",
    "L": "grey levels",
    "LA": "grey levels with opacity",
    "P": "palette colours",
    "PA": "palette colours with opacity",
    "RGB": "RGB colours",
    "RGBA": "RGB colours with opacity",
    **dict.fromkeys(DEEP_MODES, "16-bit grey levels"),
    "F": "floating-point values",
    "CMYK": "CMYK colours",
    "YCbCr": "YCbCr colours",
    "LAB": "CIE L*a*b* colours",
    "HSV": "HSV colours",
    "RGBX": "RGB colours with padding",
    "RGBa": "colours multiplied by their opacity",
    "La": "grey levels multiplied by their opacity",
}
"""Content of images in words, by the mode of Pillow; those from F on cannot be read."""
NPY = b"\x93NUMPY"
JPEG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*")
MAX_MEGAPIXELS = 178.0  # limit of Pillow: 178,956,970 pixels
MAX_BYTES_PER_PIXEL = 16  # at the maximum number of pixels; smaller images may have more channels
# The frames are not counted, since a small file can contain a million.
MULTIPLE_FRAMES = "contains several frames; one image per file is expected"
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
"""Transposition by EXIF orientation (EXIF 2.3, tag 0x0112); 1 is upright."""
SIDEWAYS_TURNS = tuple(TURNS[orientation] for orientation in (5, 6, 7, 8))
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262
TIFF_PREDICTED = frozenset((5, 8, 32946, 34925, 50000))  # LZW, Deflate, LZMA, Zstandard: Pillow applies the predictor
TIFF_ALPHA = frozenset((1, 2))  # kinds of extra samples that are transparency; 0 is unspecified
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
"""Photometric interpretations of TIFF."""
SIGNED, FLOAT = 2, 3
"""Sample formats of TIFF; 1 is unsigned."""
LUMINANCE_50 = 3688  # sum of the luminance table of quality 50 (ITU-T T.81, table K.1)


class Unreadable(ValueError):
    """The file cannot be used as an image; the message is the reason."""


class TooManyPixels(Unreadable):
    """The image has more pixels, or more bytes of pixel values, than allowed."""


class NotAdmitted(Exception):
    """An `Admit` callback refused the image before its pixels were decoded."""


Admit = Callable[[int, int, int], None]
"""Callback that is called with (pixels, channels, bits per channel) before compressed pixels are decoded.

Channels and bits are 0 unless the decoder keeps the stored values in memory as well. The callback may raise
`NotAdmitted` or `Unreadable`.
"""


@lru_cache(100_000)
def is_image_path(path: str) -> bool:
    """Return whether a file of a source has the suffix of an image, in any case."""
    return suffix_of(path).lower() in IMAGE_SUFFIXES


def admit_all(pixels: int, channels: int, bits: int) -> None:
    """Admit every image.

    Args:
        pixels: number of pixels.
        channels: number of channels, or 0, see `Admit`.
        bits: bits per channel, or 0, see `Admit`.
    """


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image with the metadata of its file."""

    image: Integer[Array, "H W *C"]
    """uint8 or uint16 pixels, upright; [H, W] for grey, [H, W, 3] for colour, [H, W, C] for other channels."""
    format: str
    """Format name of Pillow, for example JPEG or PNG; NPY for NumPy files."""
    mode: str
    """Pillow mode, for example L, RGB or P. If Pillow was not used, the type of the values, for example uint16 for NPY,
    and for TIFF the number of channels as well, for example uint16 x 3."""
    camera: str = ""
    """Make and model from EXIF; empty when unknown."""
    taken: str = ""
    """Capture time from EXIF, or else the time of the last change, unparsed; empty when unknown."""
    software: str = ""
    """Software that wrote the file, from EXIF; empty when unknown."""
    quality: float = 0.0
    """Estimated JPEG quality, 1 to 100 on the scale of libjpeg; 0 for other formats."""
    turned: bool = False
    """Whether the image was rotated or flipped according to its EXIF orientation."""
    stored_size: tuple[int, int] | None = None
    """Height and width of the upright image if `image` is reduced, else None."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright image in the file, pixels."""
        return self.stored_size or (self.image.shape[0], self.image.shape[1])


def decode_image(
    data: bytes, max_megapixels: float = MAX_MEGAPIXELS, admit: Admit = admit_all, least_side: int = 0
) -> DecodedImage:
    """Decode the bytes of one image file.

    Grey stays grey, and palettes become colour. If a JPEG file contains several images (MPO), the primary image is
    decoded. The EXIF orientation is applied.

    Args:
        data: content of the file.
        max_megapixels: maximum size of the image, checked before compressed pixels are decoded.
        admit: called with the size of the image, see `Admit`.
        least_side: decode a JPEG at 1/2, 1/4 or 1/8 of its size, which takes less time and memory, if the height and
            the width remain at least this, pixels; 0: full size. Other formats are always decoded at full size.

    Raises:
        TooManyPixels: the image exceeds `max_megapixels`, or the values of a TIFF that Pillow cannot decode exceed
            `MAX_BYTES_PER_PIXEL` for that number of pixels.
        Unreadable: the file is empty, damaged, not an image or partly transparent; has several frames or more than 16
            bits; or has a mode or compression that is not supported.
        NotAdmitted: `admit` refused the image.
    """
    if not data:
        raise Unreadable("is empty (0 bytes)")
    if data.startswith(NPY):
        return _decode_npy(data, max_megapixels, admit)
    if data.startswith(TIFF) and _requires_tifffile(data):
        return _decode_tiff(data, max_megapixels, admit)
    check_depth(data)
    try:
        with open_with_pillow(data) as file:
            _check_supported(file, max_megapixels)
            format_, mode = str(file.format), file.mode
            admit(file.width * file.height, 0, 0)
            width, height = file.size
            if least_side:
                file.draft(file.mode, (least_side, least_side))
            reduced = file.size != (width, height)
            file.load()  # before EXIF: after a failed load Pillow would return a black image
            exif = file.getexif()
            turn = TURNS.get(exif.get(EXIF_ORIENTATION, 1))
            taken = _capture_time(exif)
            quality = _quality(getattr(file, "quantization", None) or {})
            white_is_zero = tags.get(TIFF_PHOTOMETRIC) == 0 if (tags := getattr(file, "tag_v2", None)) else False
            bits = tags.get(TIFF_BITS, (8,))[0] if tags else 8
            # Not ImageOps.exif_transpose: it rewrites the EXIF and fails if another tag has a wrong type.
            upright = file if turn is None else file.transpose(turn)
    except (Unreadable, NotAdmitted, MemoryError):
        raise
    except Exception as error:  # Pillow raises six types on damaged files, SyntaxError and OverflowError among them
        raise Unreadable(describe_error(error)) from error
    camera = " ".join(_text(exif[tag]) for tag in EXIF_CAMERA if tag in exif)
    software = _text(exif.get(EXIF_SOFTWARE, ""))
    image = _pixels(upright)
    if image.dtype == np.uint16:  # as Pillow does for 8 bits
        image = image * (65535 // 4095) + image // 256 if bits == 12 else image
        image = 65535 - image if white_is_zero else image
    sideways = turn in SIDEWAYS_TURNS
    stored_size = ((width, height) if sideways else (height, width)) if reduced else None
    return DecodedImage(image, format_, mode, camera, taken, software, quality, turn is not None, stored_size)


def _capture_time(exif: Image.Exif) -> str:
    return _text(exif.get_ifd(EXIF_MORE).get(EXIF_TAKEN, exif.get(EXIF_CHANGED, "")))


def read_capture_time(file: Image.Image) -> str:
    """Return the time from EXIF of an image that is opened with Pillow, as `DecodedImage.taken`; empty if unknown.

    The pixels are not decoded, so that an EXIF block after the pixels of a PNG is not found.
    """
    if file.format == "PNG" and "exif" not in file.info:
        return ""
    return _capture_time(file.getexif())


def open_with_pillow(data: bytes) -> Image.Image:
    """Open an image file with Pillow without decoding its pixels.

    A JPEG file can contain further images (MPO): previews, depth and HDR data of phones and drones. The primary image
    is the first (CIPA DC-007). `Image.open` would parse the index of the others, which editing often damages.

    Raises:
        Unreadable: the file has a common format that is not supported.
        Exception: any exception of Pillow, if the file is damaged or not an image.
    """
    if data.startswith(JPEG):
        return JpegImageFile(io.BytesIO(data))
    try:
        return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        if reason := describe_unsupported(data):
            raise Unreadable(f"{reason}; supported formats: {', '.join(READABLE_FORMATS)}") from None
        raise


def read_orientation(data: bytes) -> int:
    """Return the EXIF orientation of an image file that `decode_image` accepts; 1 is upright."""
    with open_with_pillow(data) as file:
        return int(file.getexif().get(EXIF_ORIENTATION, 1))


def _text(value: Any) -> str:
    """Return an EXIF value of any type as printable text."""
    return "".join(c for c in str(value).encode(errors="replace").decode() if c.isprintable()).strip()


def _quality(tables: dict[int, Any]) -> float:
    """Estimate the libjpeg quality, 1 to 100, from the luminance quantization table; 0 without tables."""
    if not tables:
        return 0.0
    scale = 100 * sum(tables[min(tables)]) / LUMINANCE_50
    return max(1.0, round(100 - scale / 2 if scale <= 100 else 5000 / scale, 1))


def check_depth(data: bytes) -> None:
    """Raise Unreadable if Pillow would reduce the channels of a PNG or PPM to 8 bits."""
    if data.startswith(b"\x89PNG") and data[24:26] in (b"\x10\x02", b"\x10\x06", b"\x10\x04"):
        raise Unreadable(
            "is a 16-bit PNG with colour or alpha, which would be reduced to 8 bits; store it as TIFF or npy"
        )
    if data[:2] in (b"P3", b"P6") and netpbm_maximum(data) > 255:
        raise Unreadable("is a 16-bit colour PPM, which would be reduced to 8 bits; store it as TIFF or npy")


def netpbm_maximum(data: bytes) -> int:
    """Return the largest value that the header of a PGM or PPM file allows; 0 if the header is damaged."""
    fields = rb"P[2356](?:\s+(?:#[^\n\r]*[\n\r]\s*)*(\d+)){3}\s"
    found = re.match(fields, data)
    return int(found[1]) if found else 0


def describe_error(error: Exception) -> str:
    """Return what is wrong with a file, without the decoder's types: their names say nothing to a user."""
    if isinstance(error, UnidentifiedImageError):
        return f"cannot be decoded: it is damaged at its beginning, or not a {', '.join(READABLE_FORMATS)} image"
    reason = re.sub(r" <_io.BytesIO[^>]*>", "", str(error)).strip()  # address of the buffer
    if isinstance(error, Image.DecompressionBombError):
        return f"has too many pixels ({reason.split(',')[0]})"
    explained = isinstance(error, OSError | SyntaxError | ValueError) and " " in reason  # not a bare key or number
    return f"cannot be decoded: it is damaged or of an unsupported kind{f' ({reason})' if explained else ''}"


def describe_mode(mode: str) -> str:
    """Return in words what an image with a `DecodedImage.mode` contains."""
    return PIXEL_KINDS.get(mode, f"{mode} values")


def _check_supported(file: Image.Image, max_megapixels: float) -> None:
    check_size_and_frames(file, max_megapixels)
    if file.mode not in READABLE_MODES:
        kind = describe_mode(file.mode)
        raise Unreadable(f"contains {kind}, which are not supported; convert it to 8-bit or 16-bit grey or to RGB")


def check_size_and_frames(file: Image.Image, max_megapixels: float) -> None:
    """Raise Unreadable if an open file has too many pixels or several frames."""
    check_megapixels(*file.size, max_megapixels)
    if getattr(file, "is_animated", False):
        raise Unreadable(MULTIPLE_FRAMES)


def check_megapixels(width: int, height: int, max_megapixels: float) -> None:
    """Raise TooManyPixels if an image is too large.

    Args:
        width: width in pixels.
        height: height in pixels.
        max_megapixels: largest size.
    """
    if width * height > max_megapixels * 1e6:
        raise TooManyPixels(
            f"has {width * height / 1e6:.1f} megapixels ({width}x{height}), above the limit of {max_megapixels:g}"
        )


def _decode_npy(data: bytes, max_megapixels: float, admit: Admit) -> DecodedImage:
    """Decode a NumPy file with an array [H, W] or [H, W, C]."""
    try:
        image = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged header can raise almost any exception
        raise Unreadable(f"is not a valid npy file: {error}") from error
    checked = _check_array(image, max_megapixels)
    admit(checked.shape[0] * checked.shape[1], 0, 0)  # the values are stored uncompressed
    return DecodedImage(checked, "NPY", f"{image.dtype}")


def _check_array(image: Shaped[Array, "..."], max_megapixels: float) -> Integer[Array, "_ _ ..."]:
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
        raise Unreadable(
            f"contains {image.dtype} of shape {image.shape}; uint8 or uint16 of shape [H, W] or [H, W, C] is required"
        )
    check_megapixels(image.shape[1], image.shape[0], max_megapixels)
    return image[:, :, 0] if image.shape[2:] == (1,) else image


def _requires_tifffile(data: bytes) -> bool:
    """Return whether Pillow cannot decode a TIFF, or would lose channels or misread values."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return not is_read_by_pillow(file.pages[0])
    except Exception:  # Pillow reports the error
        return False


def is_read_by_pillow(page: Any) -> bool:
    """Return whether Pillow decodes all channels of a TIFF page exactly.

    Otherwise it drops unspecified channels, ignores a predictor (Adobe TIFF 6, section 14) of other compressions, reads
    signed bytes as unsigned, or swaps the bytes of compressed big-endian numbers twice.
    """
    samples, bits, extra = int(page.samplesperpixel), int(page.bitspersample), set(page.extrasamples)
    little_endian, unsigned = page.parent.byteorder == "<", page.sampleformat not in (SIGNED, FLOAT)
    if page.predictor != 1 and page.compression not in TIFF_PREDICTED:
        return False
    if samples == 1:
        if bits > 16 or not unsigned:
            return page.photometric == BLACK_IS_ZERO and bits in (16, 32) and little_endian
        return bits <= 8 or page.photometric == BLACK_IS_ZERO or little_endian
    if page.photometric == RGB:
        return unsigned and bits == 8 and (samples == 3 or (samples == 4 and extra != {0}))
    if page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE):
        return unsigned and bits == 8 and samples == 2 and bool(extra) and extra <= TIFF_ALPHA
    return samples <= 4 and bits <= 8


def _decode_tiff(data: bytes, max_megapixels: float, admit: Admit) -> DecodedImage:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if file.pages.is_multipage:
                raise Unreadable(MULTIPLE_FRAMES)
            page: Any = file.pages[0]
            check_megapixels(page.imagewidth, page.imagelength, max_megapixels)
            if (nbytes := page.nbytes) > MAX_BYTES_PER_PIXEL * max_megapixels * 1e6:
                raise TooManyPixels(
                    f"contains {nbytes / 1e6:.0f} MB of pixel values, above the limit of "
                    f"{MAX_BYTES_PER_PIXEL * max_megapixels:g} MB"
                )
            inverted = page.photometric == WHITE_IS_ZERO and page.samplesperpixel == 1 and page.dtype in ("u1", "u2")
            if page.dtype.kind in "iu" and page.photometric not in (BLACK_IS_ZERO, RGB) and not inverted:
                name = getattr(page.photometric, "name", f"photometric interpretation {page.photometric}")
                raise Unreadable(f"stores colours as {name}; convert it to grey or RGB")
            admit(page.imagewidth * page.imagelength, page.samplesperpixel, 8 if page.dtype.itemsize == 1 else 16)
            image = _to_unsigned(tiff_values(page))
            orientation = tiff_orientation(page)
    except (Unreadable, NotAdmitted, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise almost any exception
        raise Unreadable(describe_error(error)) from error
    checked = _check_array(image, max_megapixels)
    upright = turn_upright(np.iinfo(checked.dtype).max - checked if inverted else checked, orientation)
    mode = f"{upright.dtype} x {upright.shape[2] if upright.ndim == 3 else 1}"
    return DecodedImage(upright, "TIFF", mode, turned=orientation in TURNS)


def tiff_orientation(page: Any) -> int:
    """Return the EXIF orientation of a TIFF page, 1 if it has none."""
    tag = page.tags.get(EXIF_ORIENTATION)
    return tag.value if tag is not None and tag.value in TURNS else 1


def turn_upright(image: Shaped[Array, "H W *C"], orientation: int) -> Shaped[Array, "_ _ *C"]:
    """Transpose an array by its EXIF orientation, as `TURNS` does for images of Pillow.

    >>> turn_upright(np.array([[1, 2, 3]]), 6).tolist()
    [[1], [2], [3]]
    """
    turned = image.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else image
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(turned[::down, ::right])


def _to_unsigned(values: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Convert integers to uint8, if they have 8 bits, or uint16; other values are not changed."""
    if values.dtype.kind not in "iu" or values.dtype in (np.uint8, np.uint16):
        return values
    if values.min() < 0 or values.max() > 65535:
        raise Unreadable(f"contains levels from {values.min()} to {values.max()}; the supported range is 0 to 65535")
    return values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16)


def tiff_values(page: Any) -> Shaped[Array, "..."]:
    """Return the stored values of a TIFF page, [H, W] or [H, W, C].

    Raises:
        Unreadable: tifffile does not support its compression.
    """
    try:
        values = np.asarray(page.asarray())
        return np.moveaxis(values, 0, 2) if page.planarconfig == 2 and values.ndim == 3 else values
    except (KeyError, ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        raise Unreadable(
            f"is compressed by {page.compression.name}, which is supported only for 8-bit and 16-bit grey and 8-bit "
            "RGB; store it uncompressed or with Deflate (tiffcp -c zip OLD NEW), or as npy"
        ) from error


def _pixels(file: Image.Image) -> Integer[Array, "H W *C"]:
    if file.mode in DEEP_MODES:
        if "transparency" in file.info and (np.asarray(file) == file.info["transparency"]).any():
            raise Unreadable("is partly transparent; flatten it onto a background")
        return _to_unsigned(np.asarray(file))
    if "A" in file.getbands() or "transparency" in file.info:
        rgba = file.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            raise Unreadable("is partly transparent; flatten it onto a background")
        file = rgba.convert("L" if file.mode in ("LA", "L") else "RGB")
    mode = "L" if file.mode in ("1", "L") else "RGB"
    return np.asarray(file if file.mode == mode else file.convert(mode))  # avoids a copy


def to_channels(image: Integer[Array, "H W *C"], channels: int) -> Integer[Array, "H W {channels}"]:
    """Convert an image to a number of channels; colour becomes grey by ITU-R BT.601 luma.

    Args:
        image: uint8 or uint16; without a third axis it is grey.
        channels: number of channels of the result.

    Raises:
        ValueError: the number of channels differs, and the conversion is not between 1 and 3 channels.

    >>> to_channels(np.full((2, 2), 7, np.uint8), 3).shape
    (2, 2, 3)
    """
    have = 1 if image.ndim == 2 else image.shape[2]
    if have == channels:
        return image.reshape(*image.shape[:2], channels)
    if {have, channels} != {1, 3}:
        raise ValueError(f"has {quantity(have, 'channel')}; the required number is {channels}")
    if channels == 3:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
    return (image @ np.array(LUMA)).round().astype(image.dtype)[:, :, None]
