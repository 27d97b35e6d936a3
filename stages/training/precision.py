"""Layers that compute in 32 bits although the precision is 16 bits, because bf16 gradients would be wrong."""

from functools import partial

import torch
from torch import nn


def compute_small_maps_in_float32(network: nn.Module) -> None:
    """Make convolutions compute in 32 bits, in place, when their input is smaller than the kernel.

    Some weights of such a kernel are applied to padding only, and their gradient is 0. In bf16 on the CPU the gradient
    is instead what the memory happened to contain, up to 1e37 (torch 2.15 with oneDNN; tests/code/test_training.py
    reproduces this).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.forward = partial(_convolve, module)  # type: ignore[method-assign]


def _convolve(layer: nn.Conv2d, x_BCHW: torch.Tensor) -> torch.Tensor:
    convolve = type(layer).forward  # subclasses, such as those with the padding of TensorFlow, pad in `forward`
    if min(x_BCHW.shape[2:]) >= max(layer.kernel_size):
        return convolve(layer, x_BCHW)
    with torch.autocast(x_BCHW.device.type, enabled=False):
        return convolve(layer, x_BCHW.float())
