"""Images, masks and objects at a small working size, for audits that examine each pixel.

Axes: N images, S side of the downsampled image, C channels. The aspect ratio is not preserved.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.core.shapes import Array, Bool, Integer, UInt8
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, decode_rle
from stages.dataset.manifest import decode_images, decode_targets, parse_annotations
from stages.images.decode import to_channels
from stages.images.image_statistics import to_grey, to_uint8

SIDE = 64  # pixels; an object of a tenth of the width is still 6 pixels wide


def downsample_images(rows: pd.DataFrame, folder: Path) -> UInt8[Array, "N S S C"]:
    """Return area-averaged images of manifest rows: in colour (C = 3) if any image is in colour, else grey (C = 1)."""
    channels = 3 if (rows["channels"] == 3).any() else 1
    small = np.empty((len(rows), SIDE, SIDE, channels), np.uint8)
    for place, picture in zip(small, decode_images(rows, folder), strict=True):
        odd = picture.image.ndim == 3 and picture.image.shape[2] not in (1, 3)
        image = to_channels(to_grey(picture.image) if odd else to_uint8(picture.image), channels)
        whole = Image.fromarray(image if channels == 3 else image[:, :, 0])
        place[:] = np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(place.shape)
    return small


def downsample_masks(
    rows: pd.DataFrame, folder: Path, classes: int
) -> tuple[UInt8[Array, "N S S"], Integer[Array, "N {classes}"]]:
    """Return masks, downsampled by nearest neighbour, and the number of original pixels of each class.

    Args:
        rows: manifest rows.
        folder: output folder of ingest.
        classes: number of classes; unknown pixels, and all pixels of an image without a mask, are `IGNORE_INDEX`.
    """
    small = np.full((len(rows), SIDE, SIDE), IGNORE_INDEX, np.uint8)
    pixels_NK = np.zeros((len(rows), classes), int)
    for n, mask in enumerate(decode_targets(rows, folder)):
        if mask is not None:
            small[n] = mask[np.ix_(_centres(mask.shape[0]), _centres(mask.shape[1]))]
            pixels_NK[n] = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)[:classes]
    return small, pixels_NK


def downsample_objects(rows: pd.DataFrame, names: list[str]) -> tuple[UInt8[Array, "N S S"], list[list[int]]]:
    """Return object masks, and the areas of the objects of each class, except crowds, in downsampled pixels.

    A pixel is 0 without an object, else 1 + the index of the class in `names`, or `IGNORE_INDEX` for crowds. Smaller
    objects cover larger ones. An object that has only a box is represented by the ellipse in the box.
    """
    small = np.zeros((len(rows), SIDE, SIDE), np.uint8)
    areas: list[list[int]] = [[] for _ in names]
    for place, row, annotation in zip(small, rows.itertuples(), parse_annotations(rows), strict=True):
        for shape in sorted(annotation.shapes or (), key=_extent, reverse=True):
            covered = object_mask(shape, int(row.height), int(row.width))
            number = names.index(shape.label)
            place[covered] = IGNORE_INDEX if shape.crowd else 1 + number
            areas[number] += [] if shape.crowd else [int(covered.sum())]
    return small, areas


def object_mask(shape: ObjectAnnotation, height: int, width: int) -> Bool[Array, "S S"]:
    """Return the downsampled pixels of one object; at least one is True.

    Args:
        shape: object with a box and, if known, a mask.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    rows, columns = _centres(height), _centres(width)
    x0, y0, x1, y1 = shape.box
    if shape.rle is not None:
        covered = decode_rle(shape.rle, height, width)[np.ix_(rows, columns)]
    else:
        across = (columns + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
        down = (rows + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
        covered = down[:, None] ** 2 + across**2 <= 1
    covered[_small((y0 + y1) / 2, height), _small((x0 + x1) / 2, width)] |= not covered.any()
    return covered


def box_in_pixels(covered_SS: Bool[Array, "S S"], height: int, width: int) -> tuple[float, float, float, float]:
    """Return the bounding box (x0, y0, x1, y1) of downsampled pixels, in pixels of the original image.

    Args:
        covered_SS: downsampled pixels of the object, at least one True.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    rows, columns = np.flatnonzero(covered_SS.any(axis=1)), np.flatnonzero(covered_SS.any(axis=0))
    across, down = width / SIDE, height / SIDE
    return (columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down)


def object_classes(all_annotations: list[Annotation]) -> list[str]:
    """Return the sorted class names of the objects in all images."""
    return sorted({shape.label for annotation in all_annotations for shape in annotation.shapes or ()})


def _extent(shape: ObjectAnnotation) -> float:
    x0, y0, x1, y1 = shape.box
    return (x1 - x0) * (y1 - y0)


def _centres(length: int) -> Integer[Array, " S"]:
    """Return the original rows or columns at the centres of the downsampled ones."""
    return ((np.arange(SIDE) + 0.5) * length / SIDE).astype(int)


def _small(place: float, length: int) -> int:
    return min(SIDE - 1, max(0, int(place * SIDE / length)))
