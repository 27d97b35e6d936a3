"""Verdict on a batch of new images: which statistics differ from the reference, and which images are furthest off."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stages.core.plurals import quantity
from stages.drift.drift_tests import FALSE_ALARM_RATE, MIN_IMAGES, Comparison, compare_statistic, correct
from stages.drift.prediction_summary import Value
from stages.drift.reference_statistics import positions

DRIFT, NO_DRIFT, NOT_CHECKED = "drift", "no drift", "not checked"
FURTHEST = 12
"""Number of images that a report shows."""
STRONGEST = 3
"""Number of statistics, those with the smallest p-values, in which the shown images are far from the reference."""
SIDES = ("inputs", "predictions")
Columns = Mapping[str, Sequence[Value | None]]
"""Values of each statistic, one per image; None if unknown."""


@dataclass(frozen=True)
class DriftReport:
    """Verdict on a batch of new images, with the evidence."""

    verdict: str
    """`drift`, `no drift` or `not checked`."""
    sentence: str
    """The verdict with its reason."""
    images: int
    """Number of new images."""
    comparisons: list[Comparison]
    """Comparisons with the reference, the smallest p-value first."""
    not_checked: list[str]
    """Statistics that were not compared, each with the reason."""
    furthest: list[dict[str, Any]]
    """Images that are furthest from the reference: path, statistic, value, median of the reference."""
    false_alarm_rate: float = FALSE_ALARM_RATE
    """Largest share of batches of independent images from the reference distribution for which drift is reported."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def compare_with_reference(
    reference: Mapping[str, Any] | None, paths: Sequence[str], values: Mapping[str, Columns]
) -> DriftReport:
    """Compare new images with the reference of a model.

    Args:
        reference: value of the metadata key `drift_reference`; None if the model file has none.
        paths: paths of the N new images.
        values: `inputs` and `predictions` of the new images.
    """
    if reference is None:
        reason = (
            "the model file contains no drift_reference, since an older version exported it; export the model again"
        )
        return _unchecked(len(paths), reason)
    if len(paths) < MIN_IMAGES:
        return _unchecked(len(paths), f"at least {MIN_IMAGES} images are required to compare distributions")
    found: list[Comparison] = []
    reasons: list[str] = []
    for side in SIDES:
        stored = reference[side]["statistics"]
        if not stored:
            reasons.append(f"{side}: the model file contains no distributions of them")
        for name, distribution in stored.items():
            known = [value for value in values[side].get(name, ()) if value is not None]
            outcome = compare_statistic(name, side, distribution, known)
            if isinstance(outcome, str):
                reasons.append(outcome)
            else:
                found.append(outcome)
    if not found:
        return _unchecked(len(paths), f"no statistic can be compared: {reasons[0]}", reasons)
    corrected = sorted(correct(found), key=lambda one: (one.p, -one.distance))
    drifted = [one for one in corrected if one.drifted]
    shown = (drifted or corrected)[:STRONGEST]
    furthest = _furthest(reference, paths, values, {(one.of, one.name) for one in shown})
    return DriftReport(
        DRIFT if drifted else NO_DRIFT,
        _sentence(len(paths), drifted, corrected),
        len(paths),
        corrected,
        reasons,
        furthest,
    )


def _unchecked(images: int, reason: str, reasons: Sequence[str] = ()) -> DriftReport:
    sentence = f"Drift was not checked on {quantity(images, 'image')}: {reason}."
    return DriftReport(NOT_CHECKED, sentence, images, [], list(reasons), [])


def _sentence(images: int, drifted: list[Comparison], compared: list[Comparison]) -> str:
    count = quantity(images, "new image")
    if not drifted:
        number = quantity(len(compared), "statistic")
        return (
            f"{count}: none of {number} differs from the reference (smallest corrected p {compared[0].adjusted_p:.2g})."
        )
    strongest = drifted[0]
    names = ", ".join(one.name for one in drifted)
    return (
        f"{count} differ from the reference in {names}. {strongest.name}: from {strongest.before} to {strongest.now} "
        f"(corrected p {strongest.adjusted_p:.2g}, distance {strongest.distance:.2f})."
    )


def _furthest(
    reference: Mapping[str, Any], paths: Sequence[str], values: Mapping[str, Columns], wanted: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return the images whose numbers are most extreme in the reference, those beyond its range first."""
    best: dict[int, tuple[float, str, float, float]] = {}
    for side, name in sorted(wanted):
        stored = reference[side]["statistics"][name]
        if "classes" in stored:
            continue
        column = values[side][name]
        known = [index for index, value in enumerate(column) if value is not None]
        value_N = np.array([column[index] for index in known], float)
        for index, value, score in zip(known, value_N, _extremeness(value_N, stored), strict=True):
            if score > best.get(index, (-1.0,))[0]:
                best[index] = (float(score), name, float(value), stored["median"])
    order = sorted(best, key=lambda index: -best[index][0])[:FURTHEST]
    return [
        {"path": paths[index], "statistic": name, "value": value, "reference_median": median}
        for index in order
        for _, name, value, median in [best[index]]
    ]


def _extremeness(value_N: np.ndarray[Any, Any], stored: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return 0 for the median to 1 for the ends of the reference, plus the excess in widths of its range, at most 1."""
    edges, counts = np.array(stored["edges"]), np.array(stored["counts"])
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    inside_N = np.abs(2 * middle[positions(value_N, edges)] - 1)
    width = max(edges[-1] - edges[0], abs(edges[-1]) * 1e-3, 1e-9)
    return inside_N + np.clip(np.maximum(edges[0] - value_N, value_N - edges[-1]) / width, 0, 1)
