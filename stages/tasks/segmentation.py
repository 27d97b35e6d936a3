"""Semantic segmentation: per-pixel class.

A pixel may have several classes: the combination of these is then its label (see `combined_classes`).

Axes: N images, L labels of the mask, K classes, R resamples, H and W of the original image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Float, Integer, UInt8
from stages.dataset.annotations import IGNORE_INDEX, Annotation
from stages.dataset.combined_classes import (
    JOINT,
    combine,
    combine_objects,
    covered_pixels,
    membership,
    single_classes,
)
from stages.tasks.classification import mean_over_parts
from stages.tasks.overlays import as_rgb, fill, legend, outline_of_mask
from stages.tasks.rand_index import foreground_rand
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

_FOREGROUND, _BOUNDARY = "pixels of a class other than background", "a boundary of a class other than background"
SCORES = {
    "dice": Score("higher", requires=_FOREGROUND),
    "iou": Score("higher", requires=_FOREGROUND),
    "pixel_accuracy": Score("higher", requires="pixels whose class is known"),
    "boundary_f1": Score("higher", requires=_BOUNDARY),
    "boundary_error": Score("lower", "px", share=False, requires=_BOUNDARY),
    "foreground_rand": Score("higher", requires="exactly two classes, and pixels of the second"),
}
TRUTHS = ("mask", "shapes")
DRAWN = True


@dataclass(frozen=True)
class Mask:
    """Predicted mask."""

    index_HW: UInt8[Array, "H W"]
    """Label of each pixel."""
    second_HW: Float[Array, "H W"] | None
    """Probability of the second class, float16; None unless there are two classes."""


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> UInt8[Array, "H W"]:
    """Return the class of each pixel; `IGNORE_INDEX` if it is unknown."""
    if spec.target == "mask":
        if annotation.mask is None or target is None:
            raise ValueError("has no mask")
        order = np.full(256, IGNORE_INDEX, np.uint8)
        for index, name in enumerate(annotation.mask):
            order[index] = spec.labels.index(name)
        return order[target]
    index_HW = _index_of_objects(annotation, height, width, spec)
    for crowd in (shape for shape in annotation.shapes or () if shape.crowd):
        index_HW[covered_pixels(crowd, height, width) & (index_HW == 0)] = IGNORE_INDEX
    return index_HW


def _index_of_objects(
    annotation: Annotation, height: int, width: int, spec: TaskSpec
) -> UInt8[Array, "{height} {width}"]:
    """Return the label of each pixel: all of its classes if labels are combinations, else that of the last object."""
    if any(JOINT in label for label in spec.labels):
        number_HW, found = combine_objects(annotation, height, width)
        return np.array([spec.labels.index(combine(classes)) for classes in found], np.uint8)[number_HW]
    index_HW = np.zeros((height, width), np.uint8)
    for shape in annotation.shapes or ():
        if not shape.crowd:
            index_HW[covered_pixels(shape, height, width)] = spec.labels.index(shape.label)
    return index_HW


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Mask:
    """Return the predicted mask: the most probable class of each pixel."""
    probability_KHW = outputs["probability"]
    second = probability_KHW[1].astype(np.float16) if len(probability_KHW) == 2 else None
    return Mask(probability_KHW.argmax(axis=0).astype(np.uint8), second)


def as_prediction(truth: UInt8[Array, "H W"], spec: TaskSpec) -> Mask:
    """Return the true mask as a predicted mask, with the first class where the truth is unknown."""
    index_HW = np.where(truth == IGNORE_INDEX, 0, truth).astype(np.uint8)
    return Mask(index_HW, (index_HW == 1).astype(np.float16) if len(spec.labels) == 2 else None)


def scores(
    truths: Sequence[UInt8[Array, "_ _"]], predictions: Sequence[Mask], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights.

    Pixels of unknown class are ignored. dice and iou are computed per class over all pixels and averaged over classes
    without the background. pixel_accuracy is the share of pixels with exactly the true classes. boundary_f1 and
    boundary_error are averaged over images and classes without the background. foreground_rand is averaged over images
    and defined only for two classes.

    Args:
        truths: ground truth of N images.
        predictions: predictions of N images.
        weight_RN: bootstrap weights.
        spec: task specification.
    """
    each, used = _pixels(truths, predictions, weight_RN, spec), _foreground(spec)
    known_N = np.array([(t != IGNORE_INDEX).sum() for t in truths], float)
    right_N = np.array(
        [((t == a.index_HW) & (t != IGNORE_INDEX)).sum() for t, a in zip(truths, predictions, strict=True)], float
    )
    edge_NK2 = np.array([_boundaries(t, a.index_HW, spec) for t, a in zip(truths, predictions, strict=True)])
    rand_N = np.full(len(truths), np.nan)
    if len(spec.labels) == 2:
        rand_N = np.array([foreground_rand(t, a.index_HW) for t, a in zip(truths, predictions, strict=True)])
    return {
        "dice": mean_over_parts(each["dice"][:, used]),
        "iou": mean_over_parts(each["iou"][:, used]),
        "pixel_accuracy": weight_RN @ right_N / (weight_RN @ known_N),
        "boundary_f1": _mean_of_known(edge_NK2[:, used, 0], weight_RN),
        "boundary_error": _mean_of_known(edge_NK2[:, used, 1], weight_RN),
        "foreground_rand": _mean_of_known(rand_N[:, None], weight_RN),
    }


