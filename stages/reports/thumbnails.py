"""Small pictures that travel inside a page."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from stages.dataset.manifest import decode_images
from stages.images.image_statistics import to_uint8

SIDE = 160  # pixels: longer side of a photo in a page
TINY = 64  # pixels: up to here a picture travels whole and is enlarged pixel by pixel
HEAVY = 300_000  # bytes
FRAME = (230, 159, 0)  # orange, told by colour-blind people too (Okabe and Ito 2008)


@dataclass(frozen=True)
class Thumbnail:
    """A picture with its words."""

    uri: str
    """data: URI; empty when the picture could not be read."""
    alt: str
    """What it is, for those who do not see it."""
    caption: str = ""
    width: int = 0
    height: int = 0
    tiny: bool = False
    """Enlarge without smoothing."""


def thumbnail(image: np.ndarray[Any, Any], alt: str, caption: str = "", side: int = SIDE) -> Thumbnail:
    """Encode an image: tiny ones without loss, others as JPEG with at most `side` pixels a side.

    Of 16 bits the upper ones; of channels that are no colours the first three, or the first.
    """
    image = to_uint8(image)
    if image.ndim == 3 and image.shape[2] != 3:
        image = np.ascontiguousarray(image[:, :, :3] if image.shape[2] > 3 else image[:, :, 0])
    height, width = image.shape[:2]
    picture, tiny = Image.fromarray(image), max(height, width) <= TINY
    buffer = io.BytesIO()
    if tiny:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        picture.save(buffer, "JPEG", quality=80, optimize=True)
    kind = "png" if tiny else "jpeg"
    return Thumbnail(data_uri(buffer.getvalue(), f"image/{kind}"), alt, caption, width, height, tiny)


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a link that holds them, as `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


class Album:
    """The images of a manifest by their paths, as strips of thumbnails."""

    def __init__(self, rows: pd.DataFrame, folder: Path) -> None:
        """`folder` holds the shard that the rows point into."""
        self._rows = rows.dropna(subset="path").drop_duplicates("path").set_index("path", drop=False)
        self._folder = folder

    def strip(
        self,
        paths: Iterable[str],
        caption: Callable[[Any], str] = lambda row: str(row["label"]),
        side: int = SIDE,
        places: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> list[Thumbnail]:
        """Thumbnails of images, in order; `caption` turns a manifest row into words. Unknown paths are left out.

        `places` are boxes in pixels, by path, that are framed.
        """
        found = [self._rows.loc[path] for path in paths if path in self._rows.index]
        return [self._one(row, caption(row), side, (places or {}).get(row["path"], ())) for row in found]

    def _one(self, row: Any, caption: str, side: int, places: Sequence[Sequence[float]]) -> Thumbnail:
        alt = f"{row['path']}, class {row['label']}" if row["label"] else str(row["path"])
        try:
            picture = next(decode_images(row.to_frame().T, self._folder))
        except (ValueError, TypeError, OSError):  # a broken manifest must still yield a page that says so
            return Thumbnail("", f"{alt} (could not be read)", caption)
        return thumbnail(framed(picture.image, places) if places else picture.image, alt, caption, side)


def framed(image: np.ndarray[Any, Any], places: Sequence[Sequence[float]]) -> np.ndarray[Any, Any]:
    """uint8 [H, W, 3]: an image with frames around boxes x0, y0, x1, y1 in pixels."""
    image = to_uint8(image)
    first = image[:, :, :3] if image.ndim == 3 and image.shape[2] >= 3 else image.reshape(*image.shape[:2], -1)[:, :, 0]
    picture = Image.fromarray(np.ascontiguousarray(first)).convert("RGB")
    draw, line = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 100))
    for x0, y0, x1, y1 in places:
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=FRAME, width=line)
    return np.asarray(picture)


def picture_file(file: Path, alt: str) -> Thumbnail:
    """A picture made by another stage, whole; as JPEG where its own format would weigh down the page."""
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        kind, (width, height) = str(picture.format).lower(), picture.size
        if len(data) > HEAVY:
            buffer, kind = io.BytesIO(), "jpeg"
            picture.convert("RGB").save(buffer, "JPEG", quality=82, optimize=True)
            data = buffer.getvalue()
    return Thumbnail(data_uri(data, f"image/{kind}"), alt, "", width, height)
