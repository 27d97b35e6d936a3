"""Thumbnails that are embedded in a page as data URIs."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from stages.core.shapes import Array, Integer, UInt8
from stages.dataset.manifest import decode_images
from stages.images.display import PERCENTILES, display_range, to_display

SIDE = 160  # longer side of a thumbnail, pixels
TINY = 64  # images up to this side, in pixels, are embedded losslessly and enlarged without smoothing
SAMPLED_IMAGES, SAMPLED_VALUES = 32, 100_000  # images, and values of each, that determine the drawn levels
MAX_BYTES = 300_000  # of an embedded image; larger ones are recompressed as JPEG
FRAME = (230, 159, 0)  # orange, distinguishable for colour-blind readers (Okabe and Ito 2008)


@dataclass(frozen=True)
class Thumbnail:
    """An embedded image with its alternative text and caption."""

    uri: str
    """Data URI; empty if the image could not be read."""
    alt: str
    """Alternative text."""
    caption: str = ""
    width: int = 0
    """Width of the original image, pixels; 0 if it could not be read."""
    height: int = 0
    tiny: bool = False
    """True if the page enlarges the image without smoothing."""


def thumbnail(image: UInt8[Array, "H W *C"], alt: str, caption: str = "", side: int = SIDE) -> Thumbnail:
    """Encode an image as a thumbnail: small images losslessly, others as JPEG.

    Args:
        image: grey [H, W] or RGB [H, W, 3].
        alt: alternative text.
        caption: text below the image.
        side: maximum side of the JPEG, pixels.
    """
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
    """Return bytes as a data URI, such as `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


class Album:
    """Thumbnails of the images of a manifest."""

    def __init__(self, rows: pd.DataFrame, folder: Path) -> None:
        """Open an album.

        Args:
            rows: manifest.
            folder: output folder of `ingest`, which contains the shards of the rows.
        """
        self._rows = rows.dropna(subset="path").drop_duplicates("path").set_index("path", drop=False)
        self._folder = folder

    @cached_property
    def levels(self) -> tuple[int, int]:
        """Levels that are drawn black and white.

        They are the same for all images, so that thumbnails can be compared. For 16 bits they are those of a sample of
        the images.
        """
        deep = self._rows[self._rows["depth"] == 16]
        places = np.unique(np.linspace(0, len(deep) - 1, min(len(deep), SAMPLED_IMAGES)).round().astype(int))
        images = [image for place in places if (image := self._decoded(deep.iloc[place])) is not None]
        levels = [image.ravel() for image in images if image.dtype == np.uint16]
        if not levels:
            return 0, 255
        return display_range(np.concatenate([level[:: max(1, len(level) // SAMPLED_VALUES)] for level in levels]))

    @property
    def note(self) -> str:
        """Sentence that states how 16-bit images are drawn; empty if all images have 8 bits."""
        if not (self._rows["depth"] == 16).any():
            return ""
        low, high = self.levels
        return (
            f"The images have 16 bits: the levels {low} to {high} (percentiles {PERCENTILES[0]:g} and "
            f"{PERCENTILES[1]:g}) are drawn from black to white."
        )

    def strip(
        self,
        paths: Iterable[str],
        caption: Callable[[Any], str] = lambda row: str(row["label"]),
        side: int = SIDE,
        places: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> list[Thumbnail]:
        """Return the thumbnails of images, in the order of the paths; unknown paths are omitted.

        Args:
            paths: manifest paths.
            caption: returns the caption of a manifest row.
            side: maximum side of a thumbnail, pixels.
            places: boxes (x0, y0, x1, y1), in pixels of the image, that are outlined, by path.
        """
        rows = [self._rows.loc[path] for path in paths if path in self._rows.index]
        return [self._thumbnail(row, caption(row), side, (places or {}).get(row["path"], ())) for row in rows]

    def _decoded(self, row: Any) -> Integer[Array, "H W *C"] | None:
        """Return the image of a manifest row, or None: a broken manifest must still yield a page."""
        try:
            return next(decode_images(row.to_frame().T, self._folder)).image
        except (ValueError, TypeError, OSError):
            return None

    def _thumbnail(self, row: Any, caption: str, side: int, places: Sequence[Sequence[float]]) -> Thumbnail:
        alt = f"{row['path']}, class {row['label']}" if row["label"] else str(row["path"])
        decoded = self._decoded(row)
        if decoded is None:
            return Thumbnail("", f"{alt} (could not be read)", caption)
        image = to_display(decoded, self.levels)
        return thumbnail(draw_boxes(image, places) if places else image, alt, caption, side)


def draw_boxes(image: UInt8[Array, "H W *C"], places: Sequence[Sequence[float]]) -> UInt8[Array, "H W 3"]:
    """Return a colour image with outlined boxes.

    Args:
        image: grey [H, W] or RGB [H, W, 3].
        places: boxes (x0, y0, x1, y1), pixels.
    """
    picture = Image.fromarray(image).convert("RGB")
    draw, line = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 100))
    for x0, y0, x1, y1 in places:
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=FRAME, width=line)
    return np.asarray(picture)


def thumbnail_of_file(file: Path, alt: str) -> Thumbnail:
    """Embed an image file at full size, recompressed as JPEG if it is large."""
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        kind, (width, height) = str(picture.format).lower(), picture.size
        if len(data) > MAX_BYTES:
            buffer, kind = io.BytesIO(), "jpeg"
            picture.convert("RGB").save(buffer, "JPEG", quality=82, optimize=True)
            data = buffer.getvalue()
    return Thumbnail(data_uri(data, f"image/{kind}"), alt, "", width, height)