def foreground(spec: TaskSpec) -> list[str]:
    """Return the classes whose scores and shares are reported: all but the background, if there are others."""
    classes = single_classes(spec.labels)
    return [name for name in classes if name != "background"] or [classes[0]]


def _foreground(spec: TaskSpec) -> list[int]:
    classes = single_classes(spec.labels)
    return [classes.index(name) for name in foreground(spec)]


def _class_tables(spec: TaskSpec) -> Bool[Array, "256 K"]:
    """Return whether a pixel of each index has each class; none for unknown pixels."""
    table_256K = np.zeros((256, len(single_classes(spec.labels))), bool)
    table_256K[: len(spec.labels)] = membership(spec.labels)
    return table_256K


def _mean_of_known(value_NX: Float[Array, "N X"], weight_RN: Float[Array, "R N"]) -> Float[Array, " R"]:
    """Return the weighted mean of the defined values."""
    known_NX = np.isfinite(value_NX)
    with np.errstate(invalid="ignore"):
        return (weight_RN @ np.where(known_NX, value_NX, 0)).sum(axis=1) / (weight_RN @ known_NX).sum(axis=1)


def _counts(truth_HW: UInt8[Array, "H W"], index_HW: UInt8[Array, "H W"], spec: TaskSpec) -> Float[Array, "3 K"]:
    """Return the number of known pixels of each class: in both, in the truth and in the prediction."""
    labels, known = len(spec.labels), truth_HW != IGNORE_INDEX
    pair = truth_HW[known].astype(np.int64) * labels + index_HW[known]
    pixels_LL = np.bincount(pair, minlength=labels**2).reshape(labels, labels).astype(float)
    member_LK = membership(spec.labels).astype(float)
    both_K = np.diag(member_LK.T @ pixels_LL @ member_LK)
    return np.stack([both_K, pixels_LL.sum(axis=1) @ member_LK, pixels_LL.sum(axis=0) @ member_LK])


