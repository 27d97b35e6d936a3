"""Contact sheets: a grid of thumbnails with captions."""

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from stages.core.shapes import Array, Integer

TILE = 112  # pixels
CAPTION = 18  # pixels
GAP = 8  # pixels


def contact_sheet(
    images: Sequence[Integer[Array, "_ _ ..."]], captions: Sequence[str], columns: int = 8
) -> Image.Image:
    """Arrange images in a grid with a caption below each; small images are enlarged without smoothing.

    Args:
        images: grey or 8-bit RGB images of any size.
        captions: one per image; truncated to the width of a tile.
        columns: maximum number of columns.
    """
    assert len(images) == len(captions)
    columns = max(1, min(columns, len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = TILE + GAP, TILE + CAPTION + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = GAP + i % columns * width, GAP + i // columns * height
        tile = _tile(image)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        draw.text((left, top + TILE + 2), _truncate(caption, font), fill="black", font=font)
    return sheet


def _tile(image: Integer[Array, "H W *C"]) -> Image.Image:
    picture = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image).convert("RGB")
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _truncate(caption: str, font: Any) -> str:
    while caption and font.getlength(caption) > TILE:
        caption = caption[:-2].rstrip(".") + "." if len(caption) > 2 else ""
    return caption
