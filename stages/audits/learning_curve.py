"""Learning-curve audit: how much would more images, or more accurate labels, reduce the error?

A simple probe is trained on growing subsets, from an eighth of the images to all of them. Two power laws, one with and
one without a constant floor, are fitted to its errors and extrapolated to more images. The curve of a network may be
steeper or flatter, so read the gain as a share of the error.
"""

import math
from dataclasses import dataclass

import numpy as np

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.probes.learning_curve_fit import NOISE, Curve, measure_curve, weights
from stages.probes.power_law import Extrapolation, extrapolate
from stages.probes.regression_targets import RegressionTargets, regression_targets

WORTHWHILE = 0.02  # reduction of the error that is worth collecting images for
MIN_LOWER_GAIN = 0.005  # minimum lower end of the interval of a worthwhile gain
MIN_GROUPS = 40  # so that an eighth of the training groups are at least four
FEW_IMAGES = 1000  # number of images up to which cross-validation is repeated three times
MAX_FACTOR = 10  # multiple of the present number of images, up to which the curve is extrapolated


@dataclass(frozen=True)
class _Measured:
    """Learning curve with its extrapolation."""

    targets: RegressionTargets
    curve: Curve
    extrapolation: Extrapolation
    images: int
    """Present number of training images."""
    uncertainty: float
    """Half-width of the 95 % interval of an error measured on the validation split."""
    validation: int
    """Number of groups in the validation split."""


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report the gain from more images (a warning if large or not measurable) and the cost of wrong labels."""
    rows = data.sample
    targets = regression_targets(rows, data.folder)
    groups = rows["group"].nunique()
    if isinstance(targets, str):
        return [_not_checked(f"The learning curve was not measured: {targets}.")]
    if groups < MIN_GROUPS:
        message = (
            f"The learning curve was not measured: the images are in {quantity(groups, 'group')}; at least "
            f"{MIN_GROUPS} are required."
        )
        return [_not_checked(message, "warning")]
    repeats = 1 if len(rows) > FEW_IMAGES else 3
    curve = measure_curve(data.features, targets, rows["group"].to_numpy(), repeats)
    chance = 1 - 1 / targets.target_ND.shape[1] if targets.classes else 1.0
    if np.quantile(curve.resampled_BJ[:, -1], 0.975) >= chance:
        message = (
            f"The learning curve could not be extrapolated: a simple probe does not predict {targets.name} "
            f"significantly better than chance (error {100 * curve.error_J[-1]:.0f}%, chance {100 * chance:.0f}%). A "
            "network may do better."
        )
        return [_not_checked(message)]
    validation = data.rows.loc[data.rows["split"] == "val", "group"].nunique()
    uncertainty = 1.96 * _deviation(curve, targets) * math.sqrt(groups / max(1, validation))
    extrapolation = extrapolate(curve.images_J, curve.error_J, curve.resampled_BJ)
    result = _Measured(
        targets, curve, extrapolation, int((data.rows["split"] == "train").sum()), uncertainty, validation
    )
    return [_images(result), _labels(result)]


def _not_checked(message: str, severity: str = "info") -> Finding:
    return Finding("learning_curve/not-checked", "warning" if severity == "warning" else "info", message)


def _deviation(curve: Curve, targets: RegressionTargets) -> float:
    """Return the standard error of an error that is measured once on all groups."""
    if not targets.classes:
        return float(curve.resampled_BJ[:, -1].std())
    error, weight_N = float(curve.error_J[-1]), weights(targets)
    return math.sqrt(error * (1 - error) * float((weight_N**2).sum())) / float(weight_N.sum())


def _images(measured: _Measured) -> Finding:
    curve, now = measured.curve, measured.images
    gain, low, high = measured.extrapolation.gain(now, 2 * now)
    error = float(measured.extrapolation.error(now)[0][0])
    share = 100 * gain / max(error, 1e-9)
    worthwhile = gain >= WORTHWHILE and low >= MIN_LOWER_GAIN
    uncertain = measured.uncertainty > max(gain, WORTHWHILE)
    message = (
        f"{_error_sentence(measured)} Twice the {now:,} training images would reduce the error by {100 * gain:.1f} "
        f"points (95% interval {100 * low:.1f} to {100 * high:.1f}), or {share:.0f}% of the error. "
        f"{_needed_sentence(measured, error)} The curve of a network may be steeper or flatter: read the gain as a "
        "share of the error."
    )
    if uncertain:
        message += (
            f" The validation split of {quantity(measured.validation, 'group')} is too small to measure such a gain: "
            f"an error measured on it is uncertain by {100 * measured.uncertainty:.1f} points."
        )
    with_floor, without_floor = measured.extrapolation.laws
    evidence = {
        "images": curve.images_J.round().tolist(),
        "error": curve.error_J.tolist(),
        "twice": {"gain": gain, "low": low, "high": high},
        "law": {"exponent_with_floor": float(with_floor.b[0]), "floor": float(with_floor.c[0]),
                "exponent": float(without_floor.b[0])},
        "validation_uncertain_by": measured.uncertainty,
        "chart": _chart(measured),
    }  # fmt: skip
    return Finding("learning_curve/images", "warning" if worthwhile or uncertain else "info", message, evidence)


def _error_sentence(measured: _Measured) -> str:
    """Return a sentence with the measured errors."""
    curve, what = measured.curve, measured.targets.name
    few, many = (f"{n:,.0f}" for n in curve.images_J[[0, -1]])
    before, after = (f"{100 * e:.1f}%" for e in curve.error_J[[0, -1]])
    if measured.targets.classes:
        message = f"A simple probe predicts {what} wrongly for {after} of the images, averaged over classes,"
    else:
        message = f"A simple probe leaves {after} of the variance of {what} unexplained"
    preposition = "for " if measured.targets.classes else ""
    return f"{message} if trained on {many} images, and {preposition}{before} if trained on {few}."


def _needed_sentence(measured: _Measured, error: float) -> str:
    """Return a sentence about the number of images that a worthwhile gain requires."""
    if error <= WORTHWHILE:
        return f"The error is already at most {100 * WORTHWHILE:.0f} points."
    needed, low, high = measured.extrapolation.needed(measured.images, WORTHWHILE, MAX_FACTOR * measured.images)
    goal = f"{100 * WORTHWHILE:.0f} points"
    if math.isinf(needed):
        least = "" if math.isinf(low) else f" (at least {_round(low - measured.images)} more are required)"
        return f"For a reduction by {goal}, even {MAX_FACTOR} times as many images may not suffice{least}."
    most = (
        f"more than {_round((MAX_FACTOR - 1) * measured.images)}"
        if math.isinf(high)
        else _round(high - measured.images)
    )
    return (
        f"A reduction by {goal} requires about {_round(needed - measured.images)} more images "
        f"({_round(low - measured.images)} to {most})."
    )


def _round(images: float) -> str:
    """Format a number of images with at most two significant digits, at least 1."""
    if images < 10:
        return f"{max(1, round(images))}"
    return f"{round(images, 1 - math.floor(math.log10(images))):,.0f}"


def _chart(measured: _Measured) -> dict[str, object]:
    """Return the arguments of `stages.reports.charts.interval_band`."""
    grid = np.geomspace(measured.curve.images_J[0], max(4 * measured.images, measured.curve.images_J[-1]), 40)
    middle, low, high = measured.extrapolation.error(grid)
    unit = "wrong predictions, %" if measured.targets.classes else "unexplained variance, %"
    return {
        "x": grid.round(1).tolist(),
        "y": (100 * middle).round(2).tolist(),
        "low": (100 * low).round(2).tolist(),
        "high": (100 * high).round(2).tolist(),
        "dots": [[round(float(n), 1), round(100 * float(e), 2)]
                 for n, e in zip(measured.curve.images_J, measured.curve.error_J, strict=True)],
        "mark": measured.images,
        "xlabel": "training images",
        "ylabel": unit,
    }  # fmt: skip


def _labels(measured: _Measured) -> Finding:
    """Report how much the error increases if a share of the training labels is replaced."""
    curve = measured.curve
    lost_Q = curve.noisy_Q - curve.error_J[-1]
    low_Q, high_Q = np.quantile(curve.noisy_BQ - curve.resampled_BJ[:, -1:], (0.025, 0.975), axis=0)
    costs = [
        f"{100 * lost:+.1f} points for {100 * share:.0f}% of the labels (95% interval "
        f"{100 * low:+.1f} to {100 * high:+.1f})"
        for share, lost, low, high in zip(NOISE, lost_Q, low_Q, high_Q, strict=True)
    ]
    kind = "by another class" if measured.targets.classes else "by those of another image"
    message = (
        f"If training labels of the probe are replaced at random {kind}, its error changes by {', '.join(costs)}. "
        f"{_equivalent_images(measured, float(lost_Q[1]), float(low_Q[1]))}"
    )
    evidence = {"replaced": list(NOISE), "lost": lost_Q.tolist(), "low": low_Q.tolist(), "high": high_Q.tolist()}
    return Finding("learning_curve/labels", "info", message, evidence)


def _equivalent_images(measured: _Measured, lost: float, at_least: float) -> str:
    """Return a sentence on the number of images with the present labels that give the same error as wrong labels."""
    many = float(measured.curve.images_J[-1])
    grid = np.geomspace(measured.curve.images_J[0], many, 500)
    error = measured.extrapolation.error(grid)[0]
    as_good = float(grid[np.argmax(error <= error[-1] + lost)])
    if at_least <= 0 or as_good >= many:
        return f"The effect of {100 * NOISE[1]:.0f}% wrong labels is not significant."
    return (
        f"{many:,.0f} images with {100 * NOISE[1]:.0f}% wrong labels give the same error as about {_round(as_good)} "
        "images with the present labels."
    )
