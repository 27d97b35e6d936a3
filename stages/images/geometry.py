"""Map original images to working images and back: the geometry of pixels, labels and predictions.

Pixel coordinates are those of `stages.dataset.annotations`: the origin of points is the centre of the first pixel, that
of boxes its edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from stages.core.shapes import Array, Float, Integer, Real, Shaped


@dataclass(frozen=True)
class Placement:
    """Position of an original image, or of a tile of it, in a working image.

    The top left `inner_height` x `inner_width` pixels of the working image show the original or the tile.
    """

    height: int
    """Height of the original image, pixels."""
    width: int
    top: int
    """First row of the tile in the original, pixels; 0 without tiling."""
    left: int
    inner_height: int
    inner_width: int
    scale_y: float
    """Working pixels per original pixel."""
    scale_x: float

    def transform_points(self, xy_P2: Real[Array, "P 2"]) -> Float[Array, "P 2"]:
        """Transform points from the original to the working image."""
        return np.stack(
            [
                (xy_P2[:, 0] - self.left + 0.5) * self.scale_x - 0.5,
                (xy_P2[:, 1] - self.top + 0.5) * self.scale_y - 0.5,
            ],
            axis=1,
        )

    def transform_boxes(self, box_M4: Real[Array, "M 4"]) -> Float[Array, "M 4"]:
        """Transform boxes from the original to the working image."""
        shift, scale = [self.left, self.top] * 2, [self.scale_x, self.scale_y] * 2
        return (box_M4 - np.array(shift)) * np.array(scale)


def inner_size(height: int, width: int, fit: str, size: int) -> tuple[int, int]:
    """Return the height and width to which an image is resized inside a working image.

    The computation uses integers only, so that the exported graph reproduces it exactly.

    Args:
        height: height of the original image, pixels.
        width: width of the original image, pixels.
        fit: "stretch", or another mode, which preserves the aspect ratio.
        size: side of the working image, pixels.

    >>> inner_size(100, 200, "letterbox", 64), inner_size(100, 200, "stretch", 64)
    ((32, 64), (64, 64))
    """
    if fit == "stretch":
        return size, size
    longer = max(height, width)
    return max(1, (2 * height * size + longer) // (2 * longer)), max(1, (2 * width * size + longer) // (2 * longer))


def placements(height: int, width: int, fit: str, size: int, overlap: float) -> list[Placement]:
    """Return the placement of an original image, or for fit `tile` those of the tiles that cover it.

    Args:
        height: height of the original image, pixels.
        width: width of the original image, pixels.
        fit: "letterbox", "stretch" or "tile".
        size: side of the working image, pixels.
        overlap: minimum overlap of neighbouring tiles, as a share of their side; used for fit `tile` only.
    """
    if fit != "tile":
        inner_height, inner_width = inner_size(height, width, fit, size)
        return [Placement(height, width, 0, 0, inner_height, inner_width, inner_height / height, inner_width / width)]
    return [
        Placement(height, width, top, left, min(size, height), min(size, width), 1.0, 1.0)
        for top in _starts(height, size, overlap)
        for left in _starts(width, size, overlap)
    ]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Return the first pixels, evenly spaced along an axis, of tiles that overlap by at least a share of their side."""
    count = max(1, ceil((length - size * overlap) / (size * (1 - overlap))))
    return [int(start) for start in np.linspace(0, max(0, length - size), count).round()]


def crop_tile(image: Shaped[Array, "H W *C"], placement: Placement, size: int) -> Shaped[Array, "{size} {size} *C"]:
    """Crop a tile from an image and pad it by reflection at the lower and right edges of the image.

    Args:
        image: the original image, with any number of channels.
        placement: position of the tile.
        size: side of the tile, pixels.
    """
    part = image[placement.top : placement.top + size, placement.left : placement.left + size]
    short = [(0, size - part.shape[0]), (0, size - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
    return np.pad(part, short, mode="symmetric") if any(after for _, after in short) else part


def resample_labels(
    index_HW: Shaped[Array, "H W"], placement: Placement, size: int, outside: int
) -> Shaped[Array, "{size} {size}"]:
    """Resample a label image to a working image by nearest neighbour, or crop a tile of it if the scale is 1.

    Args:
        index_HW: label image of the original.
        placement: position of the original, or of a tile of it, in the working image.
        size: side of the working image, pixels.
        outside: index of pixels outside the original.
    """
    if placement.scale_x == placement.scale_y == 1.0:
        part = index_HW[
            placement.top : placement.top + placement.inner_height,
            placement.left : placement.left + placement.inner_width,
        ]
    else:
        rows = _nearest(placement.height, placement.inner_height)
        part = index_HW[rows][:, _nearest(placement.width, placement.inner_width)]
    out = np.full((size, size), outside, index_HW.dtype)
    out[: part.shape[0], : part.shape[1]] = part
    return out


def _nearest(length: int, inner: int) -> Integer[Array, " {inner}"]:
    return ((np.arange(inner) + 0.5) * (length / inner)).astype(int).clip(0, length - 1)


def blend_tiles(parts: Sequence[Float[Array, "*C S S"]], tiles: Sequence[Placement]) -> Float[Array, "*C H W"]:
    """Blend predictions of overlapping tiles, weighted by the product of the distances to the edges on both axes.

    Args:
        parts: predictions of the tiles.
        tiles: placements of the tiles.

    Returns:
        The prediction for the original image.
    """
    first, size = tiles[0], parts[0].shape[-1]
    ramp = np.minimum(np.arange(size) + 1, size - np.arange(size)).astype(np.float32)
    weight_SS = np.outer(ramp, ramp)
    total = np.zeros((*parts[0].shape[:-2], first.height, first.width), np.float32)
    weights = np.zeros((first.height, first.width), np.float32)
    for part, placement in zip(parts, tiles, strict=True):
        height, width = placement.inner_height, placement.inner_width
        where = (slice(placement.top, placement.top + height), slice(placement.left, placement.left + width))
        weight_HW = weight_SS[:height, :width]
        total[(..., *where)] += part[..., :height, :width] * weight_HW
        weights[where] += weight_HW
    return total / weights
