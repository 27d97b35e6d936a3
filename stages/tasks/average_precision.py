"""Average precision and recall of instances as defined by COCO, computed with pycocotools and bootstrap weights.

Up to `MAX_DETECTIONS` predictions per image and class count, instead of 100 as for COCO.

Axes: N images, D predictions of an image, T true objects, I IoU thresholds, K classes, R resamples.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 500  # most certain predictions that count per image and class; images of nuclei have hundreds
RECALLS = np.linspace(0, 1, 101)


def pairwise_iou(prediction: Any, truth: Any) -> Float[Array, "D T"]:
    """Return the IoU of masks, or of boxes if masks are missing; for a crowd, the share of the prediction inside it."""
    from pycocotools import mask as coco_mask

    if not len(prediction.label_M) or not len(truth.label_M):
        return np.zeros((len(prediction.label_M), len(truth.label_M)))
    if prediction.mask_M is None or truth.mask_M is None:
        return np.asarray(coco_mask.iou(_xywh(prediction), _xywh(truth), truth.crowd_M.tolist()))
    return np.asarray(coco_mask.iou(_compressed(prediction), _compressed(truth), truth.crowd_M.tolist()))


def _xywh(instances: Any) -> Array:
    box_M4 = instances.box_M4.astype(np.float64)
    return np.concatenate([box_M4[:, :2], box_M4[:, 2:] - box_M4[:, :2]], axis=1)


def _compressed(instances: Any) -> list[Any]:
    from pycocotools import mask as coco_mask

    size = [instances.height, instances.width]
    return [coco_mask.frPyObjects({"size": size, "counts": list(runs)}, *size) for runs in instances.mask_M]


def count_matches(iou_DT: Float[Array, "D T"], threshold: float) -> int:
    """Return the maximum number of matching pairs; each prediction and each object is in at most one pair."""
    from scipy.optimize import linear_sum_assignment

    good = iou_DT >= threshold
    rows, columns = linear_sum_assignment(-good.astype(float))
    return int(good[rows, columns].sum())


def precision_and_recall(
    truths: Sequence[Any], predictions: Sequence[Any], weight_RN: Float[Array, "R N"], classes: int
) -> dict[str, Float[Array, "R {classes}"]]:
    """Return average_precision, average_precision_50, average_precision_75 and recall_50, each [R, K].

    Predictions are matched to objects by pycocotools. The precision-recall curve is computed in this module, so that an
    image can count more than once. A value is NaN if no image of the resample has the class.

    Args:
        truths: true instances of N images.
        predictions: predicted instances of N images.
        weight_RN: bootstrap weights.
        classes: number of classes K.
    """
    found = _matches(truths, predictions)
    shape = (len(weight_RN), classes)
    names = ("average_precision", "average_precision_50", "average_precision_75", "recall_50")
    result = {name: np.full(shape, np.nan) for name in names}
    for k in range(classes):
        ap_RI, recall_RI = _of_class(found, k, weight_RN)
        values = (ap_RI.mean(axis=1), ap_RI[:, 0], ap_RI[:, 5], recall_RI[:, 0])
        for name, value_R in zip(names, values, strict=True):
            result[name][:, k] = value_R
    return result


def _matches(truths: Sequence[Any], predictions: Sequence[Any]) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the matches of pycocotools for each (class, image) with objects or predictions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    masks = all(t.mask_M is not None for t in (*truths, *predictions))
    categories = sorted({int(label) for t in (*truths, *predictions) for label in t.label_M})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        both = []
        for instances in (truths, predictions):
            dataset = COCO()
            dataset.dataset = {
                "images": [{"id": n + 1, "height": t.height, "width": t.width} for n, t in enumerate(instances)],
                "categories": [{"id": k + 1, "name": str(k)} for k in categories],
                "annotations": _annotations(instances, masks),
            }
            dataset.createIndex()
            both.append(dataset)
        judge = COCOeval(*both, "segm" if masks else "bbox")
        judge.params.maxDets = [MAX_DETECTIONS]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
    return {(int(e["category_id"]) - 1, int(e["image_id"]) - 1): e for e in judge.evalImgs if e is not None}


def _annotations(instances: Sequence[Any], masks: bool) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for n, one in enumerate(instances):
        boxes, runs = _xywh(one), _compressed(one) if masks else []
        for m, label in enumerate(one.label_M):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": n + 1,
                "category_id": int(label) + 1,
                "bbox": boxes[m].tolist(),
                "area": float(boxes[m, 2] * boxes[m, 3]),
                "score": float(one.score_M[m]),
                "iscrowd": int(one.crowd_M[m]),
            }
            annotations.append(annotation | ({"segmentation": runs[m]} if masks else {}))
    return annotations


def _of_class(found: dict[tuple[int, int], dict[str, Any]], k: int, weight_RN: Array) -> tuple[Array, Array]:
    """Return average precision and recall of a class, each [R, I]."""
    mine = {n: verdict for (category, n), verdict in found.items() if category == k}
    things_N = np.zeros(weight_RN.shape[1])
    for n, verdict in mine.items():
        things_N[n] = (~np.asarray(verdict["gtIgnore"], bool)).sum()
    total_R = weight_RN @ things_N
    nothing = np.full((len(weight_RN), len(THRESHOLDS)), np.nan)
    if not things_N.any():
        return nothing, nothing
    score_D = np.concatenate([np.asarray(v["dtScores"], float) for v in mine.values()])
    if not len(score_D):
        zero = np.where(total_R[:, None] > 0, np.zeros_like(nothing), np.nan)
        return zero, zero
    order = np.argsort(-score_D, kind="mergesort")
    image_D = np.concatenate([np.full(len(v["dtScores"]), n) for n, v in mine.items()])[order]
    hit_ID = np.concatenate([np.asarray(v["dtMatches"]) for v in mine.values()], axis=1)[:, order] > 0
    counts_ID = ~np.concatenate([np.asarray(v["dtIgnore"], bool) for v in mine.values()], axis=1)[:, order]
    ap_RI, recall_RI = nothing.copy(), nothing.copy()
    for i in range(len(THRESHOLDS)):
        for r in np.flatnonzero(total_R > 0):
            weight_D = weight_RN[r, image_D]
            ap_RI[r, i], recall_RI[r, i] = _interpolated(
                hit_ID[i] & counts_ID[i], ~hit_ID[i] & counts_ID[i], weight_D, total_R[r]
            )
    return ap_RI, recall_RI


def _interpolated(hit_D: Array, miss_D: Array, weight_D: Array, total: float) -> tuple[float, float]:
    """Return the average precision of COCO (101 recalls, interpolated precision) and the final recall."""
    hits_D, misses_D = (weight_D * hit_D).cumsum(), (weight_D * miss_D).cumsum()
    recall_D = hits_D / total
    precision_D = hits_D / np.maximum(hits_D + misses_D, np.finfo(float).eps)
    envelope_D = np.maximum.accumulate(precision_D[::-1])[::-1]
    place = np.searchsorted(recall_D, RECALLS, side="left")
    reached = place < len(envelope_D)
    return float(np.where(reached, envelope_D[np.minimum(place, len(envelope_D) - 1)], 0).mean()), float(recall_D[-1])
