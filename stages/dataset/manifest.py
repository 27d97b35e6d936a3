"""The manifest: a table with one row per image that all later stages read."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.errors import UserError
from stages.core.natural_sort import natural_sort_key
from stages.core.shapes import Array, Integer
from stages.dataset.annotations import Annotation
from stages.dataset.shards import read_member, shard_name
from stages.images.decode import DecodedImage, decode_image

MANIFEST_FILE = "manifest.parquet"
DATASET_FILE = "dataset.json"  # {"name": ..., "version": ..., "mask_values": {class: value}, "combinations": [label]}
SPLITS = ("train", "val", "test")
MANIFEST_COLUMNS = {
    "path": "str",  # path inside the source; unique key of the row
    "label": "str",  # class; several are joined by |; empty if there is none
    "group": "str",  # images of one group are always in the same split
    "split": "str",  # train or val; test only in the sealed manifest
    "content": "str",  # SHA-256 of the file's bytes, 16 hex digits
    "pixels": "str",  # SHA-256 of the decoded pixels, 16 hex digits
    "phash": "str",  # perceptual hash, 16 hex digits
    "phash_mirrored": "str",  # perceptual hash of the horizontally mirrored image
    "origin": "str",  # from ingest.origin_regex or a column: real, simulated, a site; empty if unknown
    "arrival": "int64",  # number of the ingest that added the group, from 1, among those that added groups
    "bytes": "int64",  # size of the file
    "bytes_per_pixel": "float64",
    "has_file": "bool",  # false if the image was encoded from an array, so that format and bytes are not the user's
    "width": "int64",  # pixels
    "height": "int64",  # pixels
    "format": "str",
    "mode": "str",
    "camera": "str",  # from EXIF, like taken and software
    "taken": "str",
    "software": "str",
    "quality": "float64",  # estimated quality of a JPEG, 1 to 100; 0 for other formats
    "brightness": "float64",  # this and the following: see stages.images.image_statistics
    "contrast": "float64",
    "darkest": "float64",
    "brightest": "float64",
    "highest": "float64",
    "black": "float64",
    "white": "float64",
    "entropy": "float64",
    "border": "float64",
    "border_contrast": "float64",
    "foreground": "float64",
    "sharpness": "float64",
    "edge_width": "float64",
    "red": "float64",
    "green": "float64",
    "blue": "float64",
    "red_contrast": "float64",
    "green_contrast": "float64",
    "blue_contrast": "float64",
    "redness": "float64",
    "blueness": "float64",
    "blank": "bool",
    "thumbnail": "object",  # bytes
    "channels": "int64",
    "depth": "int64",  # bits of a value, 8 or 16
    "annotation": "str",  # all labels, output of Annotation.to_json
    "target_content": "str",  # digest of the file of the mask or paired image; empty if there is none
    "target_pixels": "str",  # digest of its decoded pixels
    "things": "str",  # areas and positions of the labelled objects, JSON of stages.dataset.label_statistics
    "offset": "int64",  # position of the file in the shard of its arrival, bytes
    "target_offset": "int64",  # position of the file of the mask or paired image, bytes
    "target_bytes": "int64",  # size of that file; 0 if there is none
}
SEALED_INDEX = ("group", "content", "pixels", "phash")
"""Columns of the sealed test images that the pipeline may read: enough to detect leakage, no labels and no pixels."""


def write_manifest(rows: pd.DataFrame, folder: Path) -> None:
    """Write the manifest to a folder, with the columns and types of `MANIFEST_COLUMNS`."""
    rows[list(MANIFEST_COLUMNS)].astype(MANIFEST_COLUMNS).to_parquet(folder / MANIFEST_FILE, index=False)


def read_manifest(folder: Path) -> pd.DataFrame:
    """Read the manifest of a folder that ingest wrote.

    Raises:
        UserError: the columns are not those of this version.
    """
    rows = pd.read_parquet(folder / MANIFEST_FILE)
    if list(rows.columns) != list(MANIFEST_COLUMNS):
        raise UserError(f"{folder / MANIFEST_FILE} was written by another version; run `dvc repro ingest`")
    return rows


def read_image_files(rows: pd.DataFrame, folder: Path) -> Iterator[bytes]:
    """Yield the image files of manifest rows, in order, from the shards in the folder."""
    for arrival, offset, length in zip(rows["arrival"], rows["offset"], rows["bytes"], strict=True):
        yield read_member(folder / shard_name(arrival), offset, length)


def decode_images(rows: pd.DataFrame, folder: Path) -> Iterator[DecodedImage]:
    """Yield the decoded images of manifest rows, in order."""
    for data in read_image_files(rows, folder):
        # ingest has already checked ingest.max_megapixels
        yield decode_image(data, max_megapixels=np.inf)


def parse_annotations(rows: pd.DataFrame) -> list[Annotation]:
    """Return the annotations of manifest rows, in order."""
    return [Annotation.from_json(text) for text in rows["annotation"]]


def decode_targets(rows: pd.DataFrame, folder: Path) -> Iterator[Integer[Array, "_ _ ..."] | None]:
    """Yield the masks (class indices) or paired images of manifest rows, in order; None if there is none."""
    for arrival, offset, length in zip(rows["arrival"], rows["target_offset"], rows["target_bytes"], strict=True):
        data = read_member(folder / shard_name(arrival), offset, length) if length else b""
        yield decode_image(data, max_megapixels=np.inf).image if data else None


def sorted_labels(rows: pd.DataFrame) -> list[str]:
    """Return the distinct values of the column `label` in natural order: `2` before `10`."""
    return sorted(rows["label"].unique(), key=natural_sort_key)
