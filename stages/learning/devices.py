"""Which device computes."""

from functools import cache
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from stages.frame import UserError
from stages.frame.memory import keep_freed_memory


class _Autocast(MixedPrecision):
    """Operations choose their precision, as PyTorch's autocast does; Fabric would also round what a model is given.

    A box at 200 pixels would move by half a pixel, and 16-bit images would lose half of their bits.
    """

    def convert_input(self, data: Any) -> Any:
        return data


@cache
def device_of(name: str) -> torch.device:
    """The device that `train.device` means on this machine.

    Raises:
        UserError: the device is not there.
    """
    return fabric_on(name, "32-true").device


def fabric_on(name: str, precision: str) -> Fabric:
    """Fabric on one device; raises as `device_of`."""
    try:
        plain = Fabric(accelerator=name, devices=1)
        if plain.device.type == "cpu":
            keep_freed_memory()
        if precision == "32-true":
            return plain
        autocast = _Autocast(precision, plain.device.type)  # type: ignore[arg-type]
        return Fabric(accelerator=name, devices=1, plugins=[autocast])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"train.device: {name} is not on this machine; use auto or cpu ({error})") from error
