"""Planted copies: changed copies of images, by which the search for near-duplicates is tested on each data set.

A search that does not find planted copies cannot show that the data set has none.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

from stages.core.shapes import Array, Integer
from stages.images.image_statistics import to_grey

COPIES = 40  # planted copies of each kind, of one image each
MIN_FOUND = 0.8  # share of the planted copies of a kind that must be found before their absence is reported

Image = Integer[Array, "_ _ *_"]


def _mirror(image: Image) -> Image:
    return image[:, ::-1]


def _crop(image: Image) -> Image:
    """Remove a fortieth of the image, at least one pixel, at each edge."""
    rows, columns = (max(1, side // 40) for side in image.shape[:2])
    return image[rows:-rows, columns:-columns]


def _expose(image: Image) -> Image:
    """Halve the exposure: half of the light, with the gamma 2.2 of most image files."""
    return (image * 0.5 ** (1 / 2.2)).astype(image.dtype)


def _photograph_again(image: Image) -> Image:
    """Move the camera by a thirtieth of the image, halve the exposure, and add noise of a fiftieth of the range."""
    rows, columns = (max(1, side // 30) for side in image.shape[:2])
    moved = _expose(np.pad(image, ((0, rows), (0, columns), (0, 0))[: image.ndim], "reflect")[rows:, columns:])
    limit = np.iinfo(image.dtype).max
    noise = np.random.default_rng(0).normal(0, limit / 50, moved.shape)
    return np.clip(moved + noise, 0, limit).astype(image.dtype)


KINDS: dict[str, Callable[[Image], Image]] = {
    "mirrored": _mirror,
    "cropped by 5%": _crop,
    "darkened": _expose,
    "photographed again": _photograph_again,
}
"""Change by kind of copy."""


def _crop_strongly(image: Image) -> Image:
    """Keep four fifths of the width and height, one third of the rest off the top and left."""
    rows, columns = (side // 5 for side in image.shape[:2])
    top, left = rows // 3, columns // 3
    return image[top : image.shape[0] - rows + top, left : image.shape[1] - columns + left]


STRONG: dict[str, Callable[[Image], Image]] = {
    "cropped by 20%": _crop_strongly,
    "rotated by 90°": np.rot90,
    "rotated by 180°": lambda image: np.rot90(image, 2),
    "inverted": lambda image: np.iinfo(image.dtype).max - image,
}
"""Change by kind of copy that is found only by comparing all pairs of images."""


def _encode_again(image: Image) -> Image:
    """Store the grey levels as a JPEG of quality 50."""
    buffer = io.BytesIO()
    Picture.fromarray(to_grey(image)).save(buffer, "JPEG", quality=50)
    return np.asarray(Picture.open(buffer))


def _halve(image: Image) -> Image:
    """Reduce the grey levels to half the width and height."""
    height, width = image.shape[:2]
    size = max(1, width // 2), max(1, height // 2)
    return np.asarray(Picture.fromarray(to_grey(image)).resize(size, Picture.Resampling.BICUBIC))


SAME_IMAGE: dict[str, Callable[[Image], Image]] = {"re-encoded": _encode_again, "reduced to half the size": _halve}
"""Change by kind of copy that counts as the same image, not as a near-duplicate."""


@dataclass(frozen=True)
class Detection:
    """Number of planted copies of a kind, and how many of them the search finds."""

    found: int
    planted: int

    @property
    def is_reliable(self) -> bool:
        """True if the search finds enough of these copies to report that there are none."""
        return self.planted > 0 and self.found >= MIN_FOUND * self.planted


def describe_detection(planted: dict[str, Detection], reliable: bool) -> str:
    """Return the kinds of copies that the search finds reliably, or those that it does not, each with its figures.

    >>> describe_detection({"mirrored": Detection(40, 40), "cropped by 5%": Detection(3, 40)}, reliable=False)
    'cropped by 5% (3 of 40 planted copies found)'
    """
    return ", ".join(
        f"{kind} ({one.found} of {one.planted} planted copies found)"
        for kind, one in planted.items()
        if one.is_reliable == reliable
    )
