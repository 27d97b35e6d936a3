"""Instances: boxes with or without masks.

Axes: N images, M instances of an image, K classes, R resamples. The coordinates of boxes are those of their edges, in
pixels of the original image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Float, Integer, UInt8
from stages.dataset.annotations import Annotation, bounding_box, decode_rle, encode_rle
from stages.tasks import average_precision
from stages.tasks.classification import mean_over_parts
from stages.tasks.limits_of_agreement import limits_of_agreement
from stages.tasks.overlays import as_rgb, fill, frame, palette
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

Runs = tuple[int, ...]

_OBJECT = "an object that is not a crowd"
SCORES = {
    "average_precision": Score("higher", requires=_OBJECT),
    "average_precision_50": Score("higher", requires=_OBJECT),
    "average_precision_75": Score("higher", requires=_OBJECT),
    "recall_50": Score("higher", requires=_OBJECT),
    "dsb_score": Score("higher"),
    "count_error": Score("lower", "objects", share=False),
}
TRUTHS = ("shapes",)
DRAWN = True
MIN_SCORE = 0.05  # minimum score of a listed instance
MAX_INSTANCES = 300  # maximum number of listed instances per image
CONFIDENT = 0.5  # score from which a predicted instance is counted and drawn


@dataclass(frozen=True)
class Instances:
    """True or predicted instances of an image."""

    box_M4: Float[Array, "M 4"]
    """Boxes x0, y0, x1, y1, float32."""
    label_M: Integer[Array, " M"]
    """Index of the class in `TaskSpec.labels`."""
    score_M: Float[Array, " M"]
    """Scores, 0..1; 1 for the ground truth."""
    mask_M: list[Runs] | None
    """Run-length encoded masks (`encode_rle`); None if there are only boxes."""
    crowd_M: Bool[Array, " M"]
    """True for crowds, which cover an unknown number of objects."""
    height: int
    width: int

    def sure(self) -> "Instances":
        """Return the instances with a score of at least `CONFIDENT`."""
        return self.some(self.score_M >= CONFIDENT)

    def some(self, chosen_M: Bool[Array, " M"]) -> "Instances":
        """Return the instances for which `chosen_M` is True."""
        kept = np.flatnonzero(chosen_M)
        masks = None if self.mask_M is None else [self.mask_M[i] for i in kept]
        return Instances(
            self.box_M4[kept],
            self.label_M[kept],
            self.score_M[kept],
            masks,
            self.crowd_M[kept],
            self.height,
            self.width,
        )


def truth(
    annotation: Annotation, target: Integer[Array, "..."] | None, height: int, width: int, spec: TaskSpec
) -> Instances:
    """Return the labelled instances."""
    if annotation.shapes is None:
        raise ValueError("has no objects, because its labels are of another kind; check ingest.format and task.name")
    shapes = annotation.shapes
    masks = [s.rle for s in shapes if s.rle is not None] if spec.masks else None
    return Instances(
        np.array([s.box for s in shapes], np.float32).reshape(-1, 4),
        np.array([spec.labels.index(s.label) for s in shapes], np.int64),
        np.ones(len(shapes), np.float32),
        masks,
        np.array([s.crowd for s in shapes], bool),
        height,
        width,
    )


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Instances:
    """Return the predicted instances; probability maps are separated into instances by watershed."""
    if spec.representation == "watershed":
        from stages.tasks.watershed import watershed_instances

        piece_HW, score_M = watershed_instances(outputs["probability"])
        masks = [piece_HW == number + 1 for number in range(len(score_M))]
        boxes = np.array([bounding_box(m) for m in masks], np.float32).reshape(-1, 4)
        none, (height, width) = np.zeros(len(masks), bool), piece_HW.shape
        runs = [encode_rle(m) for m in masks]
        return Instances(boxes, none.astype(np.int64), score_M, runs if spec.masks else None, none, height, width)
    box_M4, score_M = outputs["box"], outputs["score"]
    height, width = (int(n) for n in outputs["size"])
    given = outputs.get("mask")
    masks_M = None if given is None else [encode_rle(mask_HW) for mask_HW in given]
    return Instances(
        box_M4, outputs["label"].astype(np.int64), score_M, masks_M, np.zeros(len(score_M), bool), height, width
    )


def as_prediction(truth: Instances, spec: TaskSpec) -> Instances:
    """Return the true objects, without crowds, as predicted instances."""
    return truth.some(~truth.crowd_M)


def scores(
    truths: Sequence[Instances], predictions: Sequence[Instances], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights.

    average_precision is the mean over IoU 0.50 to 0.95 and over classes, as in COCO, with up to 500 predictions per
    image and class. recall_50 is the share of objects that are detected at IoU 0.50, averaged over classes. dsb_score
    is TP / (TP + FP + FN) of confident predictions, averaged over IoU 0.50 to 0.95 and images (Caicedo et al. 2019).
    count_error is the mean absolute difference of counts of confident predictions, averaged over classes.

    Args:
        truths: ground truth of N images.
        predictions: predictions of N images.
        weight_RN: bootstrap weights.
        spec: task specification.
    """
    each = parts(truths, predictions, weight_RN, spec).scores
    dsb_N = np.array([_dsb(t, a) for t, a in zip(truths, predictions, strict=True)])
    classes = len(spec.labels)
    true_NK, given_NK = _counts(truths, classes), _counts(_outside_crowds(truths, predictions), classes)
    total_R = weight_RN.sum(axis=1)
    return {
        **{name: mean_over_parts(value_RK) for name, value_RK in each.items()},
        "dsb_score": weight_RN @ dsb_N / total_R,
        "count_error": (weight_RN @ np.abs(true_NK - given_NK)).mean(axis=1) / total_R,
    }


