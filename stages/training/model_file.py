"""A trained network as a file, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from stages.networks import NetworkConfig, build
from stages.tasks.task_spec import TaskSpec, task_spec_of


def save(file: Path, network_config: NetworkConfig, weights: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write weights, blueprint and `about` (the outline, what the data are, what was reached)."""
    with file.open("wb") as opened:
        write({"blueprint": asdict(network_config), "weights": weights, "about": about}, opened)


def write(state: dict[str, Any], file: IO[bytes]) -> None:
    """Write tensors and plain values.

    Raises:
        OSError: of the file, which torch hides behind an error of its own.
    """
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load(file: Path) -> tuple[nn.Module, TaskSpec, dict[str, Any]]:
    """The network in evaluation mode on the CPU, what it answers, and what `save` was told about it."""
    saved = torch.load(file, map_location="cpu", weights_only=True)
    network = build(NetworkConfig(**saved["blueprint"]))
    network.load_state_dict(saved["weights"])
    return network.eval(), task_spec_of(saved["about"]), saved["about"]
