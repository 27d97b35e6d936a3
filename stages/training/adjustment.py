"""Fit test-time augmentation, temperature and thresholds of a trained network on validation data.

Axes: N images, K classes, or thresholds between grades.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from stages.augmentations import AugmentationData
from stages.augmentations.similarity import symmetry_problem
from stages.config.schema_task import Evaluate
from stages.core.shapes import Array, Float, Shaped
from stages.networks.adjusted import VIEWS, Adjustment, adjust, with_adjustment
from stages.networks.heads import HEADS
from stages.probes.cross_validation import folds
from stages.tasks import TASKS, ordinal
from stages.tasks.calibration import expected_calibration_error, fit_temperature, fit_thresholds, log_loss
from stages.tasks.postprocessing import decode
from stages.tasks.task_spec import TaskSpec
from stages.training.model_file import load_model

FILE = "adjustment.json"
CALIBRATED = {"classification": "class", "ordinal": "cumulative"}
"""Tasks with the representation whose predicted class no temperature changes. The median grade of class probabilities
would change."""
VIEWED = ("class", "classes", "cumulative", "mask", "watershed", "density")
"""Representations whose outputs can be averaged over views."""


@dataclass(frozen=True)
class Labelled:
    """Raw outputs of a network for labelled images."""

    raw_NK: Float[Array, "N K"]
    """Raw outputs, averaged over the views."""
    truths: list[Any]
    group_N: Shaped[Array, " N"]
    spec: TaskSpec


def load_adjusted(trained: Path, evaluated: Path) -> tuple[nn.Module, TaskSpec, dict[str, Any]]:
    """Load the network that `train` wrote, with the adjustment that `evaluate` fitted, as in `load_model`.

    Args:
        trained: output folder of train.
        evaluated: output folder of evaluate.

    Raises:
        UserError: the installed version of timm does not provide the network or its encoder.
    """
    network, spec, about = load_model(trained / "model.pt")
    values = json.loads((evaluated / FILE).read_text())
    return with_adjustment(network, Adjustment(**{key: _frozen(value) for key, value in values.items()})), spec, about


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def write_adjustment(adjustment: Adjustment, folder: Path) -> None:
    """Write the file that `load_adjusted` reads."""
    (folder / FILE).write_text(json.dumps(asdict(adjustment), indent=1) + "\n")


def select_views(data: AugmentationData, wanted: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the changes of the image over which outputs are averaged, and the reason for each other one.

    Args:
        data: properties of the training images.
        wanted: value of `evaluate.test_time`.
    """
    if wanted == "none":
        return (), {}
    representation = data.spec.representation
    if representation not in VIEWED:
        return (), dict.fromkeys(VIEWS, f"outputs of the representation {representation} cannot be averaged over views")
    problems = {name: symmetry_problem(data, name) for name in VIEWS}
    if data.spec.fit == "tile":
        problems["turn"] = "images that are not resized may not be square, so they are not turned"
    return tuple(name for name in VIEWS if not problems[name]), {name: why for name, why in problems.items() if why}


@dataclass(frozen=True)
class FittedOutputs:
    """Adjustment that is exported, and predictions for the validation images."""

    adjustment: Adjustment
    shipped: list[Any]
    """Predictions with the adjustment."""
    cross_fitted: list[Any]
    """Predictions whose temperature or thresholds were fitted on other groups; `shipped` if nothing was fitted."""
    report: dict[str, Any]
    """JSON-ready: `temperature` or `thresholds`, with figures `before` and `after`, the latter cross-fitted."""


def fit_outputs(labelled: Labelled, plain: list[Any], views: tuple[str, ...], evaluate: Evaluate) -> FittedOutputs:
    """Fit the temperature or the thresholds on validation images, if the task has them and they are wanted.

    They are applied only if they improve images of other groups than those that fitted them (cross-fitting).

    Args:
        labelled: raw outputs for the validation images.
        plain: predictions from these raw outputs.
        views: changes over which the raw outputs were averaged.
        evaluate: params of evaluate.
    """
    spec = labelled.spec
    if evaluate.temperature and CALIBRATED.get(spec.task) == spec.representation:
        return _fit(labelled, plain, views, _temperature_of, lambda chosen: _calibration(labelled, chosen, evaluate))
    if evaluate.thresholds and spec.representation == "classes":
        return _fit(labelled, plain, views, _thresholds_of, lambda chosen: _decisions(labelled, chosen))
    return FittedOutputs(Adjustment(views), plain, plain, {})


