"""Constants and type of a loss function."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from stages.core.shapes import Float
from stages.tasks.task_spec import TaskSpec

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Loss of raw outputs and targets: one number per image [B]."""


@dataclass(frozen=True)
class LossContext:
    """Constants of a loss for one data set."""

    spec: TaskSpec
    weight_K: Float[torch.Tensor, " K"]
    """Weight of each class; for `classes`, of its presence. Ones where classes are not weighted."""
    absence_weight_K: Float[torch.Tensor, " K"]
    """Weight of the absence of each class, for `classes`."""
    label_smoothing: float
