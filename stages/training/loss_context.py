"""Constants and type of a loss function."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from stages.core.shapes import Float
from stages.tasks.task_spec import TaskSpec

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Loss of raw outputs and targets, a scalar tensor."""


@dataclass(frozen=True)
class LossContext:
    """Constants of a loss for one data set."""

    spec: TaskSpec
    weight_K: Float[torch.Tensor, " K"]
    """Weight of each class, with mean 1 over the training images (pixels for masks); for `classes`, weight of the
    presence of a class relative to its absence. Ones where classes are not weighted."""
    label_smoothing: float
