"""Statistics of one image for the audits and the data report, cheap enough to compute for every file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageChops
from scipy.fft import dctn

from stages.core.shapes import Array, Float, Integer, UInt8
from stages.images.decode import DecodedImage, to_channels

EXPOSURE = ("brightness", "darkest", "brightest", "redness", "blueness")
"""Statistics of lighting and colour: classes may differ in them, but they seldom suffice to predict the class."""
STRUCTURE = ("contrast", "border", "sharpness", "entropy", "foreground", "black", "white")
"""Statistics of the content of an image: classes may legitimately differ in them."""
METADATA = ("width", "height", "bytes", "bytes_per_pixel", "format", "mode", "camera", "taken", "software", "quality")
"""Properties of the file, which do not determine the class of an image."""
MONITORED = (
    "width", "height", "brightness", "contrast", "entropy", "sharpness", "edge_width", "black", "white", "redness",
    "blueness",
)  # fmt: skip
"""Statistics of new images that are compared with those of the training images, see `stages.drift`."""
THUMBNAIL_SIZE = 8  # pixels per side
HOT_PIXEL_SHARE = 1e-4  # share of pixels, at least one, that may be hot pixels of the sensor
REDUCING_GAP = 3.0  # multiple of the target size to which an image is averaged before resampling
EDGE_SIDE, BLOCK, EDGE_SHARE = (
    256,
    8,
    0.05,
)  # longer side and blocks for the width of edges, pixels; share of the blocks
LEVELS = np.arange(256)


def compute_statistics(picture: DecodedImage) -> dict[str, Any]:
    """Compute the statistics of an image, in grey levels from 0 to 255 unless stated otherwise.

    width, height: size, pixels; format, mode, camera, taken, software, quality: see `DecodedImage`; brightness,
    contrast: mean and standard deviation; darkest, brightest: 5th and 95th percentile; highest: highest level of any
    channel that more than `HOT_PIXEL_SHARE` of the pixels, and more than one, reach; black, white: share of pixels at
    level 0 and 255; entropy: entropy of the grey levels, bits, 0 to 8; border, border_contrast: mean and standard
    deviation of the border, which is one sixteenth of the shorter side wide; foreground: share of pixels that Otsu's
    threshold (1979) separates from the border; sharpness: mean absolute difference of neighbouring pixels; edge_width:
    see `edge_width`; red, green, blue and ..._contrast: mean and standard deviation of a channel, or of the grey image
    if there are not three channels; redness, blueness: mean of R - G and of B - G, -255 to 255; blank: whether all
    pixels have the same grey level; thumbnail: 8x8 RGB bytes; phash, phash_mirrored: see `perceptual_hashes`.
    """
    image = to_uint8(picture.image)
    colour = Image.fromarray(image) if image.shape[2:] == (3,) else None  # created once, since it copies the pixels
    grey_image = Image.fromarray(_grey(image)) if colour is None else colour.convert("L")
    grey = np.asarray(grey_image)
    height, width = grey.shape
    counts = np.array(grey_image.histogram())
    mean, contrast = moments(counts)
    phash, phash_mirrored = perceptual_hashes(grey_image)
    histograms = counts[None] if colour is None else _histograms(colour)
    channels = [(mean, contrast)] * 3 if colour is None else [moments(c) for c in histograms]
    (red, _), (green, _), (blue, _) = channels
    darkest, brightest = np.searchsorted(np.cumsum(counts), (0.05 * grey.size, 0.95 * grey.size))
    rim = _rim(grey)
    return {
        "width": width,
        "height": height,
        "format": picture.format,
        "mode": picture.mode,
        "camera": picture.camera,
        "taken": picture.taken,
        "software": picture.software,
        "quality": picture.quality,
        "brightness": mean,
        "contrast": contrast,
        "darkest": float(darkest),
        "brightest": float(brightest),
        "highest": _highest(histograms if image.ndim == 2 or image.shape[2] in (1, 3) else channel_histograms(image)),
        "black": float(counts[0] / grey.size),
        "white": float(counts[255] / grey.size),
        "entropy": _entropy(counts),
        "border": float(rim.mean()),
        "border_contrast": float(rim.std()),
        "foreground": _foreground(counts, float(rim.mean())),
        "sharpness": _sharpness(grey_image),
        "edge_width": edge_width(grey_image),
        **{name: value for name, (value, _) in zip(("red", "green", "blue"), channels, strict=True)},
        **{f"{name}_contrast": std for name, (_, std) in zip(("red", "green", "blue"), channels, strict=True)},
        "redness": red - green,
        "blueness": blue - green,
        "blank": bool(counts.max() == grey.size),
        "thumbnail": _thumbnail(grey_image if colour is None else colour),
        "phash": phash,
        "phash_mirrored": phash_mirrored,
    }


def select_statistics(statistics: Mapping[str, Any]) -> dict[str, float]:
    """Return the statistics of an image that `MONITORED` lists, rounded to six decimals."""
    return {name: round(float(statistics[name]), 6) for name in MONITORED}


def to_uint8(image: Integer[Array, "H W *C"]) -> UInt8[Array, "H W *C"]:
    """Convert uint16 levels to the scale 0 to 255; uint8 is returned unchanged."""
    return (image // 257).astype(np.uint8) if image.dtype == np.uint16 else image


def to_grey(image: Integer[Array, "H W *C"]) -> UInt8[Array, "H W"]:
    """Convert an image to 8-bit grey: the luma of three channels, or the mean of any other number of channels."""
    return _grey(to_uint8(image))


def _grey(image: UInt8[Array, "H W *C"]) -> UInt8[Array, "H W"]:
    """Return the luma of a colour image, or the mean of the channels of any other image."""
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        return image.mean(axis=2).round().astype(np.uint8)
    return to_channels(image, 1)[:, :, 0]


def _histograms(colour: Image.Image) -> Integer[Array, "3 256"]:
    """Return the histogram of each channel; its moments take a tenth of the time of moments of the pixels in NumPy."""
    return np.array(colour.histogram()).reshape(3, 256)


def moments(counts: Integer[Array, "256"]) -> tuple[float, float]:
    """Return the mean and the standard deviation of the levels of a histogram."""
    mean = float(counts @ LEVELS / counts.sum())
    return mean, float(np.sqrt(counts @ (LEVELS - mean) ** 2 / counts.sum()))


def count_values(level: Integer[Array, "H W"]) -> dict[int, int]:
    """Return the number of pixels by value, without sorting the pixels if they have 8 or 16 bits.

    >>> count_values(np.array([[0, 2], [2, 2]], np.uint8))
    {0: 1, 2: 3}
    """
    if level.dtype in (np.uint8, np.uint16):
        counts = np.bincount(level.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(level, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def channel_histograms(image: UInt8[Array, "H W *C"]) -> Integer[Array, "C 256"]:
    """Return the histogram of each channel."""
    if image.ndim == 2:
        return np.bincount(image.ravel(), minlength=256)[None]
    if image.shape[2] == 3:
        return _histograms(Image.fromarray(image))
    return np.stack([np.bincount(image[:, :, c].ravel(), minlength=256) for c in range(image.shape[2])])


def _highest(histograms: Integer[Array, "C 256"]) -> float:
    """Return the highest level that more pixels of a channel reach than may be hot pixels."""
    pixels = int(histograms[0].sum())
    above = np.cumsum(histograms[:, ::-1], axis=1)[:, ::-1]  # pixels at this level or a higher one
    return float(np.flatnonzero((above > min(max(1, HOT_PIXEL_SHARE * pixels), pixels - 1)).any(axis=0))[-1])


def _entropy(counts: Integer[Array, "256"]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0  # avoids -0.0 for a blank image


def _rim(grey: UInt8[Array, "H W"]) -> UInt8[Array, " N"]:
    """Return the pixels of the border, which is a sixteenth of the shorter side wide, but at least one pixel."""
    height, width = grey.shape
    rim = max(1, round(min(height, width) / 16))
    if min(height, width) <= 2 * rim:
        return grey.ravel()
    sides = (grey[:rim], grey[-rim:], grey[rim:-rim, :rim], grey[rim:-rim, -rim:])
    return np.concatenate([side.ravel() for side in sides])


def _foreground(counts: Integer[Array, "256"], border: float) -> float:
    """Return the share of pixels on the other side of Otsu's threshold than the border; 0 for a blank image."""
    total, weighted = counts.sum(), counts * LEVELS
    below = np.cumsum(counts)[:-1]
    inside = (below > 0) & (below < total)
    if not inside.any():
        return 0.0
    sums = np.cumsum(weighted)[:-1][inside]
    below = below[inside]
    between = (weighted.sum() * below / total - sums) ** 2 / (below * (total - below))
    best = int(np.argmax(between))
    dark = below[best] / total
    return float(1 - dark if border <= LEVELS[:-1][inside][best] + 0.5 else dark)


