"""Which devices compute, and how many processes share the work."""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from stages.frame import UserError
from stages.frame.memory import keep_freed_memory


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


def fabric_on(name: str, precision: str, devices: int = 1, frozen: bool = False) -> Fabric:
    """Fabric on one device, or on one each of several processes, which `launch` starts unless torchrun has.

    Args:
        name: as `train.device`.
        precision: 32-true or bf16-mixed.
        devices: how many on this machine.
        frozen: some weights do not learn for a while, which processes must know of.

    Raises:
        UserError: a device is not there.
    """
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))  # of torchrun
    count = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    options: dict[str, Any] = {"accelerator": name, "devices": count, "num_nodes": nodes}
    if nodes * count > 1:
        options["strategy"] = DDPStrategy(find_unused_parameters=frozen)
    try:
        fabric = Fabric(**options)
        if fabric.device.type == "cpu":
            keep_freed_memory()
        if precision == "32-true":
            return fabric
        return Fabric(**options, plugins=[_Autocast(precision, fabric.device.type)])  # type: ignore[arg-type]
    except (RuntimeError, ValueError, ModuleNotFoundError) as error:
        many = f", {devices} times" if devices > 1 else ""
        raise UserError(f"train.device: {name} is not on this machine{many}; use auto or cpu ({error})") from error
