"""Replace `auto` in the sections `train` and `network` by values for these data and this machine, before training."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.tasks.representations import REPRESENTATIONS
from stages.training.class_weights import MAX_RATIO, class_shares, limited_classes
from stages.training.devices import single_process_fabric, torch_device
from stages.training.linear_head import head_problem
from stages.training.lr_finder import RangeTest, find_learning_rate
from stages.training.throughput_autotune import autotune
from stages.training.training_plan import ResolvedParam, TrainingPlan
from stages.training.unused_settings import unused_settings

IMBALANCE = 3.0  # ratio of the largest to the smallest class size, from which the loss is weighted
CLASS_BALANCED_SCORES = ("balanced_accuracy", "f1")
MAX_RESIDENT = 0.5  # share of the device's free memory that images may occupy


@dataclass(frozen=True)
class Resolution:
    """A plan without `auto` and without settings that have no effect, and how its values were chosen."""

    plan: TrainingPlan
    params: list[ResolvedParam]
    """Values in place of `auto` and of settings without effect, and limited class weights."""
    range_test: RangeTest | None
    """Present if `train.learning_rate` was `auto`."""


def resolve_auto(plan: TrainingPlan, steps: int | None = None) -> Resolution:
    """Replace every `auto` in the sections `train` and `network` of a plan, and every setting that has no effect.

    `loss` follows from the representation, `class_weights` from the score and the data, `device` from the machine,
    `precision`, `memory_format` and `compile` from a short measurement (see `autotune`), `cache_on_device` from the
    free memory, `pretrained_norms` and `normalize` from the weights, and `learning_rate` from a range test.
    Settings without effect are switched off (`unused_settings`).

    Args:
        plan: plan with or without `auto`.
        steps: number of steps of the planned training; None: computed from the plan.

    Raises:
        UserError: `normalize` or `head` is not possible, a device is not available, no learning rate lowers the loss,
            or a measurement cannot build the network, the optimizer or the loss (see `build_state`).
    """
    params = unused_settings(plan)
    plan = _replaced(plan, params)
    train = plan.train
    if train.loss == "auto":
        params.append(ResolvedParam("train.loss", plan.loss, "the default loss of the representation"))
    if train.class_weights == "auto":
        params.append(ResolvedParam("train.class_weights", *_class_weights(plan)))
    elif train.class_weights == "balanced" and (limit := _limited_weights(plan)):
        params.append(ResolvedParam("train.class_weights", "balanced", limit))
    if "auto" in (train.precision, train.memory_format, train.compile):
        fastest = autotune(_with_fast_start(plan), steps or plan.loader.steps * train.epochs)
        chosen = {"precision": fastest.precision, "memory_format": fastest.memory_format, "compile": fastest.compile}
        params += [
            ResolvedParam(f"train.{key}", value, fastest.why)
            for key, value in chosen.items()
            if getattr(train, key) == "auto"
        ]
    if train.cache_on_device == "auto":
        params.append(ResolvedParam("train.cache_on_device", *_resident(plan)))
    if train.device == "auto":
        params.append(ResolvedParam("train.device", torch_device("auto").type, "the best device of this machine"))
    params += [
        ResolvedParam(f"network.{key}", *choose(plan))
        for key, choose in (("pretrained_norms", _norms), ("normalize", _normalization))
        if getattr(plan.network, key) == "auto"
    ]
    plan = _replaced(plan, params)
    _check_network(plan)
    if train.learning_rate != "auto":
        return Resolution(plan, params, None)
    # The optimizer of the test has rate 1, and each step of the test multiplies it by the rate that is tested.
    rate_1 = _replaced(plan, [ResolvedParam("train.learning_rate", 1.0, "")])
    test = find_learning_rate(rate_1, single_process_fabric(plan.train.device, plan.train.precision))
    reason = "a fifth of the rate at which the loss of a range test was lowest"
    rate = ResolvedParam("train.learning_rate", test.rate, reason)
    return Resolution(_replaced(plan, [rate]), [*params, rate], test)


def _with_fast_start(plan: TrainingPlan) -> TrainingPlan:
    """Return a plan with random weights and 0..1 pixels, which take the same time and need no computation first."""
    fast = {"pretrained_norms": "trained", "head": "random", "normalize": "none"}
    return replace(plan, network=plan.network.model_copy(update=fast))


def _replaced(plan: TrainingPlan, params: list[ResolvedParam]) -> TrainingPlan:
    def of_section(name: str) -> dict[str, object]:
        return {param.key.partition(".")[2]: param.value for param in params if param.key.startswith(f"{name}.")}

    return replace(
        plan,
        train=plan.train.model_copy(update=of_section("train")),
        network=plan.network.model_copy(update=of_section("network")),
    )


def _norms(plan: TrainingPlan) -> tuple[str, str]:
    """Return the value of `network.pretrained_norms`, and the reason for it."""
    if plan.weights == "none":
        return "trained", "there are no pretrained layers"
    return "frozen", "the statistics of a few batches are less reliable than those of the pretraining"


def _normalization(plan: TrainingPlan) -> tuple[str, str]:
    """Return the value of `network.normalize`, and the reason for it."""
    if plan.weights == "none":
        return "data", "there are no pretrained layers"
    return "weights", "the images must look as in the pretraining"


def _check_network(plan: TrainingPlan) -> None:
    """Check `network.normalize` and `network.head`.

    Raises:
        UserError: the setting is not possible.
    """
    if plan.network.normalize == "weights" and plan.weights == "none":
        raise UserError("network.normalize: weights, but network.weights is none; use auto, data or none")
    if plan.network.head == "linear" and (problem := head_problem(plan)):
        raise UserError(f"network.head: linear, but {problem}; use random")


def _class_weights(plan: TrainingPlan) -> tuple[str, str]:
    """Return the value of `train.class_weights`, and the reason for it."""
    spec, target = plan.data.spec, plan.data.train_set.target
    if REPRESENTATIONS[spec.representation].stores != "index":
        return "none", f"the task {spec.task} does not have one class per image"
    if plan.score not in CLASS_BALANCED_SCORES:
        return "none", f"the score {plan.score} does not give all classes equal weight"
    count_K = np.bincount(np.asarray(target), minlength=len(spec.labels))
    largest, smallest = spec.labels[count_K.argmax()], spec.labels[count_K.argmin()]
    sizes = f"{quantity(int(count_K.max()), 'training image')} of {largest}, {count_K.min():,} of {smallest}"
    if count_K.max() < IMBALANCE * count_K.min():
        return "none", sizes
    return "balanced", "; ".join(part for part in (sizes, _limited_weights(plan)) if part)


def _limited_weights(plan: TrainingPlan) -> str:
    """Return a message about classes whose balanced weight is limited; empty if there are none."""
    spec = plan.data.spec
    limited = limited_classes(class_shares(plan.data.train_set.target, spec), spec)
    return f"weights are limited to {MAX_RATIO:g} times the smallest for: {', '.join(limited)}" if limited else ""


def _resident(plan: TrainingPlan) -> tuple[str, str]:
    """Return the value of `train.cache_on_device`, and the reason for it."""
    device, images = torch_device(plan.train.device), plan.data.train_set.image_NHWC
    if device.type != "cuda":
        return "no", f"images are cached only on cuda; the device is {device.type}"
    free = torch.cuda.mem_get_info(device)[0]
    sizes = f"the images take {images.nbytes / 1e9:.2g} GB of {free / 1e9:.2g} GB of free device memory"
    return ("yes" if images.nbytes < MAX_RESIDENT * free else "no"), sizes
