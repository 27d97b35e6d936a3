"""Which devices compute, and how many processes share the work."""

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
    """Operations choose their precision, as PyTorch's autocast does; Fabric would also round what a model is given.

    A box at 200 pixels would move by half a pixel, and 16-bit images would lose half of their bits.
    """

    def convert_input(self, data: Any) -> Any:
        return data


@dataclass(frozen=True)
class Crew:
    """The processes that share a training, each with a device of its own."""

    size: int = 1
    rank: int = 0


@cache
def device_of(name: str) -> torch.device:
    """The device that `train.device` means on this machine.

    Raises:
        UserError: the device is not there.
    """
    return fabric_on(name, "32-true").device


def processes(devices: int) -> int:
    """How many share a training: those that torchrun started, else one a device."""
    return int(os.environ.get("WORLD_SIZE", devices))


def fabric_on(name: str, precision: str) -> Fabric:
    """Fabric on one device, for this process alone.

    Args:
        name: as `train.device`.
        precision: 32-true or bf16-mixed.

    Raises:
        UserError: the device is not there.
    """
    return _fabric(name, precision, devices=1)


def crew_on(name: str, precision: str, devices: int, frozen: bool) -> Fabric:
    """Fabric on a device each of several processes, which its `launch` starts unless torchrun has.

    Args:
        name: as `train.device`.
        precision: 32-true or bf16-mixed.
        devices: on this machine.
        frozen: some weights do not learn for a while, which the processes must know of.

    Raises:
        UserError: a device is not there.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = processes(devices) // local
    shared = DDPStrategy(find_unused_parameters=frozen)
    return _fabric(name, precision, devices=local, num_nodes=nodes, strategy=shared)


def _fabric(name: str, precision: str, **options: Any) -> Fabric:
    try:
        kind = Fabric(accelerator=name, devices=1).device.type
        if kind == "cpu":
            keep_freed_memory()
        plugins: list[Any] = [] if precision == "32-true" else [_Autocast(precision, kind)]  # type: ignore[arg-type]
        return Fabric(accelerator=name, plugins=plugins, **options)
    except (RuntimeError, ValueError, ModuleNotFoundError) as error:
        many = f", {options['devices']} times" if options["devices"] > 1 else ""
        raise UserError(f"train.device: {name} is not on this machine{many}; use auto or cpu ({error})") from error
