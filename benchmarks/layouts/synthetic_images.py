"""Synthetic images: views of a scene show parts of it, frames of a film change slowly, classes have a tint."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from PIL import Image

Array = np.ndarray
GRID = 5  # coarse cells per side from which the background is interpolated
MARGIN = 1.4  # width of a scene relative to that of a view
ANCHOR = 8  # frames after which a film shows another background
NOISE, JITTER, TINT = 6, 1.5, 24.0  # grey levels, pixels, grey levels


@dataclass(frozen=True)
class Picture:
    """A synthetic image with its objects."""

    image: Array
    """Image, uint8 [height, width, 3]."""
    numbered: Array
    """Label image, uint16 [height, width]: 0 is background, every object has its own number from 1."""

    @property
    def mask(self) -> Array:
        """Return the mask of all objects, uint8 of 0 and 255."""
        return np.where(self.numbered > 0, 255, 0).astype(np.uint8)

    @property
    def count(self) -> int:
        """Return the number of objects."""
        return int(self.numbered.max())

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Return the edges x0, y0, x1, y1 of each object in pixels."""
        found = []
        for number in range(1, self.count + 1):
            rows, columns = np.nonzero(self.numbered == number)
            found.append((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
        return found

    @property
    def dots(self) -> Array:
        """Return an image with one white pixel per object, uint8."""
        dots = np.zeros_like(self.mask)
        for x0, y0, x1, y1 in self.boxes:
            dots[(y0 + y1) // 2, (x0 + x1) // 2] = 255
        return dots


def draw_picture(
    scene: str,
    view: str,
    look: str = "",
    frame: int | None = None,
    size: tuple[int, int] = (44, 32),
    objects: int = 3,
    aligned: bool = False,
) -> Picture:
    """Draw a view of a scene.

    Args:
        scene: name of the object, person or place; it determines the background and the objects.
        view: name of the image; it determines noise and small displacements.
        look: name of the class, which determines a tint.
        frame: number of the image in a film, whose background changes slowly; None: not a film.
        size: width and height in pixels.
        objects: number of objects; they lie in columns and do not touch.
        aligned: whether all views of the scene show the same section; else each shows another part of it.
    """
    width, height = size
    rng = np.random.default_rng(crc32(view.encode()))
    step, part = divmod(frame or 0, ANCHOR)
    whole = (round(width * MARGIN), round(height * MARGIN))
    place = (0.5, 0.5) if aligned or frame is not None else tuple(rng.uniform(0, 1, 2))
    x0, y0 = round(place[0] * (whole[0] - width)), round(place[1] * (whole[1] - height))
    now, next_one = (_field(f"{scene}/{anchor}", whole) for anchor in (step, step + 1))
    background = ((1 - part / ANCHOR) * now + part / ANCHOR * next_one)[y0 : y0 + height, x0 : x0 + width]
    tint = np.random.default_rng(crc32(look.encode())).normal(0, TINT, 3) if look else np.zeros(3)
    numbered = np.zeros((height, width), np.uint16)
    own = np.random.default_rng(crc32(scene.encode())) if aligned or frame is not None else rng
    rows, columns = np.mgrid[:height, :width]
    for number in range(1, objects + 1):
        shift = np.clip(rng.normal(0, JITTER, 2), -JITTER, JITTER) if frame is None else (part / 2, part / 4)
        y = own.uniform(0.3, 0.6) * height + shift[0]
        x = width * (number - 0.5) / objects + shift[1] / objects
        radius_y, radius_x = own.uniform(0.12, 0.22) * height, 0.3 * width / objects
        numbered[((rows - y) / radius_y) ** 2 + ((columns - x) / radius_x) ** 2 <= 1] = number
    image = background + tint + 60 * (numbered > 0)[..., None] + rng.normal(0, NOISE, (height, width, 3))
    return Picture(image.clip(0, 255).astype(np.uint8), numbered)


def _field(name: str, size: tuple[int, int]) -> Array:
    coarse = np.random.default_rng(crc32(name.encode())).uniform(20, 180, (GRID, GRID, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), float)
