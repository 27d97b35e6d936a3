"""What a check looks at: the manifest, and what its labels and masks say, each read once."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.dataset.annotations import Annotation
from stages.dataset.manifest import SEALED_INDEX
from stages.dataset.shards import read_member, shard_name
from stages.images.decode import Unreadable, decode_image

KINDS = ("labels", "scalars", "points", "shapes", "mask", "image")
"""What an annotation may hold."""
DAMAGED = (ValueError, TypeError, KeyError, AttributeError)
"""What `Annotation.from_json` raises at text that it did not write."""


@dataclass(frozen=True)
class Target:
    """A mask or a paired image as it was found."""

    size: tuple[int, int] | None
    """Width and height in pixels; None where it could not be read."""
    counts: dict[int, int]
    """Of a mask: value to pixels that have it."""
    fault: str = ""
    """Why it could not be read, or is no mask."""


@dataclass(frozen=True)
class Subject:
    """The ingested data, with the sealed test known only by its hashes and groups."""

    rows: pd.DataFrame
    """Manifest of train and val, as it was found: it may be damaged."""
    folder: Path
    """Where ingest wrote."""

    @cached_property
    def sealed(self) -> pd.DataFrame:
        """group, content, pixels, phash of the test images."""
        return pd.read_parquet(self.folder / "sealed_index.parquet", columns=list(SEALED_INDEX))

    @cached_property
    def paths(self) -> list[str]:
        """Of every row."""
        return [str(path) for path in self.rows["path"]]

    @cached_property
    def annotations(self) -> list[Annotation | None]:
        """Of every row; None where it cannot be read."""
        return [_annotation(text) for text in self.rows["annotation"]]

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Which of `KINDS` the labels are; `one class` besides, where every image has exactly one."""
        known = [a for a in self.annotations if a is not None]
        kinds = {kind for kind in KINDS if any(getattr(a, kind) not in (None, False) for a in known)}
        if known and all(a.labels is not None and len(a.labels) == 1 for a in known):
            kinds.add("one class")
        return frozenset(kinds)

    @cached_property
    def mask_classes(self) -> list[str]:
        """Every class that some mask could hold."""
        return list(dict.fromkeys(name for a in self.annotations for name in (a.mask or () if a else ())))

    @cached_property
    def targets(self) -> list[Target | None]:
        """Of every row its mask or paired image; None where there is none. Each is decoded once, and let go."""
        places = (self.rows[name] for name in ("arrival", "target_offset", "target_bytes"))
        masks = (a is not None and a.mask is not None for a in self.annotations)
        return [_target(self.folder, *one) for one in zip(*places, masks, strict=True)]

    @cached_property
    def classes(self) -> pd.DataFrame:
        """path, split, label: a row for every class of every image, of its things and in its mask."""
        split = [str(split) for split in self.rows["split"]]
        masked = self.targets if "mask" in self.kinds else [None] * len(split)
        told = zip(self.paths, split, self.annotations, masked, strict=True)
        found = [(path, part, label) for path, part, a, target in told if a for label in _classes_of(a, target)]
        return pd.DataFrame(found, columns=["path", "split", "label"])

    @cached_property
    def columns(self) -> list[str]:
        """Of `frame`, without decoding a mask."""
        return [*self._told, *(f"mask.{name}" for name in self.mask_classes)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The manifest with what its labels say as columns: what Great Expectations looks at.

        shorter_side (pixels) and aspect; scalar.NAME; points (number seen), point.NAME.x and .y (pixels); count and
        count.CLASS (number of things); mask.CLASS (share of the pixels).
        """
        if not self.mask_classes:
            return self._told
        shares = pd.DataFrame(map(_shares, self.annotations, self.targets), index=self.rows.index)
        return self._told.assign(**{f"mask.{n}": shares.get(n, np.nan) for n in self.mask_classes})

    @cached_property
    def _told(self) -> pd.DataFrame:
        sides = self.rows[["width", "height"]].apply(pd.to_numeric, errors="coerce")
        longer, shorter = sides.max(axis=1), sides.min(axis=1)
        told = pd.DataFrame(map(_numbers, self.annotations), index=self.rows.index)
        counts = [name for name in told.columns if name.startswith("count")]
        told[counts] = told[counts].fillna(0)
        sides_told = pd.DataFrame({"shorter_side": shorter, "aspect": longer / shorter.clip(lower=1)})
        return pd.concat([self.rows, sides_told, told], axis=1)


def _annotation(text: Any) -> Annotation | None:
    try:
        return Annotation.from_json(text)
    except DAMAGED:
        return None


def _target(folder: Path, arrival: int, offset: int, length: int, is_mask: bool) -> Target | None:
    if length == 0:
        return None
    try:
        image = decode_image(
            read_member(folder / shard_name(arrival), int(offset), int(length)), max_megapixels=np.inf
        ).image
    except (Unreadable, OSError, ValueError, TypeError) as error:  # the last two of a damaged manifest
        return Target(None, {}, f"cannot be read: {error}")
    size = (image.shape[1], image.shape[0])
    if not is_mask:
        return Target(size, {})
    if image.ndim != 2:
        return Target(size, {}, f"has {image.shape[2]} channels, a mask has one")
    count = np.bincount(image.ravel())
    return Target(size, {int(value): int(count[value]) for value in np.flatnonzero(count)})


def _classes_of(annotation: Annotation, target: Target | None) -> set[str]:
    names = annotation.mask or ()
    held = target.counts if target else {}
    in_mask = {names[value] for value in held if value < len(names)}
    return {*(annotation.labels or ()), *(shape.label for shape in annotation.shapes or ()), *in_mask}


def _shares(annotation: Annotation | None, target: Target | None) -> dict[str, float]:
    if annotation is None or target is None or not target.counts:
        return {}
    pixels = sum(target.counts.values())
    return {name: target.counts.get(value, 0) / pixels for value, name in enumerate(annotation.mask or ())}


def _numbers(annotation: Annotation | None) -> dict[str, float]:
    told: dict[str, Any] = {}
    if annotation is None:
        return told
    told |= {f"scalar.{name}": value for name, value in (annotation.scalars or {}).items()}
    if annotation.points is not None:
        told["points"] = sum(xy is not None for xy in annotation.points.values())
        for name, xy in annotation.points.items():
            told[f"point.{name}.x"], told[f"point.{name}.y"] = xy or (np.nan, np.nan)
    if annotation.shapes is not None:
        told["count"] = len(annotation.shapes)
        told |= {f"count.{name}": n for name, n in Counter(s.label for s in annotation.shapes).items()}
    return told
