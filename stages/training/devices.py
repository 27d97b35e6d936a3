"""Select devices and processes for training, through Lightning Fabric."""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from stages.core.errors import UserError
from stages.core.memory import keep_freed_memory


class _Autocast(MixedPrecision):
    """Mixed precision by PyTorch's autocast alone, without Fabric's rounding of the model's inputs.

    Rounding to bf16 would move a box coordinate near 200 px by half a pixel, and 16-bit images would lose half of their
    bits.
    """

    def convert_input(self, data: Any) -> Any:
        return data


@dataclass(frozen=True)
class ProcessGroup:
    """Position of this process among the processes that share a training, each with its own device."""

    size: int = 1
    rank: int = 0


@cache
def torch_device(name: str) -> torch.device:
    """Return the device that a value of `train.device` selects on this machine.

    Raises:
        UserError: the device is not available.
    """
    return single_process_fabric(name, "32-true").device


def process_count(devices: int) -> int:
    """Return how many processes share a training: those started by torchrun, otherwise `devices` (`train.devices`)."""
    return int(os.environ.get("WORLD_SIZE", devices))


def single_process_fabric(name: str, precision: str) -> Fabric:
    """Return a Fabric for one device and this process only.

    Args:
        name: value of `train.device`.
        precision: 32-true, bf16-mixed or 16-mixed.

    Raises:
        UserError: the device is not available.
    """
    return _fabric(name, precision, devices=1)


def multi_process_fabric(name: str, precision: str, devices: int, unused_parameters: bool) -> Fabric:
    """Return a Fabric with one device for each of several processes, which `launch` starts unless torchrun did.

    Args:
        name: value of `train.device`.
        precision: 32-true, bf16-mixed or 16-mixed.
        devices: value of `train.devices`; under torchrun, the number of processes that it started on this machine
            applies instead.
        unused_parameters: whether some weights have no gradient in some epochs, which DDP must check for.

    Raises:
        UserError: a device is not available.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = process_count(devices) // local
    strategy = DDPStrategy(find_unused_parameters=unused_parameters)
    return _fabric(name, precision, devices=local, num_nodes=nodes, strategy=strategy)


def loss_scale(fabric: Fabric) -> float:
    """Return the factor by which losses and gradients are multiplied until the next step: 1 unless fp16 is used."""
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def _fabric(name: str, precision: str, **options: Any) -> Fabric:
    try:
        kind = Fabric(accelerator=name, devices=1).device.type
        if kind == "cpu":
            keep_freed_memory()
        plugins: list[Any] = [] if precision == "32-true" else [_Autocast(precision, kind)]  # type: ignore[arg-type]
        return Fabric(accelerator=name, plugins=plugins, **options)
    except (RuntimeError, ValueError, ModuleNotFoundError) as error:
        count = options["devices"]
        several = f"{count} devices" if name == "auto" else f"{count} devices of type {name}"
        wanted = f"{several} are" if count > 1 else f"device {name} is"
        use = "lower train.devices, or use cpu" if count > 1 else "use auto or cpu"
        raise UserError(f"train.device: {wanted} not available on this machine; {use} ({error})") from error
