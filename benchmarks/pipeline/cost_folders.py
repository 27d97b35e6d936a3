"""Folders on which the cost of `configure` is measured: many tiny files, names of many parts, and large images."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY_SIDE = 16  # pixels
PIECE = 256  # side of the random tile of which large images consist, pixels
Files = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class CostFolder:
    """A folder to generate."""

    name: str
    """Content in words, for the table."""
    count: int
    """Number of images."""
    files: Callable[[int], Files]
    """Yields the paths and contents of the files, given the number of images."""


def write_folder(folder: CostFolder, count: int, root: Path) -> None:
    """Write the files of a folder.

    Args:
        folder: description of the folder.
        count: number of images to write.
        root: folder to create.
    """
    for name, content in folder.files(count):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def noise_image(number: int, side: int, suffix: str = "png", width: int = 0) -> bytes:
    """Encode a colour image: a random tile, repeated where the image is larger.

    Args:
        number: seed of the image.
        side: height in pixels.
        suffix: format, png or jpg.
        width: width in pixels; 0: as high.

    Returns:
        The bytes of the file.
    """
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (min(side, PIECE) // 8 or 1, min(side, PIECE) // 8 or 1, 3), np.uint8)
    tile = np.asarray(Image.fromarray(small).resize((min(side, PIECE),) * 2, Image.Resampling.BICUBIC))
    repeats = -(-side // len(tile)), -(-(width or side) // len(tile)), 1
    return encode(np.tile(tile, repeats)[:side, : width or side], suffix)


def disc_mask(number: int, side: int) -> bytes:
    """Encode a mask with one disc of value 1.

    Args:
        number: seed of the position.
        side: height and width in pixels.

    Returns:
        The bytes of a PNG file.
    """
    row, column = np.random.default_rng(number).uniform(0.3, 0.7, 2) * side
    y, x = np.ogrid[:side, :side]
    return encode((((y - row) ** 2 + (x - column) ** 2) < (side / 5) ** 2).astype(np.uint8))


def encode(image: np.ndarray[Any, Any], suffix: str = "png") -> bytes:
    """Encode an image with a compression that is fast to write.

    Args:
        image: uint8 pixels.
        suffix: format, png or jpg.
    """
    buffer = io.BytesIO()
    options = {"quality": 85} if suffix == "jpg" else {"compress_level": 1}
    Image.fromarray(image).save(buffer, "JPEG" if suffix == "jpg" else "PNG", **options)
    return buffer.getvalue()


def _tiny(number: int) -> bytes:
    return noise_image(number, TINY_SIDE)


def classes(count: int, side: int = TINY_SIDE, suffix: str = "png", width: int = 0) -> Files:
    """Yield images in ten class folders (two for a few images).

    Args:
        count: number of images.
        side: height in pixels.
        suffix: format, png or jpg.
        width: width in pixels; 0: as high.
    """
    folders = 10 if count >= 100 else 2
    for number in range(count):
        yield f"class_{number % folders}/img_{number:05}.{suffix}", noise_image(number, side, suffix, width)


def _one_folder_per_class(count: int) -> Files:
    return ((f"class_{number // 30}/{number:05}.png", _tiny(number)) for number in range(count))


def _table(count: int) -> Files:
    yield (
        "labels.csv",
        b"file,label,site\n"
        + "".join(f"image_{number:05}.png,{'abc'[number % 3]},s{number // 50}\n" for number in range(count)).encode(),
    )
    yield from ((f"image_{number:05}.png", _tiny(number)) for number in range(count))


def masks(count: int, side: int = TINY_SIDE, suffix: str = "png") -> Files:
    """Yield images with a mask each, in two folders.

    Args:
        count: number of images.
        side: height and width in pixels.
        suffix: format of the images, png or jpg.
    """
    for number in range(count):
        yield f"images/scan_{number:05}.{suffix}", noise_image(number, side, suffix)
        yield f"masks/scan_{number:05}_mask.png", disc_mask(number, side)


def _masks_beside(count: int) -> Files:
    for number in range(count):
        stem = f"site{number % 7}/patient{number // 10:04}_visit{number % 3}_slice{number % 10}"
        yield f"{stem}.png", _tiny(number)
        yield f"{stem}_mask.png", disc_mask(number, TINY_SIDE)


def _object_masks(count: int) -> Files:
    for number in range(count):
        yield f"{number:05}/images/{number:05}.png", _tiny(number)
        for one in range(3):
            yield f"{number:05}/masks/{number:05}_{one}.png", disc_mask(3 * number + one, TINY_SIDE)


def _many_parts(count: int) -> Files:
    for number in range(count):
        day, plate, cell = number // 400 % 28 + 1, number // 20 % 97, number % 20
        stem = f"2021-03-{day:02}_exp{number % 5}_plate-{plate}_well_B{cell}_ch-DAPI_z{number % 7}_t{number:05}_raw"
        yield f"{stem}.png", _tiny(number)


def _many_parts_in_classes(count: int) -> Files:
    return ((f"{'abc'[i % 3]}/{name}", content) for i, (name, content) in enumerate(_many_parts(count)))


def _pairs_of_many_parts(count: int) -> Files:
    for name, content in _many_parts(count):
        yield f"left/{name}", content
        yield f"right/{name.replace('raw', 'proc')}", content


def _deep_tree(count: int) -> Files:
    for number in range(count):
        parts = (f"level{depth}_{number // 4**depth % 6}" for depth in range(8))
        yield f"{'/'.join(parts)}/photo {number}.png", _tiny(number)


def _coco(count: int) -> Files:
    images = [{"id": i, "file_name": f"{i:06}.png", "width": TINY_SIDE, "height": TINY_SIDE} for i in range(count)]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1 + i % 3, "bbox": [2, 2, 6, 6], "area": 36, "iscrowd": 0}
        for i in range(count)
    ]
    kinds = [{"id": kind, "name": f"kind {kind}"} for kind in (1, 2, 3)]
    yield "annotations.json", json.dumps({"images": images, "annotations": boxes, "categories": kinds}).encode()
    yield from ((f"images/{number:06}.png", _tiny(number)) for number in range(count))


def _yolo(count: int) -> Files:
    for number in range(count):
        yield f"images/{number:06}.png", _tiny(number)
        yield f"labels/{number:06}.txt", b"0 0.5 0.5 0.3 0.3\n"
    yield "classes.txt", b"cell\n"


def _voc(count: int) -> Files:
    for number in range(count):
        yield f"JPEGImages/{number:06}.png", _tiny(number)
        box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        size = f"<size><width>{TINY_SIDE}</width><height>{TINY_SIDE}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{number:06}.png</filename>{size}<object><name>cell</name>{box}</object>"
        yield f"Annotations/{number:06}.xml", f"{text}</annotation>".encode()


def _points(count: int, side: int) -> Files:
    head = "file,nose_x,nose_y,tail_x,tail_y\n"
    rows = (f"frame_{number:04}.png,{10 + number},20,{side - 10},{side - 20}\n" for number in range(count))
    yield "points.csv", (head + "".join(rows)).encode()
    yield from ((f"frame_{number:04}.png", noise_image(number, side)) for number in range(count))


FOLDERS = (
    CostFolder("10 class folders", 60_000, classes),
    CostFolder("2,000 class folders", 60_000, _one_folder_per_class),
    CostFolder("flat, with a table", 60_000, _table),
    CostFolder("images and masks in two folders", 30_000, masks),
    CostFolder("masks beside images, names of many parts", 30_000, _masks_beside),
    CostFolder("a folder per image, three masks each", 15_000, _object_masks),
    CostFolder("flat, names of many parts", 60_000, _many_parts),
    CostFolder("names of many parts in class folders", 60_000, _many_parts_in_classes),
    CostFolder("pairs of many parts", 30_000, _pairs_of_many_parts),
    CostFolder("a tree of eight levels", 60_000, _deep_tree),
    CostFolder("one COCO file", 60_000, _coco),
    CostFolder("YOLO", 30_000, _yolo),
    CostFolder("Pascal VOC", 30_000, _voc),
    CostFolder("100 names of many parts", 100, _many_parts),
    CostFolder("100 names of many parts in class folders", 100, _many_parts_in_classes),
    CostFolder("50 pairs of many parts", 50, _pairs_of_many_parts),
    CostFolder("50 masks beside images, names of many parts", 50, _masks_beside),
    CostFolder("25 folders, three masks each", 25, _object_masks),
    CostFolder("50 images and masks", 50, masks),
    CostFolder("100 photos of 12 megapixels in class folders", 100, lambda n: classes(n, 3000, "jpg", 4000)),
    CostFolder("20 images of 1024 px in class folders", 20, lambda n: classes(n, 1024)),
    CostFolder("20 images of 1024 px with masks", 20, lambda n: masks(n, 1024)),
    CostFolder("20 images of 1024 px with points", 20, lambda n: _points(n, 1024)),
    CostFolder("20 images of 4096 px in class folders", 20, lambda n: classes(n, 4096)),
    CostFolder("20 images of 4096 px with masks", 20, lambda n: masks(n, 4096, "jpg")),
    CostFolder("20 images of 4096 px with points", 20, lambda n: _points(n, 4096)),
)
"""Folders of at most 60,000 files, then of at most 100 files."""
