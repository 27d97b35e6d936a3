"""Several trained networks as one: the mean of their outputs, or one network with the mean of their weights."""

from collections.abc import Sequence

import torch
from torch import nn

State = dict[str, torch.Tensor]


class Ensemble(nn.Module):
    """Networks of one architecture, whose raw outputs are averaged."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the mean of the members' outputs for images [B, C, H, W] in 0..1."""
        total = self.members[0](image_BCHW)
        for member in self.members[1:]:
            total = total + member(image_BCHW)
        return total / len(self.members)


def average_weights(members: Sequence[State]) -> State:
    """Return the mean of weights and of normalization statistics (uniform soup, Wortsman et al. 2022, "Model soups").

    Integers, such as the batch counters of normalization layers, are those of the first member.
    """
    return {
        name: torch.stack([member[name].double() for member in members]).mean(dim=0).to(values.dtype)
        if values.is_floating_point()
        else values.clone()
        for name, values in members[0].items()
    }
