"""Overlays of truths and predictions, in colours distinguishable by colour-blind readers (Okabe and Ito 2008)."""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from PIL import Image, ImageDraw

from stages.core.shapes import Array, Bool, Integer, UInt8
from stages.images.display import to_display
from stages.tasks.task_spec import TaskSpec

Colour = tuple[int, int, int]
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)


def palette(index: int) -> Colour:
    """Return the colour of a class, point or instance; colours repeat."""
    return PALETTE[index % len(PALETTE)]


def legend(spec: TaskSpec) -> dict[str, Colour]:
    """Return the colour of each point or of each class that is drawn, by name.

    The result is empty for instances of a single class, and for tasks other than landmarks, segmentation and instances.
    """
    names: Sequence[str] = {
        "landmarks": spec.points,
        "segmentation": [label for label in spec.labels if label != _uncoloured_class(spec)],
        "instances": spec.labels if len(spec.labels) > 1 else (),
    }.get(spec.task, ())
    return {name: palette(number) for number, name in enumerate(names)}


def _uncoloured_class(spec: TaskSpec) -> str:
    """Return the class that is not coloured in a mask: the background, or else the first class."""
    return "background" if "background" in spec.labels else (*spec.labels, "")[0]


def as_rgb(image: Integer[Array, "H W *C"]) -> UInt8[Array, "H W 3"]:
    """Return an image as RGB with the channels and levels of `to_display`."""
    values = to_display(image)
    return np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values


def fill(picture: UInt8[Array, "H W 3"], mask_HW: Bool[Array, "H W"], colour: Colour) -> UInt8[Array, "H W 3"]:
    """Return a copy of an image with a mask drawn as a translucent area with a contour.

    Args:
        picture: image.
        mask_HW: pixels to fill.
        colour: red, green and blue, 0 to 255.
    """
    edge_HW = outline_of_mask(mask_HW)
    veiled = picture.copy()
    veiled[mask_HW] = (0.65 * picture[mask_HW] + 0.35 * np.array(colour)).astype(np.uint8)
    veiled[edge_HW] = colour
    return veiled


def outline_of_mask(mask_HW: Bool[Array, "H W"]) -> Bool[Array, "H W"]:
    """Return the boundary pixels of a mask; the edge of the image is not a boundary."""
    padded = np.pad(mask_HW, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask_HW & ~inner


def dot(picture: UInt8[Array, "H W 3"], x: float, y: float, colour: Colour) -> UInt8[Array, "H W 3"]:
    """Return a copy of an image with a point drawn as a dot in a ring, whose size depends on that of the image.

    Args:
        picture: image.
        x: column, pixels.
        y: row, pixels.
        colour: RGB.
    """
    image = Image.fromarray(picture)
    draw, radius = ImageDraw.Draw(image), max(2.0, max(picture.shape[:2]) / 90)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=max(1, round(radius / 3)))
    draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=colour)
    return np.asarray(image)


def frame(picture: UInt8[Array, "H W 3"], box: Sequence[SupportsFloat], colour: Colour) -> UInt8[Array, "H W 3"]:
    """Return a copy of an image with a box drawn on it.

    Args:
        picture: image.
        box: x0, y0, x1, y1, pixels.
        colour: RGB.
    """
    image = Image.fromarray(picture)
    x0, y0, x1, y1 = (float(v) for v in box)
    width = max(1, round(max(picture.shape[:2]) / 300))
    ImageDraw.Draw(image).rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=width)
    return np.asarray(image)


def line(
    picture: UInt8[Array, "H W 3"], start: Sequence[SupportsFloat], end: Sequence[SupportsFloat], colour: Colour
) -> UInt8[Array, "H W 3"]:
    """Return a copy of an image with a straight line, as thick as the lines of a box.

    Args:
        picture: image.
        start: x, y, pixels.
        end: x, y, pixels.
        colour: RGB.
    """
    image = Image.fromarray(picture)
    width = max(1, round(max(picture.shape[:2]) / 300))
    ImageDraw.Draw(image).line((*map(float, start), *map(float, end)), fill=colour, width=width)
    return np.asarray(image)
