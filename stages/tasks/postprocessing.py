"""Convert outputs of the ONNX graph or of the torch network to predictions, and compare the outputs of two runtimes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer
from stages.images.geometry import Placement, blend_tiles
from stages.tasks import TASKS
from stages.tasks.instances import CONFIDENT, MAX_INSTANCES, MIN_SCORE
from stages.tasks.task_spec import TaskSpec

NEAR = 0.05  # maximum difference between matching instances: of scores, and of boxes relative to the diagonal
ALONE = 0.02  # maximum share of instances without a match in the other runtime


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Any:
    """Return the prediction for one image from the outputs for it, which have no batch axis."""
    if spec.task == "regression" and spec.representation == "mask":
        outputs = {"value": _measured(outputs["probability"].argmax(axis=0), spec)}
    return TASKS[spec.task].decode(outputs, spec)


def stitched(
    parts: Sequence[dict[str, Float[Array, "_ _ _"]]], placed: Sequence[Placement]
) -> dict[str, Float[Array, "_ _ _"]]:
    """Return the outputs for one image, blended from those of its tiles."""
    if "restored" in parts[0]:
        image_CHW = blend_tiles([np.moveaxis(part["restored"], 2, 0) for part in parts], placed)
        return {"restored": np.moveaxis(image_CHW, 0, 2)}
    return {name: blend_tiles([part[name] for part in parts], placed) for name in parts[0]}


def difference(one: dict[str, Array], other: dict[str, Array], spec: TaskSpec, diagonal: float) -> float:
    """Return the largest difference between two sets of outputs for one image.

    Units: probabilities and grey levels (white = 1) are compared directly, scalars in standard deviations of the
    training images, points relative to the diagonal, and instances as `_instance_difference` describes.

    Args:
        one: outputs of the first runtime.
        other: outputs of the second runtime.
        spec: task specification.
        diagonal: diagonal of the image, pixels.
    """
    scale = {"value": np.array(spec.deviation), "point": np.array([diagonal, diagonal, 1.0])}
    if "score" in one:
        return _instance_difference(one, other, diagonal)
    return max(
        float((np.abs(one[name].astype(np.float64) - other[name]) / scale.get(name, 1.0)).max(initial=0.0))
        for name in one.keys() - {"label", "mask", "size"}
    )


def _instance_difference(one: dict[str, Array], other: dict[str, Array], diagonal: float) -> float:
    """Return the largest difference between matching instances, independent of their order.

    The difference is that of the scores, or of the boxes relative to the diagonal; masks are not compared. Instances
    match if they have the same class and differ by less than `NEAR`. An instance without a match counts as its score
    minus `CONFIDENT`, because rounding can change which of two nearly equal boxes is suppressed. If many instances have
    no match, each counts as its score minus the lowest score that both lists would include.
    """
    from scipy.optimize import linear_sum_assignment

    score_M, score_N = one["score"].astype(np.float64), other["score"].astype(np.float64)
    box_MN = np.abs(one["box"].astype(np.float64)[:, None] - other["box"][None]).max(axis=2, initial=0) / diagonal
    apart_MN = np.maximum(box_MN, np.abs(score_M[:, None] - score_N)) + (one["label"][:, None] != other["label"])
    row_K, column_K = linear_sum_assignment(apart_MN)
    near_K = apart_MN[row_K, column_K] < NEAR
    alone_A = np.concatenate([np.delete(score_M, row_K[near_K]), np.delete(score_N, column_K[near_K])])
    end = max([MIN_SCORE, *(score.min() for score in (score_M, score_N) if len(score) >= MAX_INSTANCES)])
    few = len(alone_A) <= max(1.0, ALONE * max(len(score_M), len(score_N)))
    matched = apart_MN[row_K, column_K][near_K].max(initial=0.0)
    return float(max(matched, alone_A.max(initial=0.0) - (CONFIDENT if few else end)))


def _measured(index_HW: Integer[Array, "H W"], spec: TaskSpec) -> Float[Array, " S"]:
    """Return the number of connected regions, or the area share, of each class in `TaskSpec.scalars`."""
    from scipy import ndimage

    classes = [spec.labels.index(name) for name in spec.scalars]
    if spec.target == "area":
        return np.array([(index_HW == k).mean() for k in classes], np.float32)
    return np.array([ndimage.label(index_HW == k, np.ones((3, 3)))[1] for k in classes], np.float32)
