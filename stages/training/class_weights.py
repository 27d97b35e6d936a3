"""Weights of classes in the loss that compensate for different numbers of images or pixels."""

from typing import Any

import numpy as np

from stages.config.combinations import class_weights_problem
from stages.core.errors import UserError
from stages.core.shapes import Array, Float
from stages.dataset.annotations import IGNORE_INDEX
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

MAX_RATIO = 1000.0
"""Largest weight of a class relative to that of the most frequent one: docs/why/losses.md."""


def balanced_weights(share_K: Float[Array, " K"], limit: float = MAX_RATIO) -> Float[Array, " K"]:
    """Return weights inverse to the shares of the classes, but at most `limit` times the smallest, with mean 1.

    Args:
        share_K: share of the images or pixels of each class, with sum 1.
        limit: largest ratio of two weights, >= 1.

    >>> balanced_weights(np.array([0.75, 0.25])).round(3).tolist()
    [0.667, 2.0]
    >>> balanced_weights(np.array([0.9999, 0.0001])).round(3).tolist()
    [0.909, 909.174]
    """
    weight_K = 1 / np.maximum(share_K, share_K.max() / limit)
    return weight_K / (weight_K * share_K).sum()


def class_weights(target: Any, spec: TaskSpec) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Return the weight of each class, and of its absence, for `train.class_weights: balanced`.

    Every class has the same total weight in the loss, and the mean weight of an image (of a pixel for masks) is 1. For
    several labels per image this holds for the presence and the absence of each label, whose total weights are equal.

    Args:
        target: targets of the training images, in the format of `Representation.stores`.
        spec: the task.

    Raises:
        UserError: the targets have no classes that could be weighted.
    """
    share_K = class_shares(target, spec)
    if REPRESENTATIONS[spec.representation].stores != "vector":
        weight_K = balanced_weights(share_K)
        return weight_K, np.ones_like(weight_K)
    absence_K, presence_K = np.stack([balanced_weights(np.array([1 - share, share])) for share in share_K]).T
    return presence_K, absence_K


def class_shares(target: Any, spec: TaskSpec) -> Float[Array, " K"]:
    """Return the share of each class among the training images; of several labels per image, the share with each label.

    For masks it is the mean over images of the share of the known pixels, as in the loss.

    Args:
        target: targets of the training images, in the format of `Representation.stores`.
        spec: the task.

    Raises:
        UserError: the targets have no classes that could be weighted.
    """
    classes = len(spec.labels)
    match REPRESENTATIONS[spec.representation].stores:
        case "index":
            return np.bincount(np.asarray(target), minlength=classes) / len(target)
        case "labels":
            share_K = np.zeros(classes)
            for index_SS in target:
                known_X = np.asarray(index_SS)[np.asarray(index_SS) != IGNORE_INDEX]
                share_K += np.bincount(known_X, minlength=classes) / max(1, len(known_X))
            return share_K / share_K.sum()
        case "vector" if spec.task == "multilabel":
            return np.asarray(target, np.float64).mean(axis=0)
        case _:
            raise UserError(class_weights_problem(spec.task, spec.representation, "balanced"))


def limited_classes(share_K: Float[Array, " K"], spec: TaskSpec) -> list[str]:
    """Return the classes that are so rare that `MAX_RATIO` limits their weight.

    >>> from stages.tasks.task_spec import TaskSpec
    >>> spec = TaskSpec("classification", "class", "label", labels=("common", "rare"))
    >>> limited_classes(np.array([0.9999, 0.0001]), spec)
    ['rare']
    """
    several = REPRESENTATIONS[spec.representation].stores == "vector"
    largest_K = np.maximum(share_K, 1 - share_K) if several else np.full(len(share_K), share_K.max())
    smallest_K = np.minimum(share_K, 1 - share_K) if several else share_K
    rare_K = smallest_K * MAX_RATIO < largest_K * (1 - 1e-9)
    return [label for label, rare in zip(spec.labels, rare_K, strict=True) if rare]
