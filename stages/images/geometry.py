"""How an original image lies in the working image, and back: the one geometry of pixels, labels and answers.

Pixel coordinates as in `stages.dataset.annotations`: points count from the centre of the first pixel, boxes from its
edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image

from stages.core.shapes import Array, Float, Real, Shaped


@dataclass(frozen=True)
class Placement:
    """One working image: `inner_height` x `inner_width` pixels of it, at its top left, show a part of the original."""

    height: int
    """Of the original image, pixels."""
    width: int
    top: int
    """Where the part begins in the original, pixels; 0 but for tiles."""
    left: int
    inner_height: int
    inner_width: int
    scale_y: float
    """Working pixels per original pixel."""
    scale_x: float

    def transform_points(self, xy_P2: Array) -> Array:
        """Points of the original as points of the working image."""
        return np.stack(
            [
                (xy_P2[:, 0] - self.left + 0.5) * self.scale_x - 0.5,
                (xy_P2[:, 1] - self.top + 0.5) * self.scale_y - 0.5,
            ],
            axis=1,
        )

    def transform_boxes(self, box_M4: Array) -> Array:
        """Boxes of the original as boxes of the working image."""
        shift, scale = [self.left, self.top] * 2, [self.scale_x, self.scale_y] * 2
        return (box_M4 - np.array(shift)) * np.array(scale)


def inner_size(height: int, width: int, fit: str, size: int) -> tuple[int, int]:
    """Height and width to which an image is resized inside a working image of `size`.

    Whole-number arithmetic, which the exported graph repeats exactly.

    >>> inner_size(100, 200, "letterbox", 64), inner_size(100, 200, "stretch", 64)
    ((32, 64), (64, 64))
    """
    if fit == "stretch":
        return size, size
    longer = max(height, width)
    return max(1, (2 * height * size + longer) // (2 * longer)), max(1, (2 * width * size + longer) // (2 * longer))


def placements(height: int, width: int, fit: str, size: int, overlap: float) -> list[Placement]:
    """The working images of an original: one, or for `tile` as many as cover it."""
    if fit != "tile":
        inner_height, inner_width = inner_size(height, width, fit, size)
        return [Placement(height, width, 0, 0, inner_height, inner_width, inner_height / height, inner_width / width)]
    return [
        Placement(height, width, top, left, min(size, height), min(size, width), 1.0, 1.0)
        for top in _starts(height, size, overlap)
        for left in _starts(width, size, overlap)
    ]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Evenly spread beginnings of tiles that overlap by at least the given share."""
    count = max(1, ceil((length - size * overlap) / (size * (1 - overlap))))
    return [int(start) for start in np.linspace(0, max(0, length - size), count).round()]


def crop_tile(image: Shaped[Array, "H W *C"], frame: Placement, size: int) -> Shaped[Array, "{size} {size} *C"]:
    """The tile [size, size, ...] of an image [H, W, ...]; beyond its edge the image mirrored."""
    part = image[frame.top : frame.top + size, frame.left : frame.left + size]
    short = [(0, size - part.shape[0]), (0, size - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
    return np.pad(part, short, mode="symmetric") if any(after for _, after in short) else part


def resample_labels(
    index_HW: Shaped[Array, "H W"], frame: Placement, size: int, beyond: int
) -> Shaped[Array, "{size} {size}"]:
    """A label image in the working frame: the nearest pixel's index, `beyond` where there is no image."""
    if frame.scale_x == frame.scale_y == 1.0:
        part = index_HW[frame.top : frame.top + frame.inner_height, frame.left : frame.left + frame.inner_width]
    else:
        rows = _nearest(frame.height, frame.inner_height)
        part = index_HW[rows][:, _nearest(frame.width, frame.inner_width)]
    out = np.full((size, size), beyond, index_HW.dtype)
    out[: part.shape[0], : part.shape[1]] = part
    return out


def _nearest(length: int, inner: int) -> Array:
    return ((np.arange(inner) + 0.5) * (length / inner)).astype(int).clip(0, length - 1)


def resize_density(values_HWC: Real[Array, "H W C"], height: int, width: int) -> Float[Array, "{height} {width} C"]:
    """Float channels resized without a change of their sum: for densities."""
    factor = values_HWC.shape[0] * values_HWC.shape[1] / (height * width)
    channels = [
        np.asarray(Image.fromarray(values_HW.astype(np.float32)).resize((width, height), Image.Resampling.BOX))
        for values_HW in np.moveaxis(values_HWC, 2, 0)
    ]
    return np.stack(channels, axis=2) * factor


def blend_tiles(parts: Sequence[Float[Array, "*C S S"]], placed: Sequence[Placement]) -> Float[Array, "*C H W"]:
    """Answers of overlapping tiles [..., size, size] as one [..., H, W], blended by the distance to a tile's edge."""
    first, size = placed[0], parts[0].shape[-1]
    ramp = np.minimum(np.arange(size) + 1, size - np.arange(size)).astype(np.float32)
    weight_SS = np.outer(ramp, ramp)
    total = np.zeros((*parts[0].shape[:-2], first.height, first.width), np.float32)
    weights = np.zeros((first.height, first.width), np.float32)
    for part, frame in zip(parts, placed, strict=True):
        height, width = frame.inner_height, frame.inner_width
        where = (slice(frame.top, frame.top + height), slice(frame.left, frame.left + width))
        weight_HW = weight_SS[:height, :width]
        total[(..., *where)] += part[..., :height, :width] * weight_HW
        weights[where] += weight_HW
    return total / weights
