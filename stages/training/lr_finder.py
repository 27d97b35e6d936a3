"""Learning-rate range test: increase the rate until the loss diverges (Smith 2017, "Cyclical learning rates")."""

import math
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import torch
from lightning_fabric import Fabric

from stages.core.errors import UserError
from stages.training.batch_loader import step_seed
from stages.training.trainer_state import build_state
from stages.training.training_plan import TrainingPlan

MIN_RATE, MAX_RATE = 1e-6, 3.0
STEPS = 80
SMOOTHING = 0.9  # decay of the moving average of the loss
DIVERGED = 3.0  # ratio of the loss to the lowest loss, at which the test ends
MARGIN = 5.0  # ratio of the rate of the lowest loss, where training is about to diverge, to the chosen rate


@dataclass(frozen=True)
class RangeTest:
    """Loss at increasing learning rates, and the rate chosen from it."""

    rates: list[float]
    losses: list[float]
    """Smoothed losses, one per rate."""
    rate: float
    """Chosen learning rate."""


def find_learning_rate(plan: TrainingPlan, fabric: Fabric) -> RangeTest:
    """Train for up to 80 steps at rates from 1e-6 to 3 and choose a fifth of the rate at which the loss was lowest.

    The test trains a separate network, which is discarded. The margin is needed because training is about to diverge at
    the rate of the lowest loss. The schedule reaches the chosen rate only at its peak.

    Args:
        plan: plan without `auto`, whose `train.learning_rate` is 1: the optimizer multiplies it by each tested rate.
        fabric: Fabric of one process.

    Raises:
        UserError: no rate lowers the loss, the loss is not finite, or the network, the optimizer or the loss cannot be
            built (see `build_state`).
    """
    state = build_state(plan, fabric)
    state.start_training(frozen=False)
    loader = state.loader.at_full_size()
    batches = chain.from_iterable(loader.batches(epoch, state.device) for epoch in count(1))
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for step, rate in enumerate(np.geomspace(MIN_RATE, MAX_RATE, STEPS).tolist()):
        torch.manual_seed(step_seed(plan.train.seed, 0, step))
        loss = state.batch_loss(state.model, next(batches))
        state.optimizer.zero_grad(set_to_none=True)
        state.fabric.backward(loss)
        for group in state.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        state.optimizer.step()
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss.item()
        smooth = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > DIVERGED * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
    lowest = int(np.argmin(losses)) if losses else 0
    if lowest == 0:
        problem = f"no rate from {MIN_RATE:g} to {MAX_RATE:g} lowers the loss" if losses else "the loss is not finite"
        raise UserError(f"train.learning_rate: auto: {problem} in the range test; set a number, such as 0.001")
    return RangeTest(rates, losses, float(f"{rates[lowest] / MARGIN:.2g}"))
