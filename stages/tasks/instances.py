"""Every single thing: boxes, with masks or without.

Axes: N images, M things of an image, K classes, R resamples. Boxes in pixels of the original image, edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.dataset.annotations import Annotation, bounding_box, decode_rle, encode_rle
from stages.tasks import average_precision
from stages.tasks.classification import mean_over_parts
from stages.tasks.limits_of_agreement import limits_of_agreement
from stages.tasks.overlays import as_rgb, fill, frame, palette
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
Runs = tuple[int, ...]

SCORES = {
    "average_precision": Score("higher"),
    "average_precision_50": Score("higher"),
    "average_precision_75": Score("higher"),
    "recall_50": Score("higher"),
    "dsb_score": Score("higher"),
    "count_error": Score("lower", "things", share=False),
}
TRUTHS = ("shapes",)
DRAWN = True
LEAST = 0.05  # score from which a network lists a thing
MOST = 300  # things that it lists of one image, the surest
SURE = 0.5  # score from which an answered thing counts, where things are counted or drawn


@dataclass(frozen=True)
class Instances:
    """The things in an image, true or answered."""

    box_M4: Array
    """float32."""
    label_M: Array
    """Index into `outline.labels`."""
    score_M: Array
    """0..1; 1 of the truth."""
    mask_M: list[Runs] | None
    """Run lengths as `encode_rle` gives them; None where there are only boxes."""
    crowd_M: Array
    """Boolean."""
    height: int
    width: int

    def sure(self) -> "Instances":
        """Those that count."""
        return self.some(self.score_M >= SURE)

    def some(self, chosen_M: Array) -> "Instances":
        """Those for which a boolean is true."""
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


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Instances:
    """The things that are there."""
    if annotation.shapes is None:
        raise ValueError("has no things, only labels of another kind")
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
    """The graph's boxes, labels, scores and masks; or what a watershed makes of its probabilities."""
    if spec.representation == "watershed":
        from stages.tasks.watershed import pieces

        piece_HW, score_M = pieces(outputs["probability"])
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


def scores(
    truths: Sequence[Instances], answers: Sequence[Instances], weight_RN: Array, spec: TaskSpec
) -> dict[str, Array]:
    """All scores under all weights: name to [R].

    average_precision: mean over IoU .50 to .95 and over the classes, as COCO has it, with up to 500 answers an image;
    recall_50: share of the things that are found; dsb_score: TP / (TP + FP + FN) of answers that count, mean over IoU
    .50 to .95 and over images (Caicedo et al. 2019); count_error: mean absolute difference of counts, mean over
    classes.
    """
    each = parts(truths, answers, weight_RN, spec).scores
    dsb_N = np.array([_dsb(t, a) for t, a in zip(truths, answers, strict=True)])
    classes = len(spec.labels)
    true_NK, given_NK = _counts(truths, classes), _counts(_outside_crowds(truths, answers), classes)
    total_R = weight_RN.sum(axis=1)
    return {
        **{name: mean_over_parts(value_RK) for name, value_RK in each.items()},
        "dsb_score": weight_RN @ dsb_N / total_R,
        "count_error": (weight_RN @ np.abs(true_NK - given_NK)).mean(axis=1) / total_R,
    }


def _counts(things: Sequence[Instances], classes: int) -> Array:
    counted = [t.sure() for t in things]
    return np.stack([np.bincount(t.label_M[~t.crowd_M], minlength=classes) for t in counted]).astype(float)


def _outside_crowds(truths: Sequence[Instances], answers: Sequence[Instances]) -> list[Instances]:
    """The answers that count: sure, and no part of a crowd, where nobody knows how many there are."""
    return [_held_against(t, a)[0] for t, a in zip(truths, answers, strict=True)]


