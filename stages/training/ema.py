"""Exponential moving average (EMA) of the weights (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Weights = dict[str, torch.Tensor]


class WeightAverage:
    """Exponential moving average of weights and normalization statistics; with decay 0, the network itself."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.weights: Weights = (
            {name: values.detach().clone() for name, values in network.state_dict().items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average after a step: average = d average + (1 - d) weights, d = min(decay, (1 + n)/(10 + n)).

        n is the number of updates. The lower decay of the first updates prevents the initial weights from dominating
        the average.
        """
        if not self.decay:
            return
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = network.state_dict()
        real = [name for name, values in self.weights.items() if values.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in real], [current[name] for name in real], share)
        for name in self.weights.keys() - set(real):  # batch counters of normalization layers
            self.weights[name].copy_(current[name])

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Replace the weights of the network by the average for the duration of the block."""
        if not self.decay:
            yield
            return
        own = {name: values.detach().clone() for name, values in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)