def _pixels(
    truths: Sequence[UInt8[Array, "_ _"]], predictions: Sequence[Mask], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> dict[str, Float[Array, "R K"]]:
    """Return dice and iou of each class; NaN if neither truth nor prediction has the class."""
    count_N3K = np.stack([_counts(t, a.index_HW, spec) for t, a in zip(truths, predictions, strict=True)])
    both, true, given = np.moveaxis(np.einsum("rn,nck->rck", weight_RN, count_N3K), 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"dice": 2 * both / (true + given), "iou": both / (true + given - both)}


def _boundaries(
    truth_HW: UInt8[Array, "H W"], index_HW: UInt8[Array, "H W"], spec: TaskSpec
) -> list[tuple[float, float]]:
    """Return the boundary scores of each class.

    These are the F1 of boundary pixels within `tolerance` pixels (Csurka et al. 2013) and the symmetric mean distance
    between the boundaries. If truth or prediction has no boundary, the distance is NaN, and F1 is 0, or NaN if both
    have none.
    """
    from scipy.ndimage import distance_transform_edt

    found = []
    known = truth_HW != IGNORE_INDEX
    for has_256 in _class_tables(spec).T:
        true = outline_of_mask(has_256[truth_HW]) & known
        given = outline_of_mask(has_256[index_HW] & known)
        if not true.any() or not given.any():
            found.append((np.nan if true.any() == given.any() else 0.0, np.nan))
            continue
        to_true, to_given = distance_transform_edt(~true)[given], distance_transform_edt(~given)[true]
        precision, recall = (to_true <= spec.tolerance).mean(), (to_given <= spec.tolerance).mean()
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        found.append((float(f1), float((to_true.sum() + to_given.sum()) / (len(to_true) + len(to_given)))))
    return found


def parts(
    truths: Sequence[UInt8[Array, "_ _"]], predictions: Sequence[Mask], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> Parts:
    """Return dice and iou of each class."""
    there_NK = np.array([_class_tables(spec)[np.unique(t)].any(axis=0) for t in truths])
    support = tuple(int(n) for n in there_NK.sum(axis=0))
    return Parts("class", single_classes(spec.labels), support, there_NK, _pixels(truths, predictions, weight_RN, spec))


def error(truth: UInt8[Array, "H W"], prediction: Mask, spec: TaskSpec) -> float:
    """Return 1 minus the mean dice of the classes in truth or prediction, except the background; 0 if there is none."""
    one = np.ones((1, 1))
    dice = _pixels([truth], [prediction], one, spec)["dice"][0, _foreground(spec)]
    return float(1 - np.nanmean(dice)) if np.isfinite(dice).any() else 0.0


def wrong(truth: UInt8[Array, "H W"], prediction: Mask, spec: TaskSpec) -> bool:
    """Return True, because predicted masks are almost never exact."""
    return True


def describe(value: Any, spec: TaskSpec) -> str:
    """Return the area share of each class except for the background, if it is at least 0.5 %."""
    shares = _shares(value, spec)
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005) or "nothing"


def _shares(value: Any, spec: TaskSpec) -> dict[str, float]:
    index_HW = value.index_HW if isinstance(value, Mask) else value
    classes, tables_256K = single_classes(spec.labels), _class_tables(spec)
    return {classes[k]: float(tables_256K[:, k][index_HW].mean()) for k in _foreground(spec)}


def draw(image: Integer[Array, "H W *C"], value: Any, spec: TaskSpec) -> UInt8[Array, "H W 3"]:
    """Draw the mask in a colour per label; the background, or the first class if there is none, is left uncoloured."""
    index_HW = value.index_HW if isinstance(value, Mask) else value
    picture = as_rgb(image)
    for label, colour in legend(spec).items():
        picture = fill(picture, index_HW == spec.labels.index(label), colour)
    return picture


def record(prediction: Mask, spec: TaskSpec) -> dict[str, Any]:
    """Return the area share of each class except for the background."""
    return _shares(prediction, spec)


def details(
    truths: Sequence[UInt8[Array, "_ _"]], predictions: Sequence[Mask], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return the foreground Rand score by threshold of the probability, and the best, as in the ISBI 2012 challenge.

    The probability is that of the second class; the result is empty unless there are two classes.
    """
    if len(spec.labels) != 2:
        return {}
    by_threshold = {}
    for threshold in np.arange(0.1, 0.95, 0.1):
        rands = [
            foreground_rand(t, (a.second_HW >= threshold).astype(np.uint8))
            for t, a in zip(truths, predictions, strict=True)
            if a.second_HW is not None
        ]
        if rands and np.isfinite(rands).any():
            by_threshold[f"{threshold:.1f}"] = float(np.nanmean(rands))
    best = max(by_threshold, key=lambda t: by_threshold[t], default=None)
    found = {} if best is None else {"best": by_threshold[best], "threshold": float(best)}
    return {"foreground_rand_by_threshold": by_threshold, "foreground_rand_at_best_threshold": found}