def _fit(
    labelled: Labelled,
    plain: list[Any],
    views: tuple[str, ...],
    fit: Callable[[Labelled], dict[str, Any]],
    figures: Callable[[list[Any]], dict[str, float]],
) -> FittedOutputs:
    """Fit on all images, and on the other groups for each fold; the first figure decides, lower is better."""
    before = figures(plain)
    if len(np.unique(labelled.group_N)) < 2:
        why = "not fitted: the validation images are in one group"
        return FittedOutputs(Adjustment(views), plain, plain, {"applied": False, "why": why, "before": before})
    crossed = list(plain)
    for others_N, fold_N in folds(labelled.group_N):
        chosen = Adjustment(views, **fit(_selected(labelled, others_N)))
        for index, one in zip(fold_N, _predictions(_selected(labelled, fold_N), chosen), strict=True):
            crossed[index] = one
    after = figures(crossed)
    name = next(iter(before))
    fitted = fit(labelled)
    report = {"before": before, "after": after, **fitted}
    if after[name] >= before[name]:
        why = f"not applied: on images that did not fit it, the {name.replace('_', ' ')} is not better"
        return FittedOutputs(Adjustment(views), plain, plain, {"applied": False, "why": why, **report})
    adjustment = Adjustment(views, **fitted)
    return FittedOutputs(
        adjustment, _predictions(labelled, adjustment), crossed, {"applied": True, "why": "", **report}
    )


def _selected(labelled: Labelled, index_B: Any) -> Labelled:
    truths = [labelled.truths[i] for i in index_B]
    return Labelled(labelled.raw_NK[index_B], truths, labelled.group_N[index_B], labelled.spec)


def _temperature_of(labelled: Labelled) -> dict[str, Any]:
    truth_N = np.array(labelled.truths)
    return {"temperature": fit_temperature(labelled.raw_NK, truth_N, labelled.spec.representation)}


def _thresholds_of(labelled: Labelled) -> dict[str, Any]:
    probability_NK = expit(labelled.raw_NK.astype(np.float64))
    return {"thresholds": tuple(fit_thresholds(probability_NK, np.stack(labelled.truths)).tolist())}


def _calibration(labelled: Labelled, predictions: list[Any], evaluate: Evaluate) -> dict[str, float]:
    """Return log loss and expected calibration error of class probabilities."""
    probability_NK, truth_N = np.stack(predictions).astype(np.float64), np.array(labelled.truths)
    predicted_N = ordinal.grade(probability_NK) if labelled.spec.task == "ordinal" else probability_NK.argmax(axis=1)
    confidence_N = probability_NK[np.arange(len(truth_N)), predicted_N]
    error = expected_calibration_error(confidence_N, predicted_N == truth_N, evaluate.calibration_bins)
    return {"log_loss": log_loss(probability_NK, truth_N), "expected_calibration_error": error}


def _decisions(labelled: Labelled, predictions: list[Any]) -> dict[str, float]:
    """Return one minus the macro F1, which is 0 for classes that are never predicted."""
    one_N = np.ones((1, len(predictions)))
    scores = TASKS[labelled.spec.task].scores(labelled.truths, predictions, one_N, labelled.spec)
    return {"macro_f1_error": 1 - float(scores["macro_f1"][0])}


def _predictions(labelled: Labelled, adjustment: Adjustment) -> list[Any]:
    raw = torch.from_numpy(labelled.raw_NK)
    adjusted = adjust(raw, adjustment, torch.tensor(adjustment.thresholds).logit())
    outputs = HEADS[labelled.spec.representation](adjusted, 0, 0, labelled.spec).numpy()
    return [decode({"probability": one}, labelled.spec) for one in outputs]
