"""What networks are adapted by: input channels, normalization, the last layer."""

from functools import partial
from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError
from stages.networks.network_config import NetworkConfig

MOST_GROUPS = 32  # Wu and He 2018, "Group normalization"


class Network(nn.Module):
    """A body behind (image - mean) / deviation: 0 and 1, unless published weights were trained with others."""

    mean_C11: torch.Tensor
    deviation_C11: torch.Tensor

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean_C11", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation_C11", torch.ones(channels, 1, 1))

    def forward(self, image_BCHW: torch.Tensor, *targets: Any) -> Any:
        """Whatever the body gives."""
        return self.body((image_BCHW - self.mean_C11) / self.deviation_C11, *targets)

    def normalize(self, mean: list[float], deviation: list[float]) -> None:
        """Take the statistics of published weights; images of other channels get their average."""
        channels = len(self.mean_C11)
        for buffer, values in ((self.mean_C11, mean), (self.deviation_C11, deviation)):
            given = torch.tensor(values)
            buffer.copy_((given if len(given) == channels else given.mean().expand(channels))[:, None, None])


def with_norm(network: nn.Module, norm: str, name: str) -> nn.Module:
    """The network with its batch normalization kept, or replaced by group normalization or nothing.

    Raises:
        UserError: it has none.
    """
    if norm == "batch":
        return network
    found = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if not found:
        raise UserError(f"network.norm: {norm}, but {name} has no batch normalization to replace; use batch")
    for path, module in found:
        _replace(network, path, _with_what_follows(_instead(norm, module.num_features), module))
    return network


def _with_what_follows(new: nn.Module, old: nn.Module) -> nn.Module:
    """An activation that timm keeps inside its batch normalization (`BatchNormAct2d`) stays."""
    inside = list(old.children())
    return nn.Sequential(new, *inside) if inside else new


def _instead(norm: str, features: int) -> nn.Module:
    if norm == "none":
        return Shift(features)
    groups = max(g for g in range(1, MOST_GROUPS + 1) if features % g == 0)
    return nn.GroupNorm(groups, features)


class Shift(nn.Module):
    """In place of a normalization: the bias, from 0 on, that the convolution in front of one does without."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W]."""
        return x_BCHW + self.bias[:, None, None]


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def with_channels(network: nn.Module, channels: int) -> nn.Module:
    """The network with a first convolution for images of so many channels."""
    path, first = next((p, m) for p, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != channels:
        new = nn.Conv2d(
            channels,
            first.out_channels,
            kernel_size=first.kernel_size,  # type: ignore[arg-type]
            stride=first.stride,  # type: ignore[arg-type]
            padding=first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        _replace(network, path, randomized(new))
    return network


def randomized(network: nn.Module) -> nn.Module:
    """Convolutions drawn so that deep networks neither fade nor burst without normalization (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class FeatureNoise(nn.Module):
    """Multiplies every feature by a draw of N(1, deviation^2) in training (Srivastava et al. 2014, section 10)."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of the same shape."""
        return x * (1 + self.deviation * torch.randn_like(x)) if self.training and self.deviation else x


def last_layer(features: int, outputs: int, network_config: NetworkConfig) -> nn.Module:
    """Dropout and noise, then one linear layer; the same names of layers whatever their amounts."""
    return nn.Sequential(
        nn.Sequential(nn.Dropout(network_config.dropout), FeatureNoise(network_config.feature_noise)),
        nn.Linear(features, outputs),
    )


def with_stochastic_depth(network: nn.Module, share: float, name: str) -> nn.Module:
    """The network with residual blocks that some images skip in training, later ones more (Huang et al. 2016).

    Raises:
        UserError: it has no residual blocks.
    """
    from torchvision.models.resnet import BasicBlock, Bottleneck

    blocks = [one for one in network.modules() if isinstance(one, BasicBlock | Bottleneck)]
    if not blocks:
        raise UserError(f"network.stochastic_depth: {share:g}, but {name} has no residual blocks; use a resnet, or 0")
    for place, block in enumerate(blocks, 1):
        last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
        last.register_forward_hook(partial(_skip, share * place / len(blocks)))
    return network


def _skip(share: float, module: nn.Module, _given: Any, x_BCHW: torch.Tensor) -> torch.Tensor:
    from torchvision.ops import stochastic_depth

    return stochastic_depth(x_BCHW, share, "row", module.training)


def convolve(channels: int, features: int) -> nn.Module:
    """Two 3x3 convolutions with batch normalization and ReLU, the building block of a U-Net."""

    def one(before: int) -> list[nn.Module]:
        return [nn.Conv2d(before, features, 3, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(inplace=True)]

    return randomized(nn.Sequential(*one(channels), *one(features)))
