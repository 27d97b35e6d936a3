"""Generated photos, and the changes from a photo to a copy of it, each with a strength.

Axes: H, W, and 3 colours, uint8.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
SIZE = 72  # width and height of an image

Change = Callable[[Array, float, Rng], Array]


def clouds(rng: Rng, height: int = SIZE, width: int = SIZE) -> Array:
    """Return a texture of several scales and colours, 0 to 255, float.

    Args:
        rng: random generator.
        height: height in pixels.
        width: width in pixels.
    """
    layers = [s * gaussian_filter(rng.normal(size=(height, width, 3)), (s, s, 0.7)) for s in (1, 2, 4, 8)]
    total = np.sum(layers, axis=0)
    return np.asarray(np.clip(128 + 45 * total / total.std(), 0, 255))


def draw_object(image: Array, rng: Rng, kind: int, place: tuple[float, float] | None = None) -> Array:
    """Draw a disc (kind 0) or a cross (kind 1) of a random colour, size and place.

    Args:
        image: the background.
        rng: random generator.
        kind: 0 or 1.
        place: centre as shares of width and height; None: random.
    """
    picture = Image.fromarray(as_image(image))
    height, width = image.shape[:2]
    x, y = (width, height) * (rng.uniform(0.3, 0.7, 2) if place is None else np.array(place))
    radius, colour = rng.uniform(0.1, 0.2) * width, tuple(int(v) for v in rng.integers(0, 255, 3))
    draw = ImageDraw.Draw(picture)
    if kind:
        draw.rectangle((x - radius, y - radius / 3, x + radius, y + radius / 3), fill=colour)
        draw.rectangle((x - radius / 3, y - radius, x + radius / 3, y + radius), fill=colour)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return np.asarray(picture).astype(float)


def photo(rng: Rng, kind: int) -> Array:
    """Return a photo of an object of a class, 0 or 1, on its own background."""
    return as_image(draw_object(clouds(rng), rng, kind))


def as_image(levels: Array) -> Array:
    """Return levels as uint8."""
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def encode(image: Array, kind: str = "PNG", quality: int = 92, taken: str = "") -> bytes:
    """Return the bytes of an image file.

    Args:
        image: the image.
        kind: `PNG` or `JPEG`.
        quality: quality of a JPEG, 1 to 100.
        taken: EXIF time, such as `2020:01:31 12:00:00`; empty: none.
    """
    buffer, exif = io.BytesIO(), Image.Exif()
    if taken:
        exif[306] = exif.get_ifd(0x8769)[36867] = taken
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, quality=quality, exif=exif)
    return buffer.getvalue()


def _resized(image: Array, height: int, width: int) -> Array:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _encoded(image: Array, quality: float, rng: Rng) -> Array:
    return np.asarray(Image.open(io.BytesIO(encode(image, "JPEG", int(quality)))))


def _scaled(image: Array, factor: float, rng: Rng) -> Array:
    return _resized(image, *(max(1, round(side * factor)) for side in image.shape[:2]))


def _mirrored(image: Array, strength: float, rng: Rng) -> Array:
    return image[:, ::-1]


def _turned(image: Array, degrees: float, rng: Rng) -> Array:
    """Rotate by a multiple of 90 degrees exactly, by another angle with a crop to what remains filled."""
    if degrees % 90 == 0:
        return np.rot90(image, round(degrees / 90))
    turned = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC))
    rim = int(np.ceil(SIZE / 2 * np.sin(np.deg2rad(degrees))))
    return turned[rim:-rim, rim:-rim]


def _cropped(image: Array, share: float, rng: Rng) -> Array:
    height, width = image.shape[:2]
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = rng.integers(0, rows + 1), rng.integers(0, columns + 1)
    return image[top : height - rows + top, left : width - columns + left]


def _brighter(image: Array, levels: float, rng: Rng) -> Array:
    return as_image(image.astype(float) + levels)


def _gamma(image: Array, gamma: float, rng: Rng) -> Array:
    return as_image(255 * (image / 255.0) ** gamma)


def _contrast(image: Array, factor: float, rng: Rng) -> Array:
    return as_image(128 + (image.astype(float) - 128) * factor)


def _framed(image: Array, share: float, rng: Rng) -> Array:
    """Add the frame of a window, as on a screenshot."""
    rim = max(1, round(share * SIZE))
    return np.pad(image, ((2 * rim, rim), (rim, rim), (0, 0)), constant_values=240)


def _watermarked(image: Array, opacity: float, rng: Rng) -> Array:
    stripes = (np.add.outer(np.arange(image.shape[0]), np.arange(image.shape[1])) // 4 % 5 == 0)[:, :, None]
    return as_image(image * (1 - opacity * stripes) + 255 * opacity * stripes)


def _captioned(image: Array, share: float, rng: Rng) -> Array:
    picture = Image.fromarray(image.copy())
    height = max(8, round(share * image.shape[0]))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, image.shape[0] - height, image.shape[1], image.shape[0]), fill=(0, 0, 0))
    draw.text((2, image.shape[0] - height), "SITE 2020", fill=(255, 255, 0))
    return np.asarray(picture)


def _recoloured(image: Array, strength: float, rng: Rng) -> Array:
    """Mix the channels, as another colour profile does."""
    return as_image((1 - strength) * image + strength * np.roll(image, 1, axis=2))


def _grey(image: Array, strength: float, rng: Rng) -> Array:
    return np.asarray(Image.fromarray(image).convert("L"))


def _noisy(image: Array, levels: float, rng: Rng) -> Array:
    return as_image(image + rng.normal(0, levels, image.shape))


def _blurred(image: Array, radius: float, rng: Rng) -> Array:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _posted(image: Array, strength: float, rng: Rng) -> Array:
    """Reduce, brighten and encode, as a messenger does."""
    return _encoded(_brighter(_scaled(image, 1 - strength, rng), 40 * strength, rng), 100 - 100 * strength, rng)


def _sharpened(image: Array, strength: float, rng: Rng) -> Array:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.UnsharpMask(2, round(100 * strength), 0)))


def _inverted(image: Array, strength: float, rng: Rng) -> Array:
    return 255 - image


def _composed(image: Array, share: float, rng: Rng) -> Array:
    """Put another picture into the lower right corner."""
    side, result = round(share * SIZE), image.copy()
    result[-side:, -side:] = as_image(clouds(rng))[:side, :side]
    return result


COPIES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "re-encoded, JPEG quality": (_encoded, (90, 50, 20)),
    "resized, factor": (_scaled, (0.75, 0.5, 0.25)),
    "mirrored": (_mirrored, (1,)),
    "rotated, degrees": (_turned, (2, 5, 90, 180)),
    "cropped, share of the side": (_cropped, (0.02, 0.05, 0.1, 0.2)),
    "brighter, levels": (_brighter, (10, 30, 60)),
    "gamma": (_gamma, (0.5, 1.5, 2.5)),
    "lower contrast, factor": (_contrast, (0.7, 0.4)),
    "screenshot with a frame, share of the side": (_framed, (0.03, 0.08)),
    "watermark, opacity": (_watermarked, (0.2, 0.5)),
    "caption, share of the height": (_captioned, (0.12, 0.25)),
    "other colour profile, mixing of the channels": (_recoloured, (0.3, 1)),
    "greyscale": (_grey, (1,)),
    "noise, levels": (_noisy, (5, 15, 30)),
    "blur, pixels": (_blurred, (0.7, 1.5, 3)),
    "sharpened, strength": (_sharpened, (1, 3)),
    "sent by a messenger, strength": (_posted, (0.3, 0.6)),
    "negative": (_inverted, (1,)),
    "composite with another picture, share of the side": (_composed, (0.25, 0.4)),
}
"""Change from a photo to its copy, and strengths."""
