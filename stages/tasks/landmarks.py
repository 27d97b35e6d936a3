"""Landmarks: named points, any of which may be missing.

Axes: N images, P points, R resamples. Coordinates are pixels of the original image; integers are pixel centres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer, UInt8
from stages.dataset.annotations import Annotation
from stages.tasks.classification import auc_of
from stages.tasks.overlays import as_rgb, dot, legend
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

_VISIBLE_POINT = "a visible point"
SCORES = {
    "pck": Score("higher", requires=_VISIBLE_POINT),
    "pixel_error": Score("lower", "px", share=False, requires=_VISIBLE_POINT),
    "median_pixel_error": Score("lower", "px", share=False, requires=_VISIBLE_POINT),
    "normalized_error": Score("lower", requires=_VISIBLE_POINT),
}
TRUTHS = ("points",)
DRAWN = True
VISIBLE = 0.5  # minimum confidence of a point that is drawn


@dataclass(frozen=True)
class Points:
    """True points of an image, and its size."""

    xy_P2: Float[Array, "P 2"]
    """x, y; NaN for missing points."""
    height: int
    width: int

    @property
    def diagonal(self) -> float:
        """Diagonal of the image, pixels."""
        return float(np.hypot(self.height, self.width))


def truth(
    annotation: Annotation, target: Integer[Array, "..."] | None, height: int, width: int, spec: TaskSpec
) -> Points:
    """Return the points in the order of the specification."""
    if annotation.points is None or set(annotation.points) != set(spec.points):
        found = f"the points {', '.join(sorted(annotation.points))}" if annotation.points else "no points"
        raise ValueError(f"has {found}, but every image requires {', '.join(sorted(spec.points))}")
    missing = (np.nan, np.nan)
    return Points(np.array([annotation.points[name] or missing for name in spec.points], float), height, width)


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Float[Array, "P 3"]:
    """Return x, y and confidence (0..1) of each point."""
    return outputs["point"]


def as_prediction(truth: Points, spec: TaskSpec) -> Float[Array, "P 3"]:
    """Return the true points as predicted points, with confidence 1 if visible and 0 if missing."""
    return np.column_stack([truth.xy_P2, np.isfinite(truth.xy_P2[:, 0])])


def _distances(
    truths: Sequence[Points], predictions: Sequence[Float[Array, "P 3"]]
) -> tuple[Float[Array, "N P"], Float[Array, "N 1"]]:
    """Return the distances in pixels (NaN for missing points) and the diagonals of the images."""
    true_NP2, given_NP3 = np.stack([t.xy_P2 for t in truths]), np.stack(predictions)
    return np.hypot(*np.moveaxis(given_NP3[..., :2] - true_NP2, 2, 0)), np.array([[t.diagonal] for t in truths])


def scores(
    truths: Sequence[Points], predictions: Sequence[Float[Array, "P 3"]], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights.

    pck is the share of visible points within `tolerance` times the diagonal (Yang and Ramanan 2013, who use the size of
    the object). Errors are the mean or median distance over visible points, in pixels or relative to the diagonal.

    Args:
        truths: ground truth of N images.
        predictions: predictions of N images.
        weight_RN: bootstrap weights.
        spec: task specification.
    """
    far_NP, diagonal_N1 = _distances(truths, predictions)
    seen_NP = np.isfinite(far_NP)
    with np.errstate(invalid="ignore"):
        total_R = (weight_RN @ seen_NP).sum(axis=1)
        near_NP = np.where(seen_NP, far_NP <= spec.tolerance * diagonal_N1, False)
        share_NP = np.nan_to_num(far_NP / diagonal_N1)
        return {
            "pck": (weight_RN @ near_NP).sum(axis=1) / total_R,
            "pixel_error": (weight_RN @ np.nan_to_num(far_NP)).sum(axis=1) / total_R,
            "median_pixel_error": _weighted_median(far_NP, weight_RN),
            "normalized_error": (weight_RN @ share_NP).sum(axis=1) / total_R,
        }


