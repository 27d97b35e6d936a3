"""Best constant prediction of every score: the score of a model that ignores the image.

It is computed from the training labels (docs/why/constant-prediction.md). Axes: N images, K classes, S scalars, R
resamples.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Real, Shaped
from stages.tasks import TASKS
from stages.tasks.constant_places import Constant, Example, Scene, constant_image, constant_mask, constant_objects
from stages.tasks.constant_places import constant_points as _points
from stages.tasks.intervals import interval, paired_difference, resample_weights
from stages.tasks.regression import describe
from stages.tasks.task_interface import Score
from stages.tasks.task_spec import TaskSpec

MAX_NAMED = 3  # numbers or classes that the name of a constant prediction lists


def best_constants(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the best constant prediction of every score of the task.

    Args:
        examples: ground truth and size of training images, at least one.
        spec: specification of the task.
    """
    return CONSTANTS[spec.task](examples, spec)


def compare_with_constants(
    spec: TaskSpec,
    truths: Sequence[Any],
    scenes: Sequence[Scene],
    group_N: Shaped[Array, " N"],
    replicates: dict[str, Float[Array, " R"]],
    constants: dict[str, Constant],
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """Return, for every score, the score of the constant prediction and how much better the model is, JSON-ready.

    Both are computed on the same resamples of the same images. `better` is True if the interval of the difference is
    wholly on the better side of 0, else False; it is None if either score is undefined. With a single group, no
    difference is shown, because the variation between groups is unknown.

    Args:
        spec: specification of the task.
        truths: ground truths of N images.
        scenes: sizes of the same images.
        group_N: group of each image.
        replicates: scores of the model on the images and on each bootstrap resample, as from `summarize`.
        constants: constant prediction of each score.
        confidence: coverage of the intervals, 0..1.
    """
    kind = TASKS[spec.task]
    weight_RN = resample_weights(group_N, len(next(iter(replicates.values()))) - 1)
    scored = {
        constant.name: kind.scores(truths, [constant.predict(scene) for scene in scenes], weight_RN, spec)
        for constant in {c.name: c for c in constants.values()}.values()
    }
    groups = len(np.unique(group_N))
    result = {}
    for name, constant in constants.items():
        constant_R = scored[constant.name][name]
        result[name] = {
            "prediction": constant.name,
            **interval(constant_R, confidence, groups, share=False),
            **compare(constant_R, replicates[name], kind.SCORES[name], groups, confidence),
        }
    return result


def compare(
    other_R: Float[Array, " R"], model_R: Float[Array, " R"], score: Score, groups: int, confidence: float
) -> dict[str, Any]:
    """Return the `difference` of two scores on the same resamples with its interval, and whether the model is `better`.

    Args:
        other_R: score of other predictions on the original data, then on each resample.
        model_R: the same score of the model.
        score: the score.
        groups: number of groups of the images.
        confidence: coverage of the interval, 0..1.
    """
    delta = _difference(model_R, other_R, confidence, groups, share=score.share)
    return {"difference": delta, "better": _is_better(delta, score.better)}


def _difference(
    model_R: Float[Array, " R"], constant_R: Float[Array, " R"], confidence: float, groups: int, *, share: bool
) -> dict[str, float | None]:
    """Return the model's score minus that of the constant prediction, with its interval; None if undefined.

    If the difference is the same in all resamples, because the model's score is always 0 or 1, its uncertainty is that
    of the exact binomial interval, as for the score itself (`interval`).
    """
    delta = paired_difference(constant_R, model_R, confidence)
    if delta["low"] is None or delta["high"] is None:
        return delta
    if groups < 2:
        return delta | {"low": None, "high": None}
    exact = interval(model_R, confidence, groups, share=share)
    if delta["low"] == delta["high"] and exact["low"] is not None and exact["high"] is not None:
        delta["low"] = min(delta["low"], exact["low"] - float(constant_R[0]))
        delta["high"] = max(delta["high"], exact["high"] - float(constant_R[0]))
    return delta


def _is_better(delta: dict[str, float | None], better: str) -> bool | None:
    if delta["value"] is None:
        return None
    if delta["low"] is None or delta["high"] is None:
        return False
    return delta["low"] > 0 if better == "higher" else delta["high"] < 0


def _class(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the class frequencies, whose most probable class is the best constant for every score."""
    share_K = _counts(examples, spec) / 1.0
    share_K /= share_K.sum()
    name = f"the most frequent class of the training images ({spec.labels[int(share_K.argmax())]})"
    return dict.fromkeys(TASKS[spec.task].SCORES, Constant(name, lambda scene: share_K))


def _counts(examples: Iterable[Example], spec: TaskSpec) -> Any:
    return np.bincount([int(truth) for truth, _ in examples], minlength=len(spec.labels))


def _grade(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the grade with the best score; every grade has a kappa of 0."""
    count_K, grades = _counts(examples, spec), np.arange(len(spec.labels))
    distance_KK = np.abs(np.subtract.outer(grades, grades))
    best = dict.fromkeys(TASKS[spec.task].SCORES, int(count_K.argmax()))
    best["mean_absolute_error"] = int((distance_KK @ count_K).argmin())
    best["within_one"] = int(((distance_KK <= 1) @ count_K).argmax())

    def constant(grade: int) -> Constant:
        return Constant(f"the grade {spec.labels[grade]} for every image", lambda scene: np.eye(len(grades))[grade])

    return {score: constant(grade) for score, grade in best.items()}


def _class_set(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the best set of classes of each score; the frequencies for scores that only sort the images."""
    true_NK = np.stack([truth for truth, _ in examples])
    count_K = true_NK.sum(axis=0)
    frequent = np.argsort(-count_K, kind="stable")
    sizes = np.arange(1, len(count_K) + 1)
    micro_f1 = 2 * count_K[frequent].cumsum() / np.maximum(sizes * len(true_NK) + count_K.sum(), 1)
    chosen = np.isin(np.arange(len(count_K)), frequent[: int(micro_f1.argmax()) + 1])
    usual = np.array(Counter(map(tuple, true_NK.tolist())).most_common(1)[0][0])

    def constant(set_K: Any, what: str) -> Constant:
        present = [label for label, has in zip(spec.labels, set_K, strict=True) if has]
        few = len(present) <= MAX_NAMED
        listed = ", ".join(present) or "none" if few else quantity(len(present), "class", "classes")
        return Constant(f"{what} ({listed})", lambda scene: np.asarray(set_K, float))

    frequency = Constant("the frequency of each class in the training images", lambda scene: count_K / len(true_NK))
    return {
        "mean_average_precision": frequency,
        "macro_f1": constant(count_K > 0, "all classes of the training images"),
        "micro_f1": constant(chosen, "the most frequent classes of the training images"),
        "auc": frequency,
        "exact_match": constant(usual, "the most frequent set of classes of the training images"),
    }


def _number(examples: Iterable[Example], spec: TaskSpec) -> dict[str, Constant]:
    """Return the median, the mean, or the median weighted by 1 / |number|, which minimizes the percentage error."""
    true_NS = np.stack([truth for truth, _ in examples]).astype(float)

    def constant(value_S: Float[Array, " S"], what: str) -> Constant:
        shown = f" ({describe(value_S, spec)})" if len(value_S) <= MAX_NAMED else ""
        return Constant(f"{what} of the training images{shown}", lambda scene: value_S)

    mean = constant(true_NS.mean(axis=0), "the mean")
    weighted_S = np.array([_relative_median(true_N) for true_N in true_NS.T])
    return {
        "mean_absolute_error": constant(np.median(true_NS, axis=0), "the median"),
        "root_mean_square_error": mean,
        "r2": mean,
        "mean_absolute_percentage_error": constant(weighted_S, "the median, weighted by 1 / |number|,"),
    }


def _relative_median(true_N: Real[Array, " N"]) -> float:
    """Return the number that minimizes the mean of |number - truth| / |truth| over the truths other than 0."""
    used = np.sort(true_N[true_N != 0])
    if not len(used):
        return 0.0
    weight = (1 / np.abs(used)).cumsum()
    return float(used[np.searchsorted(weight, weight[-1] / 2)])


CONSTANTS: dict[str, Callable[[Iterable[Example], TaskSpec], dict[str, Constant]]] = {
    "classification": _class,
    "multilabel": _class_set,
    "ordinal": _grade,
    "regression": _number,
    "landmarks": _points,
    "segmentation": constant_mask,
    "image": constant_image,
    "instances": constant_objects,
}
"""Function of each task that returns the best constant prediction by score."""
