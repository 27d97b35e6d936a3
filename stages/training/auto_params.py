"""Replace `auto` in the section `train` by values for these data and this machine, before the training loop."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from stages.core.plurals import quantity
from stages.tasks.representations import REPRESENTATIONS
from stages.training.class_weights import MAX_RATIO, class_shares, limited_classes
from stages.training.devices import single_process_fabric, torch_device
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
    """Replace every `auto` in the section `train` of a plan, and every setting that has no effect.

    `loss` follows from the representation, `class_weights` from the score and the data, `device` from the machine,
    `precision`, `memory_format` and `compile` from a short measurement (see `autotune`), `cache_on_device` from the
    free memory, and `learning_rate` from a range test. Settings without effect are switched off (`unused_settings`).

    Args:
        plan: plan with or without `auto`.
        steps: number of steps of the planned training; None: computed from the plan.

    Raises:
        UserError: a device is not available, no learning rate lowers the loss, or a measurement cannot build the
            network, the optimizer or the loss (see `build_state`).
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
        fastest = autotune(plan, steps or plan.loader.steps * train.epochs)
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
    plan = _replaced(plan, params)
    if train.learning_rate != "auto":
        return Resolution(plan, params, None)
    # The optimizer of the test has rate 1, and each step of the test multiplies it by the rate that is tested.
    rate_1 = _replaced(plan, [ResolvedParam("train.learning_rate", 1.0, "")])
    test = find_learning_rate(rate_1, single_process_fabric(plan.train.device, plan.train.precision))
    reason = "a fifth of the rate at which the loss of a range test was lowest"
    rate = ResolvedParam("train.learning_rate", test.rate, reason)
    return Resolution(_replaced(plan, [rate]), [*params, rate], test)


def _replaced(plan: TrainingPlan, params: list[ResolvedParam]) -> TrainingPlan:
    values = {param.key: param.value for param in params}
    update = {key.removeprefix("train."): value for key, value in values.items() if key.startswith("train.")}
    frozen_epochs = values.get("network.frozen_epochs", plan.frozen_epochs)
    return replace(plan, train=plan.train.model_copy(update=update), frozen_epochs=frozen_epochs)


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
