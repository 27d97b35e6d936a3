"""Magnify the change of probabilities between float32 and a variant, and alter images for the comparison.

Axes: N images, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer
from stages.tasks.multilabel import THRESHOLD
from stages.tasks.ordinal import grade

SMALLEST = 1e-30
"""Smallest probability whose logarithm is used."""


def magnified(
    exact: Sequence[Float[Array, " K"]], predictions: Sequence[Float[Array, " K"]], factor: float, task: str
) -> list[Float[Array, " K"]]:
    """Return the probabilities with `factor` times the change from `exact` to `predictions`.

    Log-odds are extrapolated linearly: those of each class for `multilabel`, otherwise those between classes.

    Args:
        exact: probabilities of float32, one row per image.
        predictions: probabilities of the variant.
        factor: 1 returns the probabilities of the variant, 0 those of float32.
        task: classification, multilabel or ordinal.

    >>> magnified([np.array([0.5, 0.5])], [np.array([0.6, 0.4])], 2, "classification")[0].round(3).tolist()
    [0.692, 0.308]
    """
    exact_NK, other_NK = np.stack(exact).astype(np.float64), np.stack(predictions).astype(np.float64)
    start_NK, end_NK = _log(exact_NK), _log(other_NK)
    if task == "multilabel":
        start_NK, end_NK = start_NK - _log(1 - exact_NK), end_NK - _log(1 - other_NK)
    far_NK = start_NK + factor * (end_NK - start_NK)
    if task == "multilabel":
        return list(np.exp(-np.logaddexp(0.0, -far_NK)))
    return list(np.exp(far_NK - np.logaddexp.reduce(far_NK, axis=1, keepdims=True)))


def decided_classes(predictions: Sequence[Float[Array, " K"]], task: str) -> list[Any]:
    """Return the predicted classes in the format of the ground truth of the task.

    Args:
        predictions: probabilities, one row per image.
        task: classification, multilabel or ordinal.
    """
    probability_NK = np.stack(predictions)
    if task == "multilabel":
        return list(probability_NK >= THRESHOLD)
    class_N = grade(probability_NK) if task == "ordinal" else probability_NK.argmax(axis=1)
    return class_N.tolist()


def scaled(image: Integer[Array, "H W C"], factor: float) -> Integer[Array, "H W C"]:
    """Return the image with brighter or darker pixels of the same type."""
    return np.clip(np.rint(image * factor), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def shifted(image: Integer[Array, "H W C"]) -> Integer[Array, "H W C"]:
    """Return the image, moved right and down by 1/32 of its size; edge pixels are repeated."""
    down, right = image.shape[0] // 32, image.shape[1] // 32
    padded = np.pad(image, ((down, 0), (right, 0), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded[: image.shape[0], : image.shape[1]])


ALTERATIONS: tuple[Callable[[Array], Array], ...] = (
    lambda image: scaled(image, 0.8),
    lambda image: scaled(image, 1.25),
    shifted,
)
"""Changes of validation images under which variants are compared with float32."""


def _log(value: Float[Array, "..."]) -> Float[Array, "..."]:
    return np.log(np.maximum(value, SMALLEST))
