"""Labels (classes, numbers, points, objects or masks) as numeric targets of a linear model."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Float
from stages.dataset.annotations import IGNORE_INDEX, Annotation
from stages.dataset.manifest import decode_targets, parse_annotations

LARGEST = 1e100  # larger numbers are divided by the maximum, so that their squares do not overflow


@dataclass(frozen=True)
class RegressionTargets:
    """D numeric targets per image."""

    name: str
    """Description, such as `the class` or `the area of each class`."""
    target_ND: Float[Array, "N D"]
    """Targets: NaN if unknown; one-hot if `classes` is true."""
    classes: bool
    """True if each image has exactly one class, predicted as the largest of D outputs."""


def regression_targets(rows: pd.DataFrame, folder: Path) -> RegressionTargets | str:
    """Return the targets of manifest rows, or the reason why there are none."""
    if rows.empty:
        return "there are no images"
    parsed = parse_annotations(rows)
    first = parsed[0]
    if first.labels is not None:
        return _classes(parsed)
    if first.scalars is not None:
        return _varying("the numbers", _table([a.scalars or {} for a in parsed]))
    if first.points is not None:
        flat = [{n + axis: xy[i] for n, xy in (a.points or {}).items() if xy for i, axis in enumerate("xy")}
                for a in parsed]  # fmt: skip
        shape_N2 = rows[["width", "height"]].to_numpy(float)
        names = sorted({name for row in flat for name in row})
        scale = np.stack([shape_N2[:, 0] if name.endswith("x") else shape_N2[:, 1] for name in names], axis=1)
        return _varying("the positions of the points", _table(flat, names) / scale)
    if first.shapes is not None:
        return _varying("the number of objects of each class", _counts(parsed))
    if first.mask is not None:
        return _varying("the area of each class", _areas(parsed, rows, folder))
    return "the target is an image, not a few numbers"


def _classes(parsed: list[Annotation]) -> RegressionTargets | str:
    sets = [a.labels or () for a in parsed]
    names = sorted({name for labels in sets for name in labels})
    target_NK = np.array([[name in labels for name in names] for labels in sets], float)
    if all(len(labels) == 1 for labels in sets):
        return RegressionTargets("the class", target_NK, True) if len(names) > 1 else "there is only one class"
    return _varying("the classes in the image", target_NK)


def _varying(name: str, target_ND: Float[Array, "N D"]) -> RegressionTargets | str:
    known = (~np.isnan(target_ND)).sum(axis=0) >= len(target_ND) / 2
    target_ND = target_ND[:, known]
    if target_ND.size:
        most_D = np.nanmax(abs(target_ND), axis=0)
        target_ND = target_ND / np.where(most_D > LARGEST, most_D, 1.0)
        target_ND = target_ND[:, np.nanstd(target_ND, axis=0) > 1e-9]
    if not target_ND.shape[1]:
        return f"{name} must differ between images, and be known for at least half of them"
    return RegressionTargets(name, target_ND, False)


def _table(flat: list[dict[str, float]], names: list[str] | None = None) -> Float[Array, "N D"]:
    names = names or sorted({name for row in flat for name in row})
    return np.array([[row.get(name, np.nan) for name in names] for row in flat], float).reshape(len(flat), -1)


def _counts(parsed: list[Annotation]) -> Float[Array, "N D"]:
    counts = [Counter(shape.label for shape in a.shapes or () if not shape.crowd) for a in parsed]
    names = sorted({name for count in counts for name in count})
    return np.array([[count[name] for name in names] for count in counts], float).reshape(len(counts), -1)


def _areas(parsed: list[Annotation], rows: pd.DataFrame, folder: Path) -> Float[Array, "N D"]:
    kinds = max(len(a.mask or ()) for a in parsed)
    shares = []
    for mask in decode_targets(rows, folder):
        known = np.zeros(0, np.uint8) if mask is None else mask[mask != IGNORE_INDEX]
        shares.append(
            np.bincount(known, minlength=kinds)[:kinds] / len(known) if len(known) else np.full(kinds, np.nan)
        )
    return np.array(shares)
