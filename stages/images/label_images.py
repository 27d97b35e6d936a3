"""Decode label images: masks, and images whose values number objects. The rules are in docs/why/label-images.md."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stages.core.shapes import Array, Bool, Integer, Shaped
from stages.images.decode import (
    DEEP_MODES,
    EXIF_ORIENTATION,
    MAX_MEGAPIXELS,
    MULTIPLE_FRAMES,
    NPY,
    PALETTE,
    TIFF,
    TIFF_ALPHA,
    TIFF_BITS,
    TIFF_PHOTOMETRIC,
    TURNS,
    WHITE_IS_ZERO,
    Unreadable,
    check_depth,
    check_megapixels,
    check_size_and_frames,
    describe_error,
    is_read_by_pillow,
    netpbm_maximum,
    open_with_pillow,
    tiff_orientation,
    tiff_values,
    turn_upright,
)

Size = tuple[int, int]
"""Height and width in pixels."""
Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0 to 255."""
BLACK = (0, 0, 0, 255)
LOSSY_TIFF = frozenset((6, 7, 34892, 50001))  # JPEG, and WebP, which may be lossy
TOLERANCE = 1 / 8  # share of the bright level within which a level is close to black, or to the bright level
MAX_NOISE = 1 / 16  # share of the bright level by which lossy compression changes flat regions
REACH = 8  # pixels: side of the blocks of JPEG and WebP, beyond which they do not spread an edge
MIN_EDGE_SHARE = 0.95  # share of the intermediate levels that lie near black and white in a blurred mask
MAX_MIDDLE_SHARE = 0.5  # share of the pixels close to neither; measured: up to .4 if blurred, .6 in photos
MAX_FLAT_SHARE = 0.5  # share of the intermediate levels in flat regions; measured: below .25 if blurred, 1 for classes
MAX_CLASSES_BETWEEN = 3  # number of intermediate levels that is not examined without lossy compression
MAX_GRADUAL = 64  # number of gradual levels above which an image is a photo or a map of probabilities
MIN_LOSSY = 64  # smallest bright level of a mask that lossy compression leaves recognizable
MAX_SAMPLES = 4  # channels of red, green, blue and opacity
MAX_CHROMA = 16  # difference of the channels that lossy compression causes in a grey image; measured: 4
TRANSPARENT = "is partly transparent; flatten it onto a background"


@dataclass(frozen=True)
class LabelImage:
    """Values of a label image, upright."""

    value_HW: Integer[Array, "H W"]
    """Palette index, or stored number; 0 to 255 as displayed if the file has fewer than 8 bits."""
    colours: dict[int, Colour] | None = None
    """Colour of each index that occurs; None if the file has no palette."""


@dataclass(frozen=True)
class _Stored:
    """Content of a file before its values are checked."""

    values: Shaped[Array, "..."]
    """Values as stored, not yet upright, [H, W] or [H, W, C]."""
    orientation: int = 1
    alpha: Shaped[Array, "..."] | None = None
    lossy: bool = False
    colours: dict[int, Colour] | None = None


def decode_label_image(data: bytes, size: Size | None = None) -> LabelImage:
    """Decode a label image: palette indices, stored numbers, or the level of colours with equal channels.

    A value does not depend on bit depth, byte order or photometric interpretation. An image of two levels that are
    blurred by lossy compression or anti-aliasing gives 0 and 255.

    Args:
        data: content of the file.
        size: required height and width in pixels, checked before decoding; None: any up to `MAX_MEGAPIXELS`.

    Raises:
        Unreadable: the file is not an image, is damaged, coloured or partly transparent; has another size, several
            frames, or fractions; or has several classes but a lossy compression, or the levels of a photo.
    """
    stored = _read(data, size)
    if stored.alpha is not None and (stored.alpha != _opaque(stored.alpha.dtype)).any():
        raise Unreadable(TRANSPARENT)
    values = _without_chroma(stored.values) if stored.lossy else stored.values
    value_HW = turn_upright(_one_channel(values), stored.orientation)
    height, width = value_HW.shape
    _check_size(height, width, size)  # a damaged file may contain other pixels than its header states
    if stored.colours is not None:
        return LabelImage(value_HW, {value: stored.colours.get(value, BLACK) for value in np.unique(value_HW).tolist()})
    return LabelImage(_two_levels(value_HW, stored.lossy))


def read_palette(data: bytes) -> dict[int, Colour]:
    """Return the colour of each palette index from the header of a file; of a grey image, that 0 is black.

    Coloured images and files that cannot be read have no entries; `decode_label_image` reports them.
    """
    try:
        with open_with_pillow(data) as file:
            if file.mode == "P":
                return _palette_colours(file)
            return {0: BLACK} if file.mode in ("1", "L", *DEEP_MODES) else {}
    except Exception:  # as in `decode_image`
        return {}


def _read(data: bytes, size: Size | None) -> _Stored:
    try:
        if data.startswith(NPY):
            return _read_npy(data, size)
        if data.startswith(TIFF):
            return _read_tiff(data, size)
        return _read_by_pillow(data, size)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # as in `decode_image`
        raise Unreadable(describe_error(error)) from error


