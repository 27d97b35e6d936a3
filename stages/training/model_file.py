"""Save and load a trained network (`model.pt`)."""

from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from stages.networks import NetworkConfig, build
from stages.tasks.task_spec import TaskSpec, task_spec_of


def save_model(file: Path, config: NetworkConfig, weights: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Save a network so that `load_model` can rebuild it.

    Args:
        file: file to write.
        config: architecture of the network.
        weights: state dict of the network.
        about: the task spec, the name and version of the data, and the training that led to the weights.
    """
    with file.open("wb") as opened:
        write_state({"network_config": asdict(config), "weights": weights, "about": about}, opened)


def write_state(state: dict[str, Any], file: IO[bytes]) -> None:
    """Write tensors and plain values with `torch.save`.

    Raises:
        OSError: the file cannot be written; torch would raise a RuntimeError instead.
    """
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_model(file: Path) -> tuple[nn.Module, TaskSpec, dict[str, Any]]:
    """Load a network in evaluation mode on the CPU, with its task spec and the `about` of `save_model`.

    Raises:
        UserError: the installed version of timm does not provide the network or its encoder.
    """
    saved = torch.load(file, map_location="cpu", weights_only=True)
    network = build(NetworkConfig(**saved["network_config"]))
    network.load_state_dict(saved["weights"])
    return network.eval(), task_spec_of(saved["about"]), saved["about"]