def _held_against(truth: Instances, answer: Instances) -> tuple[Instances, Array]:
    """The answers that count, and their IoU with the true things of the same class: [M, T], crowds left out.

    As in COCO, an answer that meets no thing and lies at least half in a crowd is neither right nor wrong.
    """
    given = answer.sure()
    iou_MT = average_precision.overlaps(given, truth) * (given.label_M[:, None] == truth.label_M)
    single_MT, crowd_MT = iou_MT[:, ~truth.crowd_M], iou_MT[:, truth.crowd_M]
    counts_M = (crowd_MT.max(axis=1, initial=0) < 0.5) | (single_MT.max(axis=1, initial=0) >= 0.5)
    return given.some(counts_M), single_MT[counts_M]


def _dsb(truth: Instances, answer: Instances) -> float:
    """1 where neither has a thing."""
    _, iou_MT = _held_against(truth, answer)
    if not sum(iou_MT.shape):
        return 1.0
    hits = np.array([average_precision.matched(iou_MT, threshold) for threshold in average_precision.THRESHOLDS])
    return float((hits / (sum(iou_MT.shape) - hits)).mean())


def parts(truths: Sequence[Instances], answers: Sequence[Instances], weight_RN: Array, spec: TaskSpec) -> Parts:
    """Of each class: average precision over IoU .50 to .95, at .50, at .75; and recall at .50."""
    found = average_precision.precision_and_recall(truths, answers, weight_RN, len(spec.labels))
    there_NK = np.stack([np.bincount(t.label_M[~t.crowd_M], minlength=len(spec.labels)) for t in truths])
    support = tuple(int(n) for n in there_NK.sum(axis=0))
    return Parts("class", spec.labels, support, there_NK > 0, found)


def error(truth: Instances, answer: Instances, spec: TaskSpec) -> float:
    """1 - 2 TP / (2 TP + FP + FN) at IoU .50, of answers that count."""
    _, iou_MT = _held_against(truth, answer)
    return float(1 - 2 * average_precision.matched(iou_MT, 0.5) / sum(iou_MT.shape)) if sum(iou_MT.shape) else 0.0


def wrong(truth: Instances, answer: Instances, spec: TaskSpec) -> bool:
    """A thing is missed, or claimed where none is."""
    return error(truth, answer, spec) > 0


def says(thing: Instances, spec: TaskSpec) -> str:
    """How many things of each class."""
    counts = _counts([thing], len(spec.labels))[0]
    return ", ".join(f"{int(n)} {name}" for name, n in zip(spec.labels, counts, strict=True) if n) or "nothing"


def draw(image: Array, thing: Instances, spec: TaskSpec) -> Array:
    """A colour for each class, or for each thing where there is one class."""
    picture, sure = as_rgb(image), thing.sure()
    for number, label in enumerate(sure.label_M):
        colour = palette(int(label) if len(spec.labels) > 1 else number)
        if sure.mask_M is not None:
            picture = fill(picture, decode_rle(sure.mask_M[number], sure.height, sure.width), colour)
        else:
            picture = frame(picture, sure.box_M4[number].tolist(), colour)
    return picture


def record(answer: Instances, spec: TaskSpec) -> dict[str, Any]:
    """Count of each class, and the things as COCO has them: bbox is x, y, width, height."""
    counts = _counts([answer], len(spec.labels))[0]
    things = []
    for number, (x0, y0, x1, y1) in enumerate(answer.box_M4.tolist()):
        thing = {
            "label": spec.labels[int(answer.label_M[number])],
            "score": round(float(answer.score_M[number]), 6),
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
        }
        if answer.mask_M is not None:
            thing["segmentation"] = {"size": [answer.height, answer.width], "counts": list(answer.mask_M[number])}
        things.append(thing)
    return {"counts": {n: int(c) for n, c in zip(spec.labels, counts, strict=True)}, "things": things}


def details(truths: Sequence[Instances], answers: Sequence[Instances], spec: TaskSpec, bins: int) -> dict[str, Any]:
    """Counts against counts."""
    classes = len(spec.labels)
    true_NK, given_NK = _counts(truths, classes), _counts(_outside_crowds(truths, answers), classes)
    agreement = {
        f"number of {name}": limits_of_agreement(true_NK[:, k], given_NK[:, k]) for k, name in enumerate(spec.labels)
    }
    return {"agreement": agreement}