def _counts(instances: Sequence[Instances], classes: int) -> Float[Array, "N {classes}"]:
    counted = [t.sure() for t in instances]
    return np.stack([np.bincount(t.label_M[~t.crowd_M], minlength=classes) for t in counted]).astype(float)


def _outside_crowds(truths: Sequence[Instances], predictions: Sequence[Instances]) -> list[Instances]:
    """Return the confident predictions of each image, without those in crowds."""
    return [_match_candidates(t, a)[0] for t, a in zip(truths, predictions, strict=True)]


def _match_candidates(truth: Instances, prediction: Instances) -> tuple[Instances, Float[Array, "M T"]]:
    """Return the confident predictions, and their IoU with the true objects except crowds; 0 if the classes differ.

    As in COCO, a prediction that matches no object and lies at least half in a crowd is ignored.
    """
    given = prediction.sure()
    iou_MT = average_precision.pairwise_iou(given, truth) * (given.label_M[:, None] == truth.label_M)
    single_MT, crowd_MT = iou_MT[:, ~truth.crowd_M], iou_MT[:, truth.crowd_M]
    counts_M = (crowd_MT.max(axis=1, initial=0) < 0.5) | (single_MT.max(axis=1, initial=0) >= 0.5)
    return given.some(counts_M), single_MT[counts_M]


def _dsb(truth: Instances, prediction: Instances) -> float:
    """Return the DSB score of an image; 1 if neither truth nor prediction has an object."""
    _, iou_MT = _match_candidates(truth, prediction)
    if not sum(iou_MT.shape):
        return 1.0
    hits = np.array([average_precision.count_matches(iou_MT, threshold) for threshold in average_precision.THRESHOLDS])
    return float((hits / (sum(iou_MT.shape) - hits)).mean())


def parts(
    truths: Sequence[Instances], predictions: Sequence[Instances], weight_RN: Float[Array, "R N"], spec: TaskSpec
) -> Parts:
    """Return, for each class, the average precision over IoU 0.50 to 0.95, at 0.50 and at 0.75, and recall at 0.50."""
    found = average_precision.precision_and_recall(truths, predictions, weight_RN, len(spec.labels))
    there_NK = np.stack([np.bincount(t.label_M[~t.crowd_M], minlength=len(spec.labels)) for t in truths])
    support = tuple(int(n) for n in there_NK.sum(axis=0))
    return Parts("class", spec.labels, support, there_NK > 0, found)


def error(truth: Instances, prediction: Instances, spec: TaskSpec) -> float:
    """Return 1 - F1 = 1 - 2 TP / (2 TP + FP + FN) of the confident predictions at IoU 0.50; 0 without any object."""
    _, iou_MT = _match_candidates(truth, prediction)
    return float(1 - 2 * average_precision.count_matches(iou_MT, 0.5) / sum(iou_MT.shape)) if sum(iou_MT.shape) else 0.0


def wrong(truth: Instances, prediction: Instances, spec: TaskSpec) -> bool:
    """Return True if an object is missed or falsely detected."""
    return error(truth, prediction, spec) > 0


def describe(value: Instances, spec: TaskSpec) -> str:
    """Return the number of confident instances of each class, without crowds."""
    counts = _counts([value], len(spec.labels))[0]
    return ", ".join(f"{int(n)} {name}" for name, n in zip(spec.labels, counts, strict=True) if n) or "nothing"


def draw(image: Integer[Array, "H W ..."], value: Instances, spec: TaskSpec) -> UInt8[Array, "H W 3"]:
    """Draw the confident instances, coloured by class, or by instance if there is only one class."""
    picture, sure = as_rgb(image), value.sure()
    for number, label in enumerate(sure.label_M):
        colour = palette(int(label) if len(spec.labels) > 1 else number)
        if sure.mask_M is not None:
            picture = fill(picture, decode_rle(sure.mask_M[number], sure.height, sure.width), colour)
        else:
            picture = frame(picture, sure.box_M4[number].tolist(), colour)
    return picture


def record(prediction: Instances, spec: TaskSpec) -> dict[str, Any]:
    """Return the number of confident instances of each class, and all instances.

    Boxes (x, y, width, height) and masks are in the format of COCO.
    """
    counts = _counts([prediction], len(spec.labels))[0]
    instances = []
    for number, (x0, y0, x1, y1) in enumerate(prediction.box_M4.tolist()):
        value = {
            "label": spec.labels[int(prediction.label_M[number])],
            "score": round(float(prediction.score_M[number]), 6),
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
        }
        if prediction.mask_M is not None:
            value["segmentation"] = {
                "size": [prediction.height, prediction.width],
                "counts": list(prediction.mask_M[number]),
            }
        instances.append(value)
    return {"counts": {n: int(c) for n, c in zip(spec.labels, counts, strict=True)}, "things": instances}


def details(truths: Sequence[Instances], predictions: Sequence[Instances], spec: TaskSpec, bins: int) -> dict[str, Any]:
    """Return the limits of agreement between predicted and true counts of each class."""
    classes = len(spec.labels)
    true_NK, given_NK = _counts(truths, classes), _counts(_outside_crowds(truths, predictions), classes)
    agreement = {
        f"number of {name}": limits_of_agreement(true_NK[:, k], given_NK[:, k]) for k, name in enumerate(spec.labels)
    }
    return {"agreement": agreement}
