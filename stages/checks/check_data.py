"""Data that the checks read: the manifest and its labels; each mask is decoded once."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Integer
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import SEALED_INDEX
from stages.dataset.shards import read_member, shard_name
from stages.images.decode import Unreadable, decode_image

KINDS = ("labels", "scalars", "points", "shapes", "mask", "image")
"""Kinds of labels: the fields of an annotation."""
SAMPLE_COLUMNS = ("width", "height", "annotation", "arrival", "target_offset", "target_bytes")


@dataclass(frozen=True)
class Target:
    """A decoded mask or paired image, reduced to what the checks need."""

    size: tuple[int, int] | None = None
    """Width and height in pixels; None if it cannot be read."""
    counts: Counter[int] | None = None
    """Number of pixels of each value; None if the target is not a readable mask."""
    problem: str = ""
    """Reason why the target cannot be read or is not a mask; empty if it has no problem."""


@dataclass(frozen=True)
class Sample:
    """One row of the manifest; any value may be damaged."""

    folder: Path
    path: str
    split: str
    width: float
    height: float
    text: Any
    """The labels as JSON."""
    arrival: int
    target_offset: int
    target_bytes: int

    @cached_property
    def annotation(self) -> Annotation | None:
        """The parsed labels; None if they cannot be parsed."""
        try:
            return Annotation.from_json(self.text)
        except (ValueError, TypeError, KeyError, AttributeError):  # all that damaged JSON raises
            return None

    @property
    def labels(self) -> Annotation:
        """The parsed labels; empty if they cannot be parsed."""
        return self.annotation or Annotation()

    @property
    def size(self) -> str:
        """Width and height of the image, as `640x480`."""
        return f"{self.width:g}x{self.height:g}"

    @cached_property
    def target(self) -> Target | None:
        """The mask or paired image; None if there is none."""
        if self.target_bytes == 0:
            return None
        try:
            image = self.decode_target()
        except Unreadable as error:
            return Target(problem=str(error))
        except (OSError, ValueError, TypeError) as error:  # the last two if the manifest is damaged
            return Target(problem=f"cannot be read: {error}")
        size = (image.shape[1], image.shape[0])
        if self.labels.mask is None:
            return Target(size)
        if image.ndim != 2:
            return Target(size, problem=f"has {image.shape[2]} channels; a mask has one")
        counts = np.bincount(image.ravel())
        return Target(size, Counter({int(value): int(counts[value]) for value in np.flatnonzero(counts)}))

    def decode_target(self) -> Integer[Array, "H W ..."]:
        """Return the pixels of the mask or paired image.

        Raises:
            Unreadable, OSError, ValueError, TypeError: the file or its place in the manifest is damaged.
        """
        data = read_member(self.folder / shard_name(self.arrival), int(self.target_offset), int(self.target_bytes))
        return decode_image(data, max_megapixels=np.inf).image

    @property
    def mask_counts(self) -> Counter[int]:
        """Number of pixels of each value in the mask; empty without a readable mask."""
        return (self.target.counts if self.target else None) or Counter()

    @property
    def classes(self) -> set[str]:
        """Classes of the image, of its objects and of the pixels of its mask."""
        names = self.labels.mask or ()
        in_mask = {names[value] for value in (self.mask_counts if names else ()) if value < len(names)}
        return {*(self.labels.labels or ()), *(shape.label for shape in self.labels.shapes or ()), *in_mask}


@dataclass(frozen=True)
class CheckData:
    """Ingested data; only hashes and groups of the sealed test split are included."""

    rows: pd.DataFrame
    """Manifest of the training and validation images; it may be damaged."""
    folder: Path
    """Output folder of ingest."""
    task: dict[str, Any] = field(default_factory=dict)
    """Section `task` of the params; without it, the rules of the score are not checked."""

    @cached_property
    def sealed(self) -> pd.DataFrame:
        """Columns `SEALED_INDEX` of the test images."""
        return pd.read_parquet(self.folder / "sealed_index.parquet", columns=list(SEALED_INDEX))

    @cached_property
    def samples(self) -> list[Sample]:
        """One sample per row, in order."""
        columns = (self.rows[name] for name in ("path", "split", *SAMPLE_COLUMNS))
        return [Sample(self.folder, str(path), str(split), *rest) for path, split, *rest in zip(*columns, strict=True)]

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Members of `KINDS` that occur, and `one class` if every image with parseable labels has exactly one class."""
        known = [s.annotation for s in self.samples if s.annotation is not None]
        kinds = {kind for annotation in known for kind in kinds_of(annotation)}
        if known and all(a.labels is not None and len(a.labels) == 1 for a in known):
            kinds.add("one class")
        return frozenset(kinds)

    @cached_property
    def mask_classes(self) -> list[str]:
        """Every class that a mask may contain."""
        return list(dict.fromkeys(name for s in self.samples for name in s.labels.mask or ()))

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Columns path, split, label: one row per image and class in it."""
        found = [(s.path, s.split, label) for s in self.samples for label in s.classes]
        return pd.DataFrame(found, columns=["path", "split", "label"])

    @cached_property
    def columns(self) -> list[str]:
        """Column names of `frame`; no mask is decoded."""
        return [*self._without_masks, *(f"mask.{name}" for name in self.mask_classes)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The manifest with its labels as columns: the table that Great Expectations validates.

        Added columns: shorter_side (pixels), aspect (longer over shorter side); scalar.NAME; points (number of visible
        points), point.NAME.x and .y (pixels); count and count.CLASS (number of objects); mask.CLASS (fraction of the
        pixels).
        """
        if not self.mask_classes:
            return self._without_masks
        shares = pd.DataFrame([_mask_shares(sample) for sample in self.samples], index=self.rows.index)
        return self._without_masks.assign(**{f"mask.{name}": shares.get(name, np.nan) for name in self.mask_classes})

    @cached_property
    def _without_masks(self) -> pd.DataFrame:
        sides = self.rows[["width", "height"]].apply(pd.to_numeric, errors="coerce")
        longer, shorter = sides.max(axis=1), sides.min(axis=1)
        numbers = pd.DataFrame([_numbers(sample.labels) for sample in self.samples], index=self.rows.index)
        counts = [name for name in numbers.columns if name.startswith("count")]
        numbers[counts] = numbers[counts].fillna(0)
        derived = pd.DataFrame({"shorter_side": shorter, "aspect": longer / shorter.clip(lower=1)})
        return pd.concat([self.rows, derived, numbers], axis=1)


def kinds_of(annotation: Annotation) -> list[str]:
    """Return the kinds of labels that an annotation has."""
    return [kind for kind in KINDS if getattr(annotation, kind) not in (None, False)]


def _mask_shares(sample: Sample) -> dict[str, float]:
    counts = sample.mask_counts
    names = (sample.labels.mask or ()) if counts else ()
    return {name: counts[value] / counts.total() for value, name in enumerate(names)}


def _numbers(labels: Annotation) -> dict[str, Any]:
    numbers: dict[str, Any] = {f"scalar.{name}": value for name, value in (labels.scalars or {}).items()}
    if labels.points is not None:
        numbers["points"] = sum(xy is not None for xy in labels.points.values())
        for name, xy in labels.points.items():
            numbers[f"point.{name}.x"], numbers[f"point.{name}.y"] = xy or (np.nan, np.nan)
    if labels.shapes is not None:
        numbers["count"] = len(labels.shapes)
        numbers |= {f"count.{name}": n for name, n in Counter(s.label for s in labels.shapes).items()}
    return numbers
