"""The manifest: one row per image, the one table that every later stage reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.dataset.shards import read_member, shard_name
from stages.images.decode import DecodedImage, decode_image

MANIFEST_FILE = "manifest.parquet"
DATASET_FILE = "dataset.json"  # {"name": ..., "version": ...}
SPLITS = ("train", "val", "test")
MANIFEST_COLUMNS = {
    "path": "str",  # inside the source, unique: the key of a row
    "label": "str",  # its class; several joined by |; empty where it has none
    "group": "str",  # what must not be torn apart by a split
    "split": "str",  # train or val; test only in the sealed manifest
    "content": "str",  # SHA-256 of the file's bytes, 16 hex digits
    "pixels": "str",  # SHA-256 of the decoded pixels, 16 hex digits
    "phash": "str",  # perceptual hash, 16 hex digits
    "phash_mirrored": "str",  # of the image mirrored left to right
    "origin": "str",  # where it comes from, as ingest.origin_regex tells: real, simulated, a site; empty where unknown
    "arrival": "int64",  # 1 for the groups that came with the first ingest, 2 with the next that brought new ones ...
    "bytes": "int64",  # of the file
    "bytes_per_pixel": "float64",
    "has_file": "bool",  # false when the image came out of an array: its format and bytes are ours
    "width": "int64",  # pixels
    "height": "int64",  # pixels
    "format": "str",
    "mode": "str",
    "camera": "str",  # from EXIF, as the next two
    "taken": "str",
    "software": "str",
    "quality": "float64",  # of a JPEG, 1 to 100; 0 for others
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
    "annotation": "str",  # all labels, as Annotation.to_json writes them
    "target_content": "str",  # digest of its mask's or paired image's file, empty where there is none
    "target_pixels": "str",  # digest of the same decoded
    "things": "str",  # areas and places of what the labels name, JSON as stages.dataset.label_statistics has it
    "offset": "int64",  # of the file's bytes in the shard of its arrival
    "target_offset": "int64",  # of its mask's or paired image's file
    "target_bytes": "int64",  # 0 where there is none
}
SEALED_INDEX = ("group", "content", "pixels", "phash")
"""What the line may know of the sealed test images: enough to find leakage, no label and no picture."""


def write_manifest(rows: pd.DataFrame, folder: Path) -> None:
    """Write the rows, in the order and the types of `COLUMNS`."""
    rows[list(MANIFEST_COLUMNS)].astype(MANIFEST_COLUMNS).to_parquet(folder / MANIFEST_FILE, index=False)


def read_manifest(folder: Path) -> pd.DataFrame:
    """Read the manifest of a folder that ingest wrote.

    Raises:
        UserError: when its columns are not those of this version.
    """
    rows = pd.read_parquet(folder / MANIFEST_FILE)
    if list(rows.columns) != list(MANIFEST_COLUMNS):
        raise UserError(f"{folder / MANIFEST_FILE} was written by another version; run `dvc repro ingest`")
    return rows


def read_image_files(rows: pd.DataFrame, folder: Path) -> Iterator[bytes]:
    """The files of the images of manifest rows, in order, from the shards beside the manifest."""
    for arrival, offset, length in zip(rows["arrival"], rows["offset"], rows["bytes"], strict=True):
        yield read_member(folder / shard_name(arrival), offset, length)


def decode_images(rows: pd.DataFrame, folder: Path) -> Iterator[DecodedImage]:
    """Decode the images of manifest rows, in order."""
    for data in read_image_files(rows, folder):
        # Ingest has held the image against ingest.max_megapixels; it need not be held again.
        yield decode_image(data, max_megapixels=np.inf)


def parse_annotations(rows: pd.DataFrame) -> list[Annotation]:
    """The labels of manifest rows, in order."""
    return [Annotation.from_json(text) for text in rows["annotation"]]


def decode_targets(rows: pd.DataFrame, folder: Path) -> Iterator[np.ndarray[Any, Any] | None]:
    """The masks (indices) or paired images of manifest rows, in order; None where there is none."""
    for arrival, offset, length in zip(rows["arrival"], rows["target_offset"], rows["target_bytes"], strict=True):
        data = read_member(folder / shard_name(arrival), offset, length) if length else b""
        yield decode_image(data, max_megapixels=np.inf).image if data else None


def sorted_labels(rows: pd.DataFrame) -> list[str]:
    """The classes, sorted as people count: `2` before `10`."""
    return sorted(
        rows["label"].unique(), key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)
    )
