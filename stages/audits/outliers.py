"""Single images unlike all others: nearly black, washed out, without contrast, blurred, of another size or shape.

Each is looked at by one number, on a logarithmic scale, and by the fences that Tukey (1977, "Exploratory Data
Analysis") drew around what is usual: a value is far out when it lies three times the distance of the quartiles beyond
them. What is usual is learned from the data set itself: X-rays are darker than paper.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding

Array = np.ndarray[Any, Any]
FEWEST = 30  # images, below which quartiles say little
FENCE = 3.0  # distances of the quartiles beyond them
LEAST_SPREAD = 0.1  # of a logarithm: where all images are nearly equal, a tenth more or less is nothing
LEAST_TIMES = 2.0  # a value less than twice, or more than half, the usual one is not odd, however equal the others are
COMMON = 0.05  # share of the images, above which they are a kind of their own and not odd
MOST_SHOWN = 24
SIDES = ["width", "height"]

Measure = Callable[[pd.DataFrame], pd.Series]
KINDS: dict[str, tuple[str, str, int, float, Measure]] = {
    "dark": ("nearly black", "brightest level", -1, 1, lambda rows: rows["brightest"]),
    "washed-out": ("nearly white", "distance of the darkest level from white", -1, 1, lambda r: 255 - r["darkest"]),
    "low-contrast": ("next to without contrast", "contrast", -1, 1, lambda rows: rows["contrast"]),
    "blurred": ("blurred", "sharpness by contrast", -1, 0.01, lambda r: r["sharpness"] / (r["contrast"] + 1)),
    "small": ("far smaller", "pixels", -1, 0, lambda rows: rows["width"] * rows["height"]),
    "large": ("far larger", "pixels", 1, 0, lambda rows: rows["width"] * rows["height"]),
    "elongated": ("far longer", "longer side by shorter", 1, 0, lambda r: r[SIDES].max(axis=1) / r[SIDES].min(axis=1)),
}
"""What is odd: in words; by which number; whether it is less (-1) or more (1) of it; what is added to the number before
its logarithm is taken."""


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`outliers/dark` and others of `KINDS` inform; none stops the line, since an odd image may be right."""
    rows = subject.rows
    if len(rows) < FEWEST:
        says = f"Which images are unlike the others cannot be told of {len(rows)}; {FEWEST} are needed."
        return [Finding("outliers/not-checked", "info", says)]
    found = [_odd(name, rows) for name in KINDS]
    passed = Finding("outliers/images", "passed", "No single image is far unlike all others.")
    return [one for one in found if one] or [passed]


def _odd(name: str, rows: pd.DataFrame) -> Finding | None:
    words, number, side, added, measure = KINDS[name]
    value_N = measure(rows).to_numpy(float)
    far_N = _far(side * np.log(value_N + added))
    odd = np.flatnonzero(far_N > 0)
    if not 0 < len(odd) <= COMMON * len(rows):
        return None
    odd = odd[np.argsort(-far_N[odd], kind="stable")]
    paths = rows["path"].iloc[odd].tolist()
    usual = float(np.median(value_N))
    captions = {path: f"{number} {value_N[i]:.3g}, usually {usual:.3g}" for path, i in zip(paths, odd, strict=True)}
    count = "1 image is" if len(odd) == 1 else f"{len(odd)} images are"
    says = (
        f"{count} {words} and far unlike all others by {number}, as `{paths[0]}` with {value_N[odd[0]]:.3g} against a "
        f"median of {usual:.3g}. Look whether they belong here."
    )
    evidence = {"count": len(odd), "median": usual, "images": paths[:200]}
    shown = dict(list(captions.items())[:MOST_SHOWN])
    return Finding(f"outliers/{name}", "info", says, evidence, list(shown), shown)


def _far(value_N: Array) -> Array:
    """[N] how far each logarithm lies above the fence; negative inside."""
    low, middle, high = np.quantile(value_N, (0.25, 0.5, 0.75))
    return value_N - max(high + FENCE * max(high - low, LEAST_SPREAD), middle + np.log(LEAST_TIMES))
