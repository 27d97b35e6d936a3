"""Optimizers by name, with a separate learning rate for pretrained layers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError, did_you_mean

FUSED = ("cpu", "cuda", "mps")  # device types where torch updates all weights in one kernel, in a third of the time


@dataclass(frozen=True)
class ParameterGroups:
    """Weights by learning rate: pretrained layers and new layers."""

    pretrained: list[nn.Parameter]
    new: list[nn.Parameter]
    pretrained_lr_factor: float
    """Learning rate of pretrained weights, as a share of the learning rate of new ones."""

    def with_rate(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the groups for an optimizer, with their highest rate as `peak`; the new weights come last."""
        groups = [(self.pretrained, learning_rate * self.pretrained_lr_factor), (self.new, learning_rate)]
        return [{"params": weights, "lr": lr, "peak": lr} for weights, lr in groups if weights]

    def freeze_pretrained(self, frozen: bool) -> None:
        """Exclude the pretrained weights from training, or include them again."""
        for weights in self.pretrained:
            weights.requires_grad_(not frozen)


def build_optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build an optimizer.

    Args:
        name: value of `train.optimizer`.
        groups: parameter groups of `ParameterGroups.with_rate`.
        momentum: momentum of sgd and rmsprop, beta 1 of adamw and adam, 0..<1; only optimizers of timm that have a
            momentum use it (lion does not).
        weight_decay: decoupled (adamw, lion) or L2 (adam, sgd, rmsprop), 0..1.

    Raises:
        UserError: the name is unknown, or timm cannot build the optimizer.
    """
    fused = groups[0]["params"][0].device.type in FUSED
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)
        case "sgd":
            nesterov = momentum > 0
            return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, momentum=momentum, weight_decay=weight_decay)
        case _:
            return _timm_optimizer(name, groups, momentum, weight_decay)


def _timm_optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build Lion (Chen et al. 2023) or any other optimizer of timm."""
    from timm import optim  # the import takes seconds

    timm_name = name.removeprefix("timm/")
    known = optim.list_optimizers()  # type: ignore[attr-defined]
    if timm_name not in known:
        raise UserError(f"train.optimizer: {name} is unknown; {did_you_mean(name, [f'timm/{one}' for one in known])}")
    options = {"lr": groups[-1]["lr"], "weight_decay": weight_decay, "momentum": momentum}
    try:
        return optim.create_optimizer_v2(groups, timm_name, **options)  # type: ignore[attr-defined]
    except (ImportError, AssertionError, ValueError, TypeError) as error:
        raise UserError(
            f"train.optimizer: timm cannot build {timm_name} with these params: {str(error).rstrip('.')}; use another "
            "optimizer"
        ) from error
