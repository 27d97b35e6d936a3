"""Best constant predictions of points, masks, images and objects: candidates, of which the training images choose.

Positions are relative to the size of an image. Axes: N images, P points, L labels of a mask, G rows and columns of the
grid to which masks are reduced, M instances.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Integer
from stages.dataset.annotations import encode_rle
from stages.images.decode import to_channels
from stages.tasks import TASKS
from stages.tasks.image_to_image import as_prediction as as_image
from stages.tasks.instances import Instances
from stages.tasks.landmarks import Points
from stages.tasks.segmentation import Mask
from stages.tasks.task_spec import TaskSpec

GRID = 48  # rows and columns of the mask of frequencies
BACKGROUND_WEIGHTS = (1.0, 0.5, 0.25, 0.1)  # the smaller, the larger the predicted regions of the other classes
MAX_LABELS = 5  # most frequent labels, of which a mask that is filled with one of them is a candidate


@dataclass(frozen=True)
class Scene:
    """Size of an image; and its pixels, if the constant prediction depends on them (image-to-image)."""

    height: int
    width: int
    image: Integer[Array, "H W ..."] | None = None


Example = tuple[Any, Scene]
"""Ground truth and size of an image."""


@dataclass(frozen=True)
class Constant:
    """Constant prediction: the same for every image, apart from its size."""

    name: str
    """Description, such as "the median of the training images (weight 30.5 g)"."""
    predict: Callable[[Scene], Any]


def choose(
    candidates: Sequence[Constant], truths: Sequence[Any], scenes: Sequence[Scene], spec: TaskSpec
) -> dict[str, Constant]:
    """Return the candidate with the best value of each score; the first one if several are equal.

    Args:
        candidates: constant predictions.
        truths: ground truths of training images.
        scenes: sizes of the same images.
        spec: specification of the task.
    """
    kind, weight_1N = TASKS[spec.task], np.ones((1, len(truths)))
    found = [kind.scores(truths, [c.predict(scene) for scene in scenes], weight_1N, spec) for c in candidates]
    best = {}
    for name, score in kind.SCORES.items():
        sign = 1 if score.better == "higher" else -1
        values = [sign * float(values[name][0]) for values in found]
        best[name] = candidates[int(np.argmax([value if np.isfinite(value) else -np.inf for value in values]))]
    return best


def constant_points(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the mean or the median relative position of each point; the centre if it is visible in no image."""
    truths, scenes = zip(*examples, strict=True)
    place_NP2 = np.stack([_relative(truth) for truth in truths])
    seen_P = np.isfinite(place_NP2[..., 0]).mean(axis=0)
    known_NP2 = np.where(seen_P[:, None] > 0, place_NP2, 0.5)

    def constant(what: str, place_P2: Float[Array, "P 2"]) -> Constant:
        def predict(scene: Scene) -> Float[Array, "P 3"]:
            return np.column_stack([place_P2 * (scene.width, scene.height) - 0.5, seen_P])

        return Constant(f"the {what} position of each point in the training images", predict)

    candidates = [constant("median", np.nanmedian(known_NP2, axis=0)), constant("mean", np.nanmean(known_NP2, axis=0))]
    return choose(candidates, truths, scenes, spec)


def _relative(truth: Points) -> Float[Array, "P 2"]:
    return (truth.xy_P2 + 0.5) / (truth.width, truth.height)