def _weighted_median(far_NP: Float[Array, "N P"], weight_RN: Float[Array, "R N"]) -> Float[Array, " R"]:
    """Return the weighted median distance over visible points; NaN where none has a weight."""
    image_V, _ = np.nonzero(np.isfinite(far_NP))
    values_V = far_NP[np.isfinite(far_NP)]
    if not len(values_V):
        return np.full(len(weight_RN), np.nan)
    order = np.argsort(values_V)
    sums_RV = weight_RN[:, image_V[order]].cumsum(axis=1)
    place_R = (sums_RV >= sums_RV[:, -1:] / 2).argmax(axis=1)
    return np.where(sums_RV[:, -1] > 0, values_V[order][place_R], np.nan)


def parts(
    truths: Sequence[Points], predictions: Sequence[Float[Array, "P 3"]], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> Parts:
    """Return pck and the mean distance in pixels of each point."""
    far_NP, diagonal_N1 = _distances(truths, predictions)
    seen_NP = np.isfinite(far_NP)
    with np.errstate(invalid="ignore", divide="ignore"):
        seen_RP = weight_RN @ seen_NP
        near_NP = np.where(seen_NP, far_NP <= spec.tolerance * diagonal_N1, False)
        found = {"pck": weight_RN @ near_NP / seen_RP, "pixel_error": weight_RN @ np.nan_to_num(far_NP) / seen_RP}
    support = tuple(int(n) for n in seen_NP.sum(axis=0))
    return Parts("point", spec.points, support, seen_NP, found, better={"pixel_error": "lower"}, share=False)


def error(truth: Points, prediction: Float[Array, "P 3"], spec: TaskSpec) -> float:
    """Return the mean distance over visible points relative to the diagonal; 0 if none is visible."""
    far_NP, diagonal = _distances([truth], [prediction])
    return float(np.nanmean(far_NP) / diagonal[0, 0]) if np.isfinite(far_NP).any() else 0.0


def wrong(truth: Points, prediction: Float[Array, "P 3"], spec: TaskSpec) -> bool:
    """Return True, because predicted points are never exact."""
    return True


def describe(value: Points | Float[Array, "P 3"], spec: TaskSpec) -> str:
    """Return a text with the number of visible points; predicted ones count from the confidence `VISIBLE`."""
    there = np.isfinite(value.xy_P2[:, 0]) if isinstance(value, Points) else value[:, 2] >= VISIBLE
    return f"{int(there.sum())} of {len(spec.points)} points"


def draw(
    image: Integer[Array, "H W ..."], value: Points | Float[Array, "P 3"], spec: TaskSpec
) -> UInt8[Array, "H W 3"]:
    """Draw the points, each in its own colour; predicted points only if their confidence is at least `VISIBLE`."""
    points = value.xy_P2 if isinstance(value, Points) else np.where(value[:, 2:] >= VISIBLE, value[:, :2], np.nan)
    picture = as_rgb(image)
    for (x, y), colour in zip(points, legend(spec).values(), strict=True):
        if np.isfinite(x):
            picture = dot(picture, float(x), float(y), colour)
    return picture


def record(prediction: Float[Array, "P 3"], spec: TaskSpec) -> dict[str, Any]:
    """Return x, y and confidence of each point by name."""
    return {
        name: {"x": float(x), "y": float(y), "confidence": float(confidence)}
        for name, (x, y, confidence) in zip(spec.points, prediction, strict=True)
    }


def details(
    truths: Sequence[Points], predictions: Sequence[Float[Array, "P 3"]], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return pck for a range of tolerances, and the AUC with which the confidence predicts visibility.

    Without visible points, the curve is empty. The AUC is None unless there are both visible and missing points.
    """
    far_NP, diagonal_N1 = _distances(truths, predictions)
    seen_NP = np.isfinite(far_NP)
    share_V = (far_NP / diagonal_N1)[seen_NP]
    tolerances = np.linspace(0, 2 * spec.tolerance, 21)
    curve = [[float(t), float((share_V <= t).mean())] for t in tolerances] if len(share_V) else []
    confidence_NP = np.stack(predictions)[..., 2]
    auc = None
    if seen_NP.any() and not seen_NP.all():
        auc = float(auc_of(seen_NP.ravel(), confidence_NP.ravel(), np.ones((1, seen_NP.size)))[0])
    return {"pck_curve": curve, "auc_of_confidence": auc}
