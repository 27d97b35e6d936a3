"""Arithmetic in 16 bits where it can be trusted."""

from functools import partial

import torch
from torch import nn


def in_full_where_small(network: nn.Module) -> None:
    """Convolutions of maps that are smaller than their kernel compute in 32 bits, in place.

    There some of a kernel's weights meet nothing but padding. In bf16 on the CPU their gradient, which is 0, comes out
    as whatever the memory held, up to 1e37 (torch 2.15 with oneDNN; tests/code/test_training.py shows it).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.forward = partial(_convolved, module)  # type: ignore[method-assign]


def _convolved(layer: nn.Conv2d, x_BCHW: torch.Tensor) -> torch.Tensor:
    if min(x_BCHW.shape[2:]) >= max(layer.kernel_size):
        return layer._conv_forward(x_BCHW, layer.weight, layer.bias)
    with torch.autocast(x_BCHW.device.type, enabled=False):
        return layer._conv_forward(x_BCHW.float(), layer.weight, layer.bias)
