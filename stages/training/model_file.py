"""Save and load a trained network (`model.pt`)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from stages.networks import NetworkConfig, build
from stages.networks.ensemble import Ensemble, State
from stages.tasks.task_spec import TaskSpec, task_spec_of


def save_model(file: Path, config: NetworkConfig, weights: State, about: dict[str, Any]) -> None:
    """Save a network so that `load_model` can rebuild it.

    Args:
        file: file to write.
        config: architecture of the network.
        weights: state dict of the network.
        about: the task spec, the name and version of the data, and the training that led to the weights.
    """
    with file.open("wb") as opened:
        write_state({"network_config": asdict(config), "weights": weights, "about": about}, opened)


def save_members(file: Path, config: NetworkConfig, members: Sequence[State], about: dict[str, Any]) -> None:
    """Save the networks of an ensemble so that `load_model` can rebuild it; a single one is saved as by `save_model`.

    Args:
        file: file to write.
        config: architecture of each network.
        members: state dict of each network.
        about: as in `save_model`.
    """
    if len(members) == 1:
        save_model(file, config, members[0], about)
        return
    with file.open("wb") as opened:
        write_state({"network_config": asdict(config), "members": list(members), "about": about}, opened)


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


def build_members(config: NetworkConfig, members: Sequence[State]) -> nn.Module:
    """Return the network with the given weights, or the ensemble of several, in evaluation mode on the CPU.

    Raises:
        UserError: the installed version of timm does not provide the network or its encoder.
    """
    networks = []
    for weights in members:
        network = build(config)
        network.load_state_dict(weights)
        networks.append(network)
    whole = networks[0] if len(networks) == 1 else Ensemble(networks)
    return whole.eval()


def load_model(file: Path) -> tuple[nn.Module, TaskSpec, dict[str, Any]]:
    """Load a network or an ensemble in evaluation mode on the CPU, with its task spec and the `about` of `save_model`.

    Raises:
        UserError: the installed version of timm does not provide the network or its encoder.
    """
    saved = torch.load(file, map_location="cpu", weights_only=True)
    members = saved["members"] if "members" in saved else [saved["weights"]]
    network = build_members(NetworkConfig(**saved["network_config"]), members)
    return network, task_spec_of(saved["about"]), saved["about"]
