"""How many images do you need, and how right must their labels be: told from a simple probe's learning curve.

The probe (`curve`) is trained on an eighth of the images up to all of them, and two power laws, one with a floor and
one without, are carried on to more images than there are. How much a network would gain is not known from that: its
curve may be steeper or flatter, so that the gain is to be read as a share of the error.
"""

import math
from dataclasses import dataclass

import numpy as np

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.probes.learning_curve_fit import NOISE, Curve, measured, weights
from stages.probes.power_law import Outlook, outlook
from stages.probes.regression_targets import Asked, asked

POINTS = 0.02  # a gain worth working for
SURE = 0.005  # of which the interval leaves at least this much
FEWEST_GROUPS = 40  # with fewer, a training set of an eighth has no more than four
FEW_IMAGES = 1000  # below it the folds are drawn three times, which then costs little
FARTHEST = 10  # times the images there are: beyond it no number is told


@dataclass(frozen=True)
class _Seen:
    """What was measured, and what the sentences are about."""

    question: Asked
    curve: Curve
    ahead: Outlook
    images: int
    """For training, now."""
    blur: float
    """Half of the 95 % interval of the error that the validation split can show."""
    validation: int
    """Groups in it."""


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`learning_curve/images` warns where more images would bring much; `learning_curve/labels` is worth knowing."""
    rows = subject.sample
    question = asked(rows, subject.folder)
    groups = rows["group"].nunique()
    if isinstance(question, str):
        return [_unknown(f"How many images are needed could not be told by a simple probe: {question}.")]
    if groups < FEWEST_GROUPS:
        says = f"Too few groups to tell how many images are needed: {groups}; at least {FEWEST_GROUPS} are."
        return [_unknown(says, "warning")]
    repeats = 1 if len(rows) > FEW_IMAGES else 3
    curve = measured(subject.features, question, rows["group"].to_numpy(), repeats)
    chance = 1 - 1 / question.target_ND.shape[1] if question.classes else 1.0
    if np.quantile(curve.resampled_BJ[:, -1], 0.975) >= chance:
        says = (
            f"How many images are needed could not be told: a simple probe foretells {question.what} no better than "
            f"chance (error {100 * curve.error_J[-1]:.0f} %, by chance {100 * chance:.0f} %). A network may."
        )
        return [_unknown(says)]
    validation = subject.rows.loc[subject.rows["split"] == "val", "group"].nunique()
    blur = 1.96 * _deviation(curve, question) * math.sqrt(groups / max(1, validation))
    ahead = outlook(curve.images_J, curve.error_J, curve.resampled_BJ)
    seen = _Seen(question, curve, ahead, int((subject.rows["split"] == "train").sum()), blur, validation)
    return [_images(seen), _labels(seen)]


def _unknown(says: str, severity: str = "info") -> Finding:
    return Finding("learning_curve/not-checked", "warning" if severity == "warning" else "info", says)


def _deviation(curve: Curve, question: Asked) -> float:
    """Standard error of an error measured once on all groups, if answers are right or wrong by themselves."""
    if not question.classes:
        return float(curve.resampled_BJ[:, -1].std())
    error, weight_N = float(curve.error_J[-1]), weights(question)
    return math.sqrt(error * (1 - error) * float((weight_N**2).sum())) / float(weight_N.sum())


def _images(seen: _Seen) -> Finding:
    curve, now = seen.curve, seen.images
    gain, low, high = seen.ahead.gain(now, 2 * now)
    error = float(seen.ahead.error(now)[0][0])
    share = 100 * gain / max(error, 1e-9)
    steep = gain >= POINTS and low >= SURE
    blurred = seen.blur > max(gain, POINTS)
    says = (
        f"{_errs(seen)} Twice the {now:,} training images would take {100 * gain:.1f} points off (95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f}), {share:.0f} % of its error. {_more(seen, error)} A "
        "network's curve may be steeper or flatter: read the gain as a share of the error."
    )
    if blurred:
        says += (
            f" The validation split of {seen.validation:,} groups is too small to see such a gain: the error measured "
            f"on it is uncertain by {100 * seen.blur:.1f} points."
        )
    evidence = {
        "images": curve.images_J.round().tolist(),
        "error": curve.error_J.tolist(),
        "twice": {"gain": gain, "low": low, "high": high},
        "law": {"exponent_with_floor": float(seen.ahead.laws[0].b[0]), "floor": float(seen.ahead.laws[0].c[0]),
                "exponent": float(seen.ahead.laws[1].b[0])},
        "validation_uncertain_by": seen.blur,
        "chart": _chart(seen),
    }  # fmt: skip
    return Finding("learning_curve/images", "warning" if steep or blurred else "info", says, evidence)


def _errs(seen: _Seen) -> str:
    """What was measured, in a sentence."""
    curve, what = seen.curve, seen.question.what
    few, many = (f"{n:,.0f}" for n in curve.images_J[[0, -1]])
    before, after = (f"{100 * e:.1f} %" for e in curve.error_J[[0, -1]])
    inside = "in " if seen.question.classes else ""
    if seen.question.classes:
        says = f"A simple probe is wrong about {what} in {after} of images, every class counted alike,"
    else:
        says = f"A simple probe leaves {after} of the variance unexplained of {what}"
    return f"{says} when it is trained on {many} images, and {inside}{before} when on {few}."


def _more(seen: _Seen, error: float) -> str:
    """How many images more for the points."""
    if error <= POINTS:
        return f"There are no {100 * POINTS:.0f} points left to win."
    needed, low, high = seen.ahead.needed(seen.images, POINTS, FARTHEST * seen.images)
    goal = f"{100 * POINTS:.0f} points"
    if math.isinf(needed):
        least = "" if math.isinf(low) else f" (at least {_round(low - seen.images)} more)"
        return f"For {goal} even {FARTHEST} times as many may not be enough{least}."
    most = f"more than {_round((FARTHEST - 1) * seen.images)}" if math.isinf(high) else _round(high - seen.images)
    return f"{goal} take about {_round(needed - seen.images)} more images ({_round(low - seen.images)} to {most})."


def _round(images: float) -> str:
    """Two figures: no more are known."""
    if images < 10:
        return f"{max(1, round(images))}"
    return f"{round(images, 1 - math.floor(math.log10(images))):,.0f}"


def _chart(seen: _Seen) -> dict[str, object]:
    """Measured dots, the law with its interval, and where the data set stands: for `stages.reports.charts.band`."""
    grid = np.geomspace(seen.curve.images_J[0], max(4 * seen.images, seen.curve.images_J[-1]), 40)
    middle, low, high = seen.ahead.error(grid)
    unit = "wrong answers, %" if seen.question.classes else "variance unexplained, %"
    return {
        "x": grid.round(1).tolist(),
        "y": (100 * middle).round(2).tolist(),
        "low": (100 * low).round(2).tolist(),
        "high": (100 * high).round(2).tolist(),
        "dots": [[round(float(n), 1), round(100 * float(e), 2)]
                 for n, e in zip(seen.curve.images_J, seen.curve.error_J, strict=True)],
        "mark": seen.images,
        "xlabel": "training images",
        "ylabel": unit,
    }  # fmt: skip


def _labels(seen: _Seen) -> Finding:
    """What wrong labels cost, each level against the clean labels of the same folds."""
    curve = seen.curve
    lost_Q = curve.noisy_Q - curve.error_J[-1]
    low_Q, high_Q = np.quantile(curve.noisy_BQ - curve.resampled_BJ[:, -1:], (0.025, 0.975), axis=0)
    told = [
        f"{100 * share:.0f} % cost {100 * lost:.1f} points ({100 * low:.1f} to {100 * high:.1f})"
        for share, lost, low, high in zip(NOISE, lost_Q, low_Q, high_Q, strict=True)
    ]
    kind = "by another class" if seen.question.classes else "by those of another image"
    says = (
        f"How right labels must be: of the probe's training labels, replaced at random {kind}, {'; '.join(told)}. "
        f"{_worth(seen, float(lost_Q[1]), float(low_Q[1]))}"
    )
    evidence = {"replaced": list(NOISE), "lost": lost_Q.tolist(), "low": low_Q.tolist(), "high": high_Q.tolist()}
    return Finding("learning_curve/labels", "info", says, evidence)


def _worth(seen: _Seen, lost: float, at_least: float) -> str:
    """Wrong labels in terms of images: the number of clean ones that does as well."""
    many = float(seen.curve.images_J[-1])
    grid = np.geomspace(seen.curve.images_J[0], many, 500)
    error = seen.ahead.error(grid)[0]
    as_good = float(grid[np.argmax(error <= error[-1] + lost)])
    if at_least <= 0 or as_good >= many:
        return f"Whether {100 * NOISE[1]:.0f} % cost anything is not sure."
    return (
        f"{many:,.0f} images with {100 * NOISE[1]:.0f} % wrong labels do as well as about {_round(as_good)} with the "
        "labels they have."
    )