def _check_size(height: int, width: int, expected: Size | None) -> None:
    if expected is None:
        check_megapixels(width, height, MAX_MEGAPIXELS)
    elif (height, width) != expected:
        raise Unreadable(f"is {width}x{height}, but the image is {expected[1]}x{expected[0]}")


def _turned_size(height: int, width: int, orientation: int) -> Size:
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _read_npy(data: bytes, size: Size | None) -> _Stored:
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.ndim in (2, 3):
        _check_size(values.shape[0], values.shape[1], size)
    return _Stored(values)


def _read_tiff(data: bytes, size: Size | None) -> _Stored:
    """Read a TIFF with tifffile; with Pillow if it has a palette, fewer than 8 bits, or another compression."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        if page.photometric == PALETTE or page.bitspersample < 8:
            return _read_by_pillow(data, size)
        if file.pages.is_multipage:
            raise Unreadable(MULTIPLE_FRAMES)
        orientation = tiff_orientation(page)
        _check_size(*_turned_size(page.imagelength, page.imagewidth, orientation), size)
        if page.samplesperpixel > MAX_SAMPLES:
            raise Unreadable(f"has {page.samplesperpixel} channels; a grey or palette image is required")
        try:
            values = tiff_values(page)
        except (Unreadable, NotImplementedError):  # 12 bits, among others
            if is_read_by_pillow(page):
                return _read_by_pillow(data, size, lossy=page.compression in LOSSY_TIFF)
            raise
    has_alpha = values.ndim == 3 and bool(page.extrasamples) and page.extrasamples[-1] in TIFF_ALPHA
    return _Stored(values[:, :, :-1], orientation, values[:, :, -1]) if has_alpha else _Stored(values, orientation)


def _read_by_pillow(data: bytes, size: Size | None, lossy: bool = False) -> _Stored:
    check_depth(data)
    with open_with_pillow(data) as file:
        # Pillow decodes a PNG to read its orientation: a size that is wrong in every orientation is refused before.
        if size is None or sorted(size) != sorted((file.height, file.width)):
            _check_size(file.height, file.width, size)
        check_size_and_frames(file, np.inf)
        file.load()
        orientation = _orientation(file)  # 1 for a TIFF, which Pillow has turned
        if file.mode == "P":
            return _Stored(np.asarray(file), orientation, colours=_palette_colours(file))
        values, alpha = _levels(file, data)
        return _Stored(values, orientation, alpha, lossy or is_lossy(data))


def _orientation(file: Image.Image) -> int:
    found = file.getexif().get(EXIF_ORIENTATION, 1)
    return found if found in TURNS else 1


def _levels(file: Image.Image, data: bytes) -> tuple[Shaped[Array, "..."], Shaped[Array, "..."] | None]:
    """Return the levels of an image without a palette, [H, W] or [H, W, C], and its opacity [H, W], None if opaque."""
    transparent = file.info.get("transparency")
    if file.mode in DEEP_MODES or file.mode == "F":
        levels = _restore_netpbm(np.asarray(file), data, 65535)
        return levels, None if transparent is None else (levels != transparent).astype(np.uint8) * 255
    if "A" in file.getbands() or "a" in file.getbands() or transparent is not None:
        rgba = np.asarray(file.convert("RGBA"))
        return rgba[:, :, :3], rgba[:, :, 3]
    if file.mode not in ("1", "L"):
        return np.asarray(file.convert("RGB")), None
    levels = _restore_netpbm(np.asarray(file.convert("L")), data, 255)
    tags = getattr(file, "tag_v2", {})
    inverted = tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO and tags.get(TIFF_BITS, (1,))[0] == 8
    return 255 - levels if inverted else levels, None


def _restore_netpbm(levels: Shaped[Array, "H W"], data: bytes, maximum: int) -> Shaped[Array, "H W"]:
    """Return the stored numbers of a PGM, which Pillow scales to `maximum`."""
    stored = netpbm_maximum(data) if data[:2] in (b"P2", b"P5") else 0
    return (levels / maximum * stored).round().astype(levels.dtype) if stored > 1 else levels


def _palette_colours(file: Image.Image) -> dict[int, Colour]:
    colours = file.convert("P").getpalette("RGB") or []
    opacity = file.info.get("transparency", b"")
    clear = {opacity: 0} if isinstance(opacity, int) else dict(enumerate(opacity))
    triples = [colours[i : i + 3] for i in range(0, len(colours) - 2, 3)]
    return {index: (r, g, b, clear.get(index, 255)) for index, (r, g, b) in enumerate(triples)}


def is_lossy(data: bytes) -> bool:
    """Return whether a JPEG or WebP file was compressed with loss."""
    if data.startswith(b"\xff\xd8"):
        return True
    if data[:4] + data[8:12] != b"RIFFWEBP":
        return False
    return next((kind == b"VP8 " for kind in _riff_chunks(data) if kind in (b"VP8 ", b"VP8L")), False)


def _riff_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the kinds of the chunks of a RIFF file."""
    position = 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4]
        position += 8 + length + length % 2


