"""A moving average of the weights along the training (Polyak and Juditsky 1992), judged and kept in their place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Weights = dict[str, torch.Tensor]


class Average:
    """Of weights and of what normalization has seen; decay 0: the network as it is."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.weights: Weights = (
            {name: one.detach().clone() for name, one in network.state_dict().items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights behind a step: average = d average + (1 - d) weights, d = min(decay, (1 + n)/(10 + n)).

        The first n updates count more, as an average over all of them would have it.
        """
        if not self.decay:
            return
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = network.state_dict()
        real = [name for name, one in self.weights.items() if one.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in real], [now[name] for name in real], share)
        for name in self.weights.keys() - set(real):  # how many batches a normalization saw
            self.weights[name].copy_(now[name])

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """The network has the averaged weights meanwhile."""
        if not self.decay:
            yield
            return
        own = {name: one.detach().clone() for name, one in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)
