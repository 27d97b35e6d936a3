"""What `auto` in the section `train` comes to, on these data and this machine."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stages.tasks.representations import REPRESENTATIONS
from stages.training.devices import device_of, fabric_on
from stages.training.lr_finder import RangeTest, range_test
from stages.training.throughput_autotune import pace
from stages.training.training_plan import Plan

UNEVEN = 3.0  # largest class over smallest, from which the loss weighs them
EVEN_SCORES = ("balanced_accuracy", "f1")  # of one class an image, that count classes alike
RESIDENT = 0.5  # of the memory that is free


@dataclass(frozen=True)
class Resolved:
    """A value in place of `auto`."""

    key: str
    value: Any
    why: str


def resolve(plan: Plan, steps: int | None = None) -> tuple[Plan, list[Resolved], RangeTest | None]:
    """The plan with a value for every `auto` of its section `train`, what each came to and why, and the range test.

    Args:
        plan: as params have it.
        steps: of the training that is meant; None: those of the plan.

    Raises:
        UserError: no learning rate can be found.
    """
    train, found = plan.train, [Resolved("train.loss", plan.loss, "the nearest to the score")]
    if train.loss != "auto":
        found = []
    if train.class_weights == "auto":
        found.append(Resolved("train.class_weights", *_class_weights(plan)))
    if "auto" in (train.precision, train.layout, train.compile):
        chosen = pace(plan, steps or plan.feed.steps * plan.train.epochs)
        for key in ("precision", "layout", "compile"):
            if getattr(train, key) == "auto":
                found.append(Resolved(f"train.{key}", getattr(chosen, key), chosen.why))
    if train.resident == "auto":
        found.append(Resolved("train.resident", *_resident(plan)))
    if train.device == "auto":
        found.append(Resolved("train.device", device_of("auto").type, "the best that this machine has"))
    plan = _with(plan, found)
    if train.learning_rate != "auto":
        return plan, found, None
    tested = range_test(_with(plan, [Resolved("train.learning_rate", 1.0, "")]),
                        fabric_on(plan.train.device, plan.train.precision))  # fmt: skip
    rate = Resolved(
        "train.learning_rate", tested.rate, "a fifth of the rate at which the loss of a range test was lowest"
    )
    return _with(plan, [rate]), [*found, rate], tested


def _with(plan: Plan, found: list[Resolved]) -> Plan:
    update = {one.key.removeprefix("train."): one.value for one in found}
    return replace(plan, train=plan.train.model_copy(update=update))


def _class_weights(plan: Plan) -> tuple[str, str]:
    spec, target = plan.material.spec, plan.material.train_set.target
    if REPRESENTATIONS[spec.representation].stores != "index" or plan.score not in EVEN_SCORES:
        return "none", f"{plan.score} does not count classes of images alike"
    counts_K = np.bincount(np.asarray(target), minlength=len(spec.labels))
    least, most = spec.labels[counts_K.argmin()], spec.labels[counts_K.argmax()]
    told = f"of {most} there are {counts_K.max()} training images, of {least} {counts_K.min()}"
    return ("balanced" if counts_K.max() >= UNEVEN * counts_K.min() else "none"), told


def _resident(plan: Plan) -> tuple[str, str]:
    device, images = device_of(plan.train.device), plan.material.train_set.image_NHWC
    if device.type != "cuda":
        return "no", "images are read from a file that is mapped into memory"
    free = torch.cuda.mem_get_info(device)[0]
    told = f"the images take {images.nbytes / 1e9:.2g} GB, {free / 1e9:.2g} GB of the device are free"
    return ("yes" if images.nbytes < RESIDENT * free else "no"), told