def _opaque(dtype: np.dtype[Any]) -> float:
    return 1 if dtype.kind in "bf" else np.iinfo(dtype).max


def _without_chroma(values: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Return the brightest channel if the channels differ only as they do after lossy compression."""
    if values.ndim == 3 and (np.ptp(values, axis=2) <= MAX_CHROMA).all():
        return np.asarray(values.max(axis=2))
    return values


def _one_channel(values: Shaped[Array, "..."]) -> Integer[Array, "H W"]:
    """Return whole numbers [H, W] of equal channels.

    Raises:
        Unreadable: the channels differ, or a value is a fraction, NaN or complex.
    """
    if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "buif":
        raise Unreadable(f"contains {values.dtype} of shape {values.shape}; whole numbers [H, W] are required")
    if values.ndim == 3 and (values != values[:, :, :1]).any():
        what = "is coloured" if values.shape[2] == 3 else f"has {values.shape[2]} channels with different values"
        raise Unreadable(f"{what}; a grey or palette image is required")
    value_HW = values[:, :, 0] if values.ndim == 3 else values
    if value_HW.dtype.kind == "b":
        return value_HW.astype(np.uint8) * np.uint8(255)
    if value_HW.dtype.kind != "f":
        return value_HW
    whole_HW = np.isfinite(value_HW) & (value_HW == np.round(value_HW)) & (np.abs(value_HW) < 2**53)
    if not whole_HW.all():
        y, x = np.argwhere(~whole_HW)[0]
        raise Unreadable(
            f"contains {value_HW[y, x]:g} at x {x}, y {y}; the values of a mask must be whole numbers: save it as "
            "integers, probabilities with a threshold"
        )
    return value_HW.astype(np.int64)


def _two_levels(value_HW: Integer[Array, "H W"], lossy: bool) -> Integer[Array, "H W"]:
    """Return 0 and 255 for a mask of two blurred levels, divided halfway between them; other values as they are.

    Lossy compression and anti-aliasing add intermediate levels near edges, which differ from pixel to pixel. The values
    of classes and numbered objects fill flat regions.

    Raises:
        Unreadable: lossy compression has changed the values of several classes, or the levels are those of a photo.
    """
    largest = int(value_HW.max())
    if largest <= 0 or value_HW.min() < 0:
        return value_HW
    white = float(np.median(value_HW[value_HW > largest / 2]))  # compression exceeds this level at edges
    slack = white * MAX_NOISE if lossy else 0
    between_HW = (value_HW > slack) & (np.abs(value_HW - white) > slack)
    levels = len(np.unique(value_HW[between_HW]))
    if levels <= MAX_CLASSES_BETWEEN and not lossy:
        return value_HW
    is_gradual = not levels or _is_flat(value_HW)[between_HW].mean() < MAX_FLAT_SHARE
    if is_gradual and (white >= MIN_LOSSY or not lossy) and _has_blurred_edges(value_HW, between_HW, white):
        return (value_HW > white / 2).astype(np.uint8) * np.uint8(255)
    if lossy:
        raise Unreadable(
            f"has more than two levels, or none above {MIN_LOSSY}, and its lossy compression has changed them; save it "
            "without loss, for example as PNG, from the original values"
        )
    if is_gradual and levels > MAX_GRADUAL:
        raise Unreadable(
            f"contains {levels} levels that change gradually, as in a photo or a map of probabilities; save it with "
            "one value per class, for example after a threshold"
        )
    return value_HW


def _is_flat(value_HW: Integer[Array, "H W"]) -> Bool[Array, "H W"]:
    """Return whether each pixel equals a neighbour in its row and one in its column."""
    flat_HW = np.ones(value_HW.shape, bool)
    for axis in (0, 1):
        same = np.diff(value_HW, axis=axis) == 0
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        before[axis], after[axis] = (1, 0), (0, 1)
        flat_HW &= np.pad(same, before) | np.pad(same, after)
    return flat_HW


def _has_blurred_edges(value_HW: Integer[Array, "H W"], between_HW: Bool[Array, "H W"], white: float) -> bool:
    """Return whether most pixels are close to black or white, and the intermediate levels near both.

    Args:
        value_HW: levels.
        between_HW: pixels with an intermediate level.
        white: level of the bright pixels.
    """
    from scipy import ndimage

    black_HW, white_HW = value_HW <= white * TOLERANCE, value_HW >= white * (1 - TOLERANCE)
    if (~black_HW & ~white_HW).mean() > MAX_MIDDLE_SHARE:
        return False
    side = 2 * REACH + 1
    near_both_HW = ndimage.maximum_filter(black_HW, side) & ndimage.maximum_filter(white_HW, side)
    return not between_HW.any() or bool(near_both_HW[between_HW].mean() >= MIN_EDGE_SHARE)