def constant_mask(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the best of several masks: one class everywhere, or the most frequent class of each position.

    A smaller weight of the background enlarges the regions of the other classes, which raises Dice and IoU. The
    candidates are compared on reduced masks.
    """
    grids, sides = [], []
    for truth, _ in examples:
        grids.append(truth[_reduced(truth.shape[0], GRID)[:, None], _reduced(truth.shape[1], GRID)])
        sides.append(np.sqrt(truth.size))
    small = replace(spec, tolerance=max(0.5, spec.tolerance * GRID / float(np.median(sides))))
    index_NGG = np.stack(grids)
    count_L = np.bincount(index_NGG.ravel(), minlength=256)[: len(spec.labels)]
    share_LGG = np.stack([(index_NGG == label).mean(axis=0) for label in range(len(spec.labels))])
    background = spec.labels.index("background") if "background" in spec.labels else 0
    candidates = []
    for weight in BACKGROUND_WEIGHTS:
        weight_L = np.where(np.arange(len(spec.labels)) == background, weight, 1.0)
        less = f", with weight {weight:g} for {spec.labels[background]}" if weight < 1 else ""
        name = f"the most frequent class of each position in the training masks{less}"
        candidates.append(_mask(name, share_LGG, weight_L))
    for label in np.argsort(-count_L, kind="stable")[:MAX_LABELS]:
        weight_L = (np.arange(len(spec.labels)) == label).astype(float)
        candidates.append(_mask(f"a mask of {spec.labels[label]} only", np.ones_like(share_LGG), weight_L))
    return choose(candidates, grids, [Scene(GRID, GRID)] * len(grids), small)


def _reduced(side: int, count: int) -> Integer[Array, " {count}"]:
    """Return the index of the pixel at the centre of each of `count` equal parts of a side."""
    return ((np.arange(count) + 0.5) * side / count).astype(int)


def _mask(name: str, share_LGG: Float[Array, "L G G"], weight_L: Float[Array, " L"]) -> Constant:
    weighted_LGG = share_LGG * weight_L[:, None, None]
    index_GG = weighted_LGG.argmax(axis=0).astype(np.uint8)
    second_GG = (weighted_LGG[1] / np.maximum(weighted_LGG.sum(axis=0), 1e-12)) if len(weight_L) == 2 else None

    def predict(scene: Scene) -> Mask:
        rows, columns = (np.arange(side) * GRID // side for side in (scene.height, scene.width))
        second = None if second_GG is None else second_GG[rows[:, None], columns].astype(np.float16)
        return Mask(index_GG[rows[:, None], columns], second)

    return Constant(name, predict)


def constant_image(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the input image itself, or a uniform image of the median or mean colour of the target images."""
    truths, scenes = zip(*examples, strict=True)

    def same(scene: Scene) -> Float[Array, "H W C"]:
        assert scene.image is not None, "the input image is part of the scene"
        return as_image(to_channels(scene.image, spec.channels), spec)

    def uniform(what: str, function: Callable[..., Any]) -> Constant:
        targets = (as_image(to_channels(truth, spec.channels), spec) for truth in truths)
        level_C = np.mean([function(target, axis=(0, 1)) for target in targets], axis=0).astype(np.float32)
        name = f"a uniform image of the {what} colour of the target images"
        return Constant(name, lambda scene: np.broadcast_to(level_C, (scene.height, scene.width, spec.channels)))

    candidates = [Constant("the input image itself", same), uniform("median", np.median), uniform("mean", np.mean)]
    return choose(candidates, truths, scenes, spec)


def constant_objects(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return no object, or for each class the median number of objects, at their median positions."""
    truths, scenes = zip(*examples, strict=True)
    placed: list[tuple[int, Float[Array, "M 4"]]] = []
    for k in range(len(spec.labels)):
        boxes = [_relative_boxes(truth, k) for truth in truths]
        count = int(np.median([len(box_M4) for box_M4 in boxes]))
        same = [box_M4 for box_M4 in boxes if len(box_M4) == count]
        if count and same:
            placed.append((k, np.median(np.stack(same), axis=0)))
    nothing = Constant("no object", lambda scene: _objects([], scene, spec))
    if not placed:
        return dict.fromkeys(TASKS[spec.task].SCORES, nothing)
    number = quantity(sum(len(box_M4) for _, box_M4 in placed), "object")
    usual = Constant(
        f"{number} at the median position of the training images", lambda scene: _objects(placed, scene, spec)
    )
    return choose([nothing, usual], truths, scenes, spec)


def _relative_boxes(truth: Instances, label: int) -> Float[Array, "M 4"]:
    """Return the boxes of a class relative to the size of the image, sorted from left to right."""
    box_M4 = truth.box_M4[(truth.label_M == label) & ~truth.crowd_M] / np.array(
        [truth.width, truth.height, truth.width, truth.height]
    )
    return box_M4[np.argsort(box_M4[:, 0] + box_M4[:, 2], kind="stable")]


def _objects(placed: list[tuple[int, Float[Array, "M 4"]]], scene: Scene, spec: TaskSpec) -> Instances:
    size = np.array([scene.width, scene.height, scene.width, scene.height])
    box_M4 = np.concatenate([np.zeros((0, 4)), *(box_M4 * size for _, box_M4 in placed)]).astype(np.float32)
    label_M = np.concatenate([np.zeros(0, np.int64), *(np.full(len(box_M4), k) for k, box_M4 in placed)])
    masks = [_filled_box(box, scene) for box in box_M4] if spec.masks else None
    ones, none = np.ones(len(box_M4), np.float32), np.zeros(len(box_M4), bool)
    return Instances(box_M4, label_M, ones, masks, none, scene.height, scene.width)


def _filled_box(box: Float[Array, " 4"], scene: Scene) -> tuple[int, ...]:
    mask_HW = np.zeros((scene.height, scene.width), bool)
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    mask_HW[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return encode_rle(mask_HW)
