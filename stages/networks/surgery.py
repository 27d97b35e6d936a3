"""Adaptation of networks: input channels, normalization, initialization and last layer."""

from functools import partial
from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError
from stages.networks.network_config import NetworkConfig

MOMENTUM = 0.1  # of running statistics, torch's default
MOST_GROUPS = 32  # Wu and He 2018, "Group normalization"


class Network(nn.Module):
    """Network body with input normalization (image - mean) / deviation.

    The mean is initially 0 and the deviation 1. Loading pretrained weights sets both to the statistics of the images on
    which they were trained, if these are known.
    """

    mean_C11: torch.Tensor
    deviation_C11: torch.Tensor

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean_C11", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation_C11", torch.ones(channels, 1, 1))

    def forward(self, image_BCHW: torch.Tensor, *targets: Any) -> Any:
        """Return the output of the body for images [B, C, H, W] in 0..1."""
        return self.body((image_BCHW - self.mean_C11) / self.deviation_C11, *targets)

    def normalize(self, mean: list[float], deviation: list[float]) -> None:
        """Set mean and standard deviation; if the number of channels differs, use their average for all channels."""
        channels = len(self.mean_C11)
        for buffer, values in ((self.mean_C11, mean), (self.deviation_C11, deviation)):
            statistics = torch.tensor(values)
            buffer.copy_(
                (statistics if len(statistics) == channels else statistics.mean().expand(channels))[:, None, None]
            )


def replace_norm(network: nn.Module, norm: str, name: str) -> nn.Module:
    """Keep the batch normalization of a network, or replace it in place.

    Args:
        network: network to modify.
        norm: `batch`, `group` or `none`.
        name: network name for the error message.

    Raises:
        UserError: `norm` is not `batch`, and the network has no batch normalization.
    """
    if norm == "batch":
        return network
    norms = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise UserError(f"network.norm: {norm}, but {name} has no batch normalization to replace; use batch")
    for path, module in norms:
        _replace(network, path, _keep_activation(_replacement_norm(norm, module.num_features), module))
    return network


def raise_momentum(network: nn.Module) -> nn.Module:
    """Raise the momentum of running statistics to that of torch, 0.1, in place.

    timm builds networks of TensorFlow with 0.01. After the few hundred steps of a short training, their statistics are
    still mostly the initial ones.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, MOMENTUM)
    return network


def synchronize_norm(network: nn.Module) -> nn.Module:
    """Replace batch normalization by that over the images of all processes, with timm's activations inside it.

    `nn.SyncBatchNorm.convert_sync_batchnorm` would drop the activation that timm stores in `BatchNormAct2d`.
    """
    from timm.layers.norm_act import convert_sync_batchnorm  # the import takes seconds

    synchronized: nn.Module = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return synchronized


def _keep_activation(new: nn.Module, old: nn.Module) -> nn.Module:
    """Return the new layer followed by the activation that timm stores in `BatchNormAct2d`, if any."""
    inside = list(old.children())
    return nn.Sequential(new, *inside) if inside else new


def _replacement_norm(norm: str, features: int) -> nn.Module:
    if norm == "none":
        return Shift(features)
    groups = max(g for g in range(1, MOST_GROUPS + 1) if features % g == 0)
    return nn.GroupNorm(groups, features)


class Shift(nn.Module):
    """Learned bias per channel, initially 0, in place of a normalization, whose preceding convolution has no bias."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the input [B, C, H, W] plus the bias."""
        return x_BCHW + self.bias[:, None, None]


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def adapt_input_channels(network: nn.Module, channels: int) -> nn.Module:
    """Replace the first convolution, in place, if its number of input channels is not `channels`."""
    path, first = next((p, m) for p, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != channels:
        new = type(first)(  # subclasses have other paddings
            channels,
            first.out_channels,
            kernel_size=first.kernel_size,  # type: ignore[arg-type]
            stride=first.stride,  # type: ignore[arg-type]
            padding=first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        _replace(network, path, initialize_convolutions(new))
    return network


def initialize_convolutions(network: nn.Module) -> nn.Module:
    """Initialize all convolutions with Kaiming-normal weights (He et al. 2015), in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class FeatureNoise(nn.Module):
    """Multiplicative Gaussian noise N(1, deviation^2) in training (Srivastava et al. 2014, section 10)."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the noisy features, of the same shape; unchanged in evaluation mode."""
        return x * (1 + self.deviation * torch.randn_like(x)) if self.training and self.deviation else x


def build_last_layer(features: int, outputs: int, network_config: NetworkConfig) -> nn.Module:
    """Return dropout, feature noise and a linear layer; layer names do not depend on the settings.

    Args:
        features: number of inputs.
        outputs: number of outputs.
        network_config: contains `dropout` and `feature_noise`.
    """
    return nn.Sequential(
        nn.Sequential(nn.Dropout(network_config.dropout), FeatureNoise(network_config.feature_noise)),
        nn.Linear(features, outputs),
    )


def add_stochastic_depth(network: nn.Module, share: float, name: str) -> nn.Module:
    """Add stochastic depth to a residual network, in place (Huang et al. 2016).

    It acts on the output of the last normalization of each block, which must not be replaced afterwards.

    Args:
        network: network to modify.
        share: probability of skipping the last block, 0 to 1; for earlier blocks it decreases linearly.
        name: network name for the error message.

    Raises:
        UserError: the network has no residual blocks.
    """
    from torchvision.models.resnet import BasicBlock, Bottleneck

    blocks = [one for one in network.modules() if isinstance(one, BasicBlock | Bottleneck)]
    if not blocks:
        raise UserError(f"network.stochastic_depth: {share:g}, but {name} has no residual blocks; use a resnet, or 0")
    for place, block in enumerate(blocks, 1):
        last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
        last.register_forward_hook(partial(_skip, share * place / len(blocks)))
    return network


def _skip(share: float, module: nn.Module, _inputs: Any, x_BCHW: torch.Tensor) -> torch.Tensor:
    from torchvision.ops import stochastic_depth

    return stochastic_depth(x_BCHW, share, "row", module.training)


def double_convolution(channels: int, features: int) -> nn.Module:
    """Return two 3x3 convolutions with batch normalization and ReLU, the building block of a U-Net."""

    def one(before: int) -> list[nn.Module]:
        return [nn.Conv2d(before, features, 3, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(inplace=True)]

    return initialize_convolutions(nn.Sequential(*one(channels), *one(features)))
