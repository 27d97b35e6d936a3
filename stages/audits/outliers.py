"""Outlier audit: single images that are nearly black or white, blurred, low in contrast, or unusual in size or shape.

A value is an outlier if its logarithm lies more than three interquartile ranges beyond the quartiles of the data set
(Tukey 1977, "Exploratory Data Analysis") and the value differs from the median by at least a factor of two.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from stages.audits.audit_data import AuditData
from stages.audits.power import Power, choose_planted, require_power
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity

Array = np.ndarray[Any, Any]
MIN_IMAGES = 30
FENCE = 3.0  # interquartile ranges beyond the quartiles
MIN_SPREAD = 0.1  # lower bound of the interquartile range of the logarithm, for nearly constant values
MIN_FACTOR = 2.0  # an outlier differs from the median by at least this factor
MAX_SHARE = 0.05  # share of the images; a larger share is a separate kind of image, not outliers
MAX_SHOWN = 24
SIDES = ["width", "height"]

MAX_PLANTED = 20  # maximum number of planted outliers of each kind

Measure = Callable[[pd.DataFrame], pd.Series]
KINDS: dict[str, tuple[str, str, int, float, Measure]] = {
    "dark": ("nearly black compared with", "brightest level", -1, 1, lambda rows: rows["brightest"]),
    "washed-out": (
        "nearly white compared with",
        "distance of the darkest level from white",
        -1,
        1,
        lambda rows: 255 - rows["darkest"],
    ),
    "low-contrast": ("almost without contrast compared with", "contrast", -1, 1, lambda rows: rows["contrast"]),
    "blurred": (
        "blurred compared with",
        "width of the strongest edges",
        1,
        0,
        lambda rows: rows["edge_width"],
    ),
    "small": ("far smaller than", "number of pixels", -1, 0, lambda rows: rows["width"] * rows["height"]),
    "large": ("far larger than", "number of pixels", 1, 0, lambda rows: rows["width"] * rows["height"]),
    "elongated": (
        "far more elongated than",
        "longer side divided by shorter side",
        1,
        0,
        lambda rows: rows[SIDES].max(axis=1) / rows[SIDES].min(axis=1),
    ),
}
"""Outlier measures by id: comparison, name of the measured value, low (-1) or high (1) outliers, offset that is added
before the logarithm, measure."""

PLANTED: dict[str, tuple[str, float]] = {
    "dark": ("images with a tenth of the light", 0.1),
    "washed-out": ("images with nine tenths of the distance to white removed", 0.1),
    "low-contrast": ("images with a twentieth of the contrast", 0.05),
    "blurred": ("images whose strongest edges are four times as wide", 4),
    "small": ("images with a quarter of the width and height", 1 / 16),
    "large": ("images of four times the width and height", 16),
    "elongated": ("images with one side five times as long", 5),
}
"""Planted outliers by measure: the fault in words, and the factor by which it changes the measured value."""


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report outliers by each measure of `KINDS`; none blocks, because an unusual image may be correct.

    A measure by which more than 5 % of the images are outliers is not reported.
    """
    rows = data.rows
    if len(rows) < MIN_IMAGES:
        message = f"Outliers were not checked: {quantity(len(rows), 'image')}; at least {MIN_IMAGES} are required."
        return [Finding("outliers/not-checked", "info", message)]
    found = [finding for name in KINDS if (finding := _outliers(name, rows))]
    message = (
        f"No outliers were found. A property by which more than {MAX_SHARE:.0%} of the images are outliers is not "
        "reported."
    )
    passed = Finding("outliers/images", "passed", message)
    return found or require_power(passed, [_power(name, fault, rows) for name, fault in PLANTED.items()])


def _power(name: str, fault: tuple[str, float], rows: pd.DataFrame) -> Power:
    """Return how many images are found in which the measured value is changed.

    Args:
        name: measure, a key of `KINDS`.
        fault: the fault in words, and the factor of the measured value.
        rows: rows of the manifest.
    """
    _, _, side, offset, measure = KINDS[name]
    words, factor = fault
    value_N = measure(rows).to_numpy(float)
    found, planted = 0, choose_planted(len(rows), MAX_PLANTED)
    for n in planted:
        changed_N = value_N.copy()
        changed_N[n] *= factor
        far_N = _far(side * np.log(changed_N + offset))
        found += bool(far_N[n] > 0 and (far_N > 0).sum() <= MAX_SHARE * len(rows))
    missing = "The images differ too much from each other in this respect: look for such images yourself."
    alarms = "false alarms for 0.3% of the images of the audit benchmark"
    return Power(words, found, len(planted), missing, alarms)


def _outliers(name: str, rows: pd.DataFrame) -> Finding | None:
    comparison, value, side, offset, measure = KINDS[name]
    value_N = measure(rows).to_numpy(float)
    far_N = _far(side * np.log(value_N + offset))
    outlier = np.flatnonzero(far_N > 0)
    if not 0 < len(outlier) <= MAX_SHARE * len(rows):
        return None
    outlier = outlier[np.argsort(-far_N[outlier], kind="stable")]
    paths = rows["path"].iloc[outlier].tolist()
    median = float(np.median(value_N))
    captions = {path: f"{value} {value_N[i]:.3g}, median {median:.3g}" for path, i in zip(paths, outlier, strict=True)}
    verb, example, advice = ("is", ": ", "it belongs") if len(outlier) == 1 else ("are", ", such as ", "they belong")
    message = (
        f"{quantity(len(outlier), 'image')} {verb} {comparison} the others{example}`{paths[0]}` ({value} "
        f"{value_N[outlier[0]]:.3g}, median {median:.3g}). Check whether {advice} to the data set."
    )
    evidence = {"count": len(outlier), "median": median, "images": paths[:200]}
    shown = dict(list(captions.items())[:MAX_SHOWN])
    return Finding(f"outliers/{name}", "info", message, evidence, list(shown), shown)


def _far(value_N: Array) -> Array:
    """Return the distance [N] of each logarithm above the fence; negative for values inside."""
    low, middle, high = np.quantile(value_N, (0.25, 0.5, 0.75))
    return value_N - max(high + FENCE * max(high - low, MIN_SPREAD), middle + np.log(MIN_FACTOR))
