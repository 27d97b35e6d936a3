"""Which device computes."""

from functools import cache

import torch
from lightning_fabric import Fabric

from stages.frame import UserError


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
        return Fabric(accelerator=name, devices=1, precision=precision)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"train.device: {name} is not on this machine; use auto or cpu ({error})") from error
