"""Truths and answers drawn over images, in colours that colour-blind people can tell (Okabe and Ito 2008)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
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
    """A colour for a class, a point or a thing; they repeat."""
    return PALETTE[index % len(PALETTE)]


def legend(spec: TaskSpec) -> dict[str, Colour]:
    """What a colour stands for in the drawings of a task: points, or classes where there are several to tell apart."""
    names: Sequence[str] = {
        "landmarks": spec.points,
        "segmentation": [label for label in spec.labels if label != _bare(spec)],
        "instances": spec.labels if len(spec.labels) > 1 else (),
    }.get(spec.task, ())
    return {name: palette(number) for number, name in enumerate(names)}


def _bare(spec: TaskSpec) -> str:
    """The class that is left uncoloured in a mask: the background, or the first where none is called so."""
    return "background" if "background" in spec.labels else (*spec.labels, "")[0]


def as_rgb(image: Array) -> Array:
    """uint8 or uint16 [H, W] or [H, W, C] as uint8 [H, W, 3]; of many channels the first three."""
    values = (image // 257 if image.dtype == np.uint16 else image).astype(np.uint8)
    values = values[:, :, None] if values.ndim == 2 else values
    return np.repeat(values[:, :, :1], 3, axis=2) if values.shape[2] < 3 else np.ascontiguousarray(values[:, :, :3])


def fill(picture: Array, mask_HW: Array, colour: Colour) -> Array:
    """A mask as a veil with a line around it."""
    edge_HW = outline_of_mask(mask_HW)
    veiled = picture.copy()
    veiled[mask_HW] = (0.65 * picture[mask_HW] + 0.35 * np.array(colour)).astype(np.uint8)
    veiled[edge_HW] = colour
    return veiled


def outline_of_mask(mask_HW: Array) -> Array:
    """The pixels of a mask that touch what is outside of it; the edge of the image is no boundary."""
    padded = np.pad(mask_HW, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask_HW & ~inner


def dot(picture: Array, x: float, y: float, colour: Colour) -> Array:
    """A point as a ring with a dot, sized by the image."""
    image = Image.fromarray(picture)
    draw, radius = ImageDraw.Draw(image), max(2.0, max(picture.shape[:2]) / 90)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=max(1, round(radius / 3)))
    draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=colour)
    return np.asarray(image)


def frame(picture: Array, box: Sequence[float], colour: Colour) -> Array:
    """A box."""
    image = Image.fromarray(picture)
    x0, y0, x1, y1 = (float(v) for v in box)
    width = max(1, round(max(picture.shape[:2]) / 300))
    ImageDraw.Draw(image).rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=width)
    return np.asarray(image)


def line(picture: Array, start: Sequence[float], end: Sequence[float], colour: Colour) -> Array:
    """A straight line, as thick as the lines of boxes."""
    image = Image.fromarray(picture)
    width = max(1, round(max(picture.shape[:2]) / 300))
    ImageDraw.Draw(image).line((*map(float, start), *map(float, end)), fill=colour, width=width)
    return np.asarray(image)
