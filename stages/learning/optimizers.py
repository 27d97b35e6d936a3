"""Optimizers and schedules; pretrained layers at a rate of their own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.frame.sections import Train


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
        return [{"params": weights, "lr": lr} for weights, lr in groups if weights]

    def freeze(self, frozen: bool) -> None:
        """Keep pretrained weights as they are, or let them learn."""
        for weights in self.pretrained:
            weights.requires_grad_(not frozen)


def optimizer_of(train: Train, rates: Rates) -> torch.optim.Optimizer:
    """The optimizer that `train.optimizer` names."""
    groups = rates.groups(train.learning_rate)
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=train.weight_decay)
        case "sgd":
            return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=train.weight_decay)


def schedule_of(
    train: Train, rates: Rates, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """One cycle over all steps (Smith and Topin 2019)."""
    peaks = [group["lr"] for group in rates.groups(train.learning_rate)]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps + 1, cycle_momentum=False)
