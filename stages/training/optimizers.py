"""Optimizers by name; pretrained layers at a rate of their own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError, did_you_mean
from stages.frame.sections import Train

FUSED = ("cpu", "cuda", "mps")  # where torch moves all weights in one go, which takes a third of the time


@dataclass(frozen=True)
class Rates:
    """Which weights learn how fast."""

    pretrained: list[nn.Parameter]
    new: list[nn.Parameter]
    pretrained_rate: float
    """Of pretrained weights, as a share of the learning rate."""

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """As optimizers take them; the new weights last, so that the last rate is that of `train.learning_rate`."""
        groups = [(self.pretrained, rate * self.pretrained_rate), (self.new, rate)]
        return [{"params": weights, "lr": lr, "peak": lr} for weights, lr in groups if weights]

    def freeze(self, frozen: bool) -> None:
        """Keep pretrained weights as they are, or let them learn."""
        for weights in self.pretrained:
            weights.requires_grad_(not frozen)


def optimizer_of(train: Train, rates: Rates, learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer that `train.optimizer` names; every group keeps its highest rate as `peak`.

    Raises:
        UserError: there is none of that name.
    """
    groups, decay, momentum = rates.groups(learning_rate), train.weight_decay, train.momentum
    fused = groups[0]["params"][0].device.type in FUSED
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=decay, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, betas=(momentum, 0.999), weight_decay=decay, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, weight_decay=decay, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, momentum=momentum, weight_decay=decay)
        case _:
            return _by_timm(train, groups)


def _by_timm(train: Train, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Lion (Chen et al. 2023) and many more, as timm keeps them."""
    from timm import optim  # some seconds

    name = train.optimizer.removeprefix("timm/")
    known = optim.list_optimizers()  # type: ignore[attr-defined]
    if name not in known:
        hint = did_you_mean(train.optimizer, [f"timm/{one}" for one in known])
        raise UserError(f"train.optimizer: {train.optimizer}: {hint}")
    options = {"lr": groups[-1]["lr"], "weight_decay": train.weight_decay, "momentum": train.momentum}
    try:
        return optim.create_optimizer_v2(groups, name, **options)  # type: ignore[attr-defined]
    except (ImportError, AssertionError, ValueError, TypeError) as error:
        raise UserError(f"train.optimizer: timm cannot make {name} of these params: {error}") from error
