"""Which device computes."""

import ctypes
import sys
from functools import cache
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from stages.frame import UserError


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


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, where its C library is glibc.

    Blocks above 32 MB, as a batch of images is, would else go back to the system each time and come again page by page,
    zeroed: half of the time of augmentation, and 4 to 8 % of a training step on two CPU cores.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30) or mallopt(_MMAP_THRESHOLD, 32 << 20)  # older ones allow no more
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of glibc's malloc.h


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