def _sharpness(image: Image.Image) -> float:
    """Return the mean absolute difference of neighbouring pixels, averaged over columns and rows."""
    width, height = image.size
    steps = 0.0
    for dx, dy in ((1, 0), (0, 1)):
        if width > dx and height > dy:
            one, other = image.crop((dx, dy, width, height)), image.crop((0, 0, width - dx, height - dy))
            steps += moments(np.array(ImageChops.difference(one, other).histogram()))[0] / 2
    return steps


def edge_width(grey: Image.Image) -> float:
    """Return the width of the strongest edges of an image in pixels, at a longer side of `EDGE_SIDE` if it is larger.

    It is the range of grey levels in a block of 8x8 pixels, divided by the largest step between neighbours in the
    block: 1 for a sharp edge, 8 for a gradient. The result is the median of the twentieth of the blocks with the
    largest range. Thus it depends neither on the number nor on the contrast of the edges, and images of different sizes
    are compared at one scale. It is 1 for a blank image.
    """
    width, height = grey.size
    scale = min(1.0, EDGE_SIDE / max(width, height))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    level = np.asarray(grey.resize(size, Image.Resampling.BOX, reducing_gap=REDUCING_GAP))
    level = np.pad(level, [(0, max(0, BLOCK - side)) for side in level.shape], mode="edge")
    step = np.zeros_like(level)
    for one, other, inside in ((level[:, 1:], level[:, :-1], step[:, 1:]), (level[1:], level[:-1], step[1:])):
        np.maximum(inside, np.maximum(one, other) - np.minimum(one, other), out=inside)
    span = (_reduce_blocks(level, np.maximum) - _reduce_blocks(level, np.minimum)).astype(float)
    steepest = _reduce_blocks(step, np.maximum)
    strongest = span >= max(1, np.quantile(span, 1 - EDGE_SHARE))
    if not strongest.any():
        return 1.0
    return float(np.median(np.maximum(1, span[strongest] / np.maximum(steepest[strongest], 1))))


