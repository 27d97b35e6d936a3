"""What an audit looks at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.frame import Finding
from stages.frame.sections import Audit
from stages.images.manifest import annotations, pictures
from stages.images.statistics import grey_bytes

SMALLEST_HASHED = 32  # pixels of the shorter side; below it, different pictures share a perceptual hash
NEAR = 3  # bits of 64 in which the perceptual hashes of one picture may differ
SAME_PICTURE = 0.96  # correlation of `_details`; re-encoded photographs reach .98, fundus pictures of two eyes .93


@dataclass(frozen=True)
class Subject:
    """The ingested data, with the sealed test known only by its hashes and groups."""

    rows: pd.DataFrame
    """Manifest of train and val."""
    sealed: pd.DataFrame
    """group, content, pixels, phash of the test images."""
    folder: Path
    """Where ingest wrote; the images of `rows` can be read from it."""

    @cached_property
    def one_class_each(self) -> bool:
        """Whether the label of every image is exactly one class, which can be foretold."""
        return all(a.labels is not None and len(a.labels) == 1 for a in annotations(self.rows))

    @cached_property
    def copies(self) -> list[pd.DataFrame]:
        """Sets of rows that show one picture: equal pixels, or a near perceptual hash and alike when looked at.

        A perceptual hash alone floods on look-alikes, so that near hashes are confirmed by the correlation of the
        details at 32x32: what two pictures of one device share (a bright disc on black) says nothing. Images below
        32 pixels are compared by their pixels only.
        """
        key = _key_of_picture(self.rows, self.folder)
        return [same for _, same in self.rows.groupby(key) if len(same) > 1]


Find = Callable[[Subject, Audit], list[Finding]]
"""An audit: never raises for bad data, always says something, `passed` where nothing is wrong."""


def _key_of_picture(rows: pd.DataFrame, folder: Path) -> np.ndarray[Any, Any]:
    """[N]: equal numbers for rows that show one picture."""
    first_of_pixels = pd.factorize(rows["pixels"])[0]
    hashed = rows[(rows[["width", "height"]].min(axis=1) >= SMALLEST_HASHED) & ~rows["blank"]].drop_duplicates("pixels")
    pairs = _near(hashed["phash"])
    wanted = hashed.iloc[np.unique(pairs)]
    details = dict(zip(wanted["pixels"], (_details(p.image) for p in pictures(wanted, folder)), strict=True))
    pixels = hashed["pixels"].to_numpy()
    same = [(a, b) for a, b in pairs if float((details[pixels[a]] * details[pixels[b]]).mean()) >= SAME_PICTURE]
    code = dict(zip(rows["pixels"], first_of_pixels, strict=True))
    ends = np.array([(code[pixels[a]], code[pixels[b]]) for a, b in same], int).reshape(-1, 2)
    count = len(rows)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1][first_of_pixels]


def _near(phash: pd.Series) -> np.ndarray[Any, Any]:
    """[P, 2] positions of hashes that differ in at most `NEAR` of 64 bits.

    Of four bands of 16 bits at least one is equal then (pigeonhole), so that only what shares a band is compared.
    """
    hashes = np.array([int(h, 16) for h in phash], np.uint64)
    found = set()
    for shift in (0, 16, 32, 48):
        order = np.argsort((hashes >> np.uint64(shift)) & np.uint64(0xFFFF), kind="stable")
        band = (hashes[order] >> np.uint64(shift)) & np.uint64(0xFFFF)
        for members in np.split(order, np.flatnonzero(np.diff(band)) + 1):
            for i, one in enumerate(members[:-1]):
                others = members[i + 1 :]
                near = others[np.bitwise_count(hashes[others] ^ hashes[one]) <= NEAR]
                found |= {(int(min(one, other)), int(max(one, other))) for other in near}
    return np.array(sorted(found), int).reshape(-1, 2)


def _details(image: np.ndarray) -> np.ndarray:
    """Grey 32x32 without what is smooth, zero mean, unit variance."""
    grey = Image.fromarray(grey_bytes(image)).resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32)
    values = values - gaussian_filter(values, 1.5)
    return (values - values.mean()) / max(float(values.std()), 1e-6)


def named(sets: Iterable[pd.DataFrame], most: int = 50) -> list[list[str]]:
    """Paths with their label and split, for evidence: `["train/1.png (a, train)", ...]` a set."""
    return [[f"{r.path} ({r.label}, {r.split})" for r in same.itertuples()] for same in list(sets)[:most]]


def paths(sets: Iterable[pd.DataFrame], most: int = 24) -> list[str]:
    """The paths of the first few sets, to be shown as images."""
    return [path for same in sets for path in same["path"]][:most]
