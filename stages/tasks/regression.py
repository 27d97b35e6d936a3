"""Regression: one or several numbers per image, in their units.

Axes: N images, S scalars, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Float, Integer, Real, UInt8
from stages.dataset.annotations import IGNORE_INDEX, Annotation, decode_rle
from stages.tasks.classification import mean_over_parts
from stages.tasks.limits_of_agreement import limits_of_agreement
from stages.tasks.overlays import as_rgb
from stages.tasks.task_interface import SCALAR, Parts, Score
from stages.tasks.task_spec import TaskSpec

SCORES = {
    "mean_absolute_error": Score("lower", SCALAR, share=False),
    "root_mean_square_error": Score("lower", SCALAR, share=False),
    "r2": Score("higher", share=False, requires="different values of a number"),
    "mean_absolute_percentage_error": Score("lower", "%", share=False, requires="a number other than 0"),
}
"""Scores; each is a mean over the scalars."""
TRUTHS = ("scalars", "count", "area")
DRAWN = False


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Real[Array, " S"]:
    """Return the true numbers: those of the labels, counts of objects, or area shares."""
    match spec.target:
        case "scalars":
            if annotation.scalars is None or set(annotation.scalars) != set(spec.scalars):
                found = f"the numbers {', '.join(sorted(annotation.scalars))}" if annotation.scalars else "no numbers"
                raise ValueError(f"has {found}, but every image requires {', '.join(sorted(spec.scalars))}")
            return np.array([annotation.scalars[name] for name in spec.scalars])
        case "count" if annotation.shapes is not None:
            labels = [shape.label for shape in annotation.shapes if not shape.crowd]
            return np.array([float(labels.count(name)) for name in spec.scalars])
        case "count":
            from scipy import ndimage

            masks = _masks(annotation, target, height, width, spec)
            return np.array([float(ndimage.label(mask_HW, np.ones((3, 3)))[1]) for mask_HW in masks])
        case _:
            return np.array([mask_HW.mean() for mask_HW in _masks(annotation, target, height, width, spec)])


def _masks(
    annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec
) -> list[Bool[Array, "H W"]]:
    """Return the mask of each class."""
    if annotation.mask is not None:
        assert target is not None, "a mask has a target file"
        known = {name: i for i, name in enumerate(annotation.mask)}
        return [(target == known[name]) & (target != IGNORE_INDEX) for name in spec.scalars]
    masks = {name: np.zeros((height, width), bool) for name in spec.scalars}
    for shape in annotation.shapes or ():
        if shape.rle is None:
            raise ValueError("has boxes without masks, whose area is unknown; set task.target to count")
        if shape.label in masks:  # the background is not a target
            masks[shape.label] |= decode_rle(shape.rle, height, width)
    return list(masks.values())


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Float[Array, " S"]:
    """Return the predicted numbers."""
    return outputs["value"]


def as_prediction(truth: Real[Array, " S"], spec: TaskSpec) -> Float[Array, " S"]:
    """Return the true numbers as predicted numbers."""
    return truth.astype(float)


def scores(
    truths: Sequence[Real[Array, " S"]],
    predictions: Sequence[Float[Array, " S"]],
    weight_RN: Float[Array, "R N"],
    spec: TaskSpec,
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights."""
    each = parts(truths, predictions, weight_RN, spec).scores
    return {name: mean_over_parts(each[name]) for name in SCORES}


def parts(
    truths: Sequence[Real[Array, " S"]],
    predictions: Sequence[Float[Array, " S"]],
    weight_RN: Float[Array, "R N"],
    spec: TaskSpec,
) -> Parts:
    """Return mean absolute error, root mean square error, R2 and mean absolute percentage error of each scalar.

    R2 is 1 - sum of squared errors / sum of squared distances from the mean, undefined if all true numbers are equal.
    Percentages exclude images whose true number is 0.

    Args:
        truths: true numbers of N images.
        predictions: predictions of N images.
        weight_RN: bootstrap weights.
        spec: task specification.
    """
    true_NS, given_NS = np.stack(truths).astype(float), np.stack(predictions).astype(float)
    off_NS, total_R1 = given_NS - true_NS, weight_RN.sum(axis=1, keepdims=True)
    squared_RS = weight_RN @ off_NS**2
    centred_NS = true_NS - np.median(true_NS, axis=0)  # exactly 0 if all are equal; avoids cancellation below
    moment_RS = weight_RN @ centred_NS**2
    spread_RS = moment_RS - (weight_RN @ centred_NS) ** 2 / total_R1
    with np.errstate(invalid="ignore", divide="ignore"):
        share_NS = np.where(true_NS != 0, np.abs(off_NS / true_NS), 0.0)
        percentage_RS = 100 * (weight_RN @ share_NS) / (weight_RN @ (true_NS != 0))
        r2_RS = np.where(spread_RS > 1e-9 * moment_RS, 1 - squared_RS / spread_RS, np.nan)
    found = {
        "mean_absolute_error": weight_RN @ np.abs(off_NS) / total_R1,
        "root_mean_square_error": np.sqrt(squared_RS / total_R1),
        "r2": r2_RS,
        "mean_absolute_percentage_error": percentage_RS,
    }
    count, scalars = true_NS.shape
    lower: dict[str, str] = {name: score.better for name, score in SCORES.items() if score.better == "lower"}
    names = tuple(f"{name},{_unit(name, spec)}".rstrip(",") for name in spec.scalars)
    return Parts("scalar", names, (count,) * scalars, np.ones((count, scalars), bool), found, better=lower, share=False)


def error(truth: Real[Array, " S"], prediction: Float[Array, " S"], spec: TaskSpec) -> float:
    """Return the mean absolute error in standard deviations of the training images.

    The mean is over the scalars. Without standard deviations, the error is in the units of the scalars.
    """
    return float((np.abs(prediction - truth) / np.array(spec.deviation or (1.0,))).mean())


def wrong(truth: Real[Array, " S"], prediction: Float[Array, " S"], spec: TaskSpec) -> bool:
    """Return True, because predicted numbers are never exact."""
    return True


def describe(value: Real[Array, " S"], spec: TaskSpec) -> str:
    """Return a text with each number, its name and its unit."""
    pairs = zip(spec.scalars, value, strict=True)
    return ", ".join(f"{name} {value:.4g}{_unit(name, spec)}" for name, value in pairs)


def _unit(name: str, spec: TaskSpec) -> str:
    return f" {spec.units[name]}" if name in spec.units else ""


def draw(image: Integer[Array, "H W *C"], value: Any, spec: TaskSpec) -> UInt8[Array, "H W 3"]:
    """Return the image unchanged, because numbers cannot be drawn."""
    return as_rgb(image)


def record(prediction: Float[Array, " S"], spec: TaskSpec) -> dict[str, Any]:
    """Return the numbers by name."""
    return dict(zip(spec.scalars, map(float, prediction), strict=True))


def details(
    truths: Sequence[Real[Array, " S"]], predictions: Sequence[Float[Array, " S"]], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return the limits of agreement of each scalar."""
    true_NS, given_NS = np.stack(truths).astype(float), np.stack(predictions).astype(float)
    agreement = {
        name: limits_of_agreement(true_NS[:, s], given_NS[:, s], spec.units.get(name, ""))
        for s, name in enumerate(spec.scalars)
    }
    return {"agreement": agreement}
