"""What an audit looks at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.frame import Finding
from stages.frame.sections import Audit
from stages.images.manifest import pictures
from stages.images.reading import to_channels

SMALLEST_HASHED = 32  # pixels of the shorter side; below it, different pictures share a perceptual hash
SAME_PICTURE = 0.97  # correlation of two 32x32 grey pictures; re-encoded photographs reach .99


@dataclass(frozen=True)
class Subject:
    """The ingested data, with the sealed test known only by its hashes and groups."""

    rows: pd.DataFrame
    """Manifest of train and val."""
    sealed: pd.DataFrame
    """group, content, pixels, phash of the test images."""
    folder: Path
    """Where ingest wrote; the images of `rows` can be read from it."""


Find = Callable[[Subject, Audit], list[Finding]]
"""An audit: never raises for bad data, always says something, `passed` where nothing is wrong."""


def copies(subject: Subject) -> list[pd.DataFrame]:
    """Sets of manifest rows that show one picture: equal pixels, or equal perceptual hash and alike when looked at.

    A perceptual hash alone floods on look-alikes, so that equal hashes are confirmed by the correlation of the
    pictures at 32x32. Images below 32 pixels are compared by their pixels only.
    """
    rows = subject.rows
    key = rows["pixels"].copy()
    hashed = rows[(rows[["width", "height"]].min(axis=1) >= SMALLEST_HASHED) & ~rows["blank"]]
    for _, alike in hashed.groupby("phash"):
        distinct = alike.drop_duplicates("pixels")
        if len(distinct) > 1:
            small = [_small(picture.image) for picture in pictures(distinct, subject.folder)]
            for (a, first), (b, second) in pairwise(zip(distinct["pixels"], small, strict=True)):
                if float((first * second).mean()) >= SAME_PICTURE:
                    key[key == b] = key[rows["pixels"] == a].iloc[0]
    return [same for _, same in rows.groupby(key) if len(same) > 1]


def _small(image: np.ndarray) -> np.ndarray:
    """Grey 32x32, zero mean, unit variance."""
    grey = Image.fromarray(to_channels(image, 1)[:, :, 0]).resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32)
    return (values - values.mean()) / max(float(values.std()), 1e-6)


def named(sets: Iterable[pd.DataFrame], most: int = 50) -> list[list[str]]:
    """Paths with their label and split, for evidence: `["train/1.png (a, train)", ...]` a set."""
    return [[f"{r.path} ({r.label}, {r.split})" for r in same.itertuples()] for same in list(sets)[:most]]


def paths(sets: Iterable[pd.DataFrame], most: int = 24) -> list[str]:
    """The paths of the first few sets, to be shown as images."""
    return [path for same in sets for path in same["path"]][:most]