def _reduce_blocks(level: UInt8[Array, "H W"], reduce: np.ufunc) -> UInt8[Array, "h w"]:
    """Return the reduction of each block of `BLOCK` x `BLOCK` pixels; an incomplete block at the end is left out."""
    rows, columns = (side // BLOCK for side in level.shape)
    whole = level[: rows * BLOCK, : columns * BLOCK]
    of_rows = reduce.reduce(whole.reshape(rows, BLOCK, columns * BLOCK), axis=1)
    return np.asarray(reduce.reduce(of_rows.reshape(rows, columns, BLOCK), axis=2))


def _thumbnail(image: Image.Image) -> bytes:
    small = image.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BOX, reducing_gap=REDUCING_GAP)
    return small.convert("RGB").tobytes()


def unpack_thumbnails(column: Any) -> UInt8[Array, "N 8 8 3"]:
    """Return the thumbnails of the manifest column `thumbnail`."""
    return np.frombuffer(b"".join(column), np.uint8).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)


def perceptual_hashes(grey: Image.Image) -> tuple[str, str]:
    """Return perceptual hashes of the image and of its mirror image, 64 bits as 16 hex digits each.

    The hash is robust to re-encoding and resizing. It consists of the signs of the 8x8 lowest frequencies of the DCT of
    the grey image at 32x32, after subtraction of the median of all but the constant one (Zauner 2010, "Implementation
    and benchmarking of perceptual image hash functions"). Mirroring flips the sign of every odd horizontal frequency.
    """
    small = grey.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    low = dctn(np.asarray(small, np.float32), norm="ortho")[:8, :8]
    return _signs(low), _signs(low * np.array([1, -1] * 4))


def _signs(low: Float[Array, "8 8"]) -> str:
    bits = low.ravel() > np.partition(low.ravel()[1:], 31)[31]  # median without the DC term, which would raise it
    return np.packbits(bits).tobytes().hex()
