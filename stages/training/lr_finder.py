"""The learning rate, found by raising it until the loss bursts (Smith 2017, "Cyclical learning rates")."""

import math
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import torch
from lightning_fabric import Fabric

from stages.core.errors import UserError
from stages.training.batch_loader import step_seed
from stages.training.trainer_state import set_up
from stages.training.training_plan import Plan

LOWEST, HIGHEST = 1e-6, 3.0
STEPS = 80
SMOOTH = 0.9  # decay of the mean over losses
BURST = 3.0  # times the lowest loss
MARGIN = 5.0  # below the rate of the lowest loss, where it is about to burst


@dataclass(frozen=True)
class RangeTest:
    """Losses along rising rates, and the rate that they speak for."""

    rates: list[float]
    losses: list[float]
    """Smoothed."""
    rate: float


def range_test(plan: Plan, fabric: Fabric) -> RangeTest:
    """Train for up to 80 steps at rates from 1e-6 to 3, and take a fifth of the rate at which the loss was lowest.

    Near that rate training is fastest and about to burst; the schedule reaches what is chosen at its highest only. The
    network of the test is thrown away.

    Raises:
        UserError: no rate lowers the loss.
    """
    training = set_up(plan, fabric)
    training.model.train()
    batches = chain.from_iterable(training.feed.batches(epoch, training.device) for epoch in count(1))
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for step, rate in enumerate(np.geomspace(LOWEST, HIGHEST, STEPS).tolist()):
        torch.manual_seed(step_seed(plan.train.seed, 0, step))
        loss = training.loss_of(training.model, next(batches))
        training.optimizer.zero_grad(set_to_none=True)
        training.fabric.backward(loss)
        for group in training.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        training.optimizer.step()
        mean = SMOOTH * mean + (1 - SMOOTH) * loss.item()
        smooth = mean / (1 - SMOOTH ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > BURST * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
    lowest = int(np.argmin(losses)) if losses else 0
    if lowest == 0:
        raise UserError("train.learning_rate: auto: no rate lowers the loss; give a number, 0.001 to begin with")
    return RangeTest(rates, losses, float(f"{rates[lowest] / MARGIN:.2g}"))
