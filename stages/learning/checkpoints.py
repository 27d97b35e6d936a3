"""A trained network as a file, and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.networks import NETWORKS


@dataclass(frozen=True)
class Recipe:
    """What it takes to build the network again."""

    name: str
    channels: int
    classes: int
    dropout: float

    def build(self) -> nn.Module:
        """The network with random weights."""
        return NETWORKS[self.name](self.channels, self.classes, self.dropout)


def save(file: Path, recipe: Recipe, weights: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write weights, recipe and `about` (what the data are, what was reached)."""
    torch.save({"recipe": vars(recipe), "weights": weights, "about": about}, file)


def load(file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network in evaluation mode on the CPU, and what `save` was told about it."""
    saved = torch.load(file, map_location="cpu", weights_only=True)
    network = Recipe(**saved["recipe"]).build()
    network.load_state_dict(saved["weights"])
    return network.eval(), saved["about"]
