"""Encoders: feature maps of falling resolution, for U-Net and Mask R-CNN.

Each is a module with `widths` and `strides`, finest first, and gives a list of [B, width, H / stride, W / stride].
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from stages.frame import UserError
from stages.frame.errors import did_you_mean
from stages.networks.parts import convolve, with_channels


class Staged(nn.Module):
    """A network taken apart where its resolution falls."""

    def __init__(self, stages: list[nn.Module], widths: list[int], strides: list[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.widths, self.strides = widths, strides

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps, finest first."""
        maps = []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return maps


class _ByTimm(nn.Module):
    """timm gives feature maps itself."""

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        import timm

        try:
            network: Any = timm.create_model(name, features_only=True, in_chans=channels)
        except (RuntimeError, AttributeError) as error:
            raise UserError(f"network.encoder: timm/{name} gives no feature maps ({error}); take another") from None
        self.network = network
        self.widths = list(network.feature_info.channels())
        self.strides = list(network.feature_info.reduction())

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps, finest first."""
        return list(self.network(x_BCHW))


def _plain(name: str) -> Staged:
    """The contracting path of the U-Net (Ronneberger, Fischer and Brox 2015), half as wide."""
    widths = [32, 64, 128, 256, 512]
    stages: list[nn.Module] = [convolve(3, widths[0])]
    for before, after in pairwise(widths):
        stages.append(nn.Sequential(nn.MaxPool2d(2), convolve(before, after)))
    return Staged(stages, widths, [1, 2, 4, 8, 16])


def _resnet(name: str) -> Staged:
    from torchvision import models

    n = getattr(models, name)(weights=None)
    stem = nn.Sequential(n.conv1, n.bn1, n.relu)
    widest = n.fc.in_features
    widths = [64, widest // 8, widest // 4, widest // 2, widest]
    return Staged([stem, nn.Sequential(n.maxpool, n.layer1), n.layer2, n.layer3, n.layer4], widths, [2, 4, 8, 16, 32])


def _vgg(name: str) -> Staged:
    """Cut in front of each pooling, so that the first map has the full resolution."""
    from torchvision import models

    layers = list({"vgg11": models.vgg11_bn, "vgg16": models.vgg16_bn}[name](weights=None).features)
    cuts = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    stages = [nn.Sequential(*layers[begin:end]) for begin, end in zip([0, *cuts], cuts, strict=False)]
    return Staged(list(stages), [64, 128, 256, 512, 512], [1, 2, 4, 8, 16])


def _googlenet(name: str) -> Staged:
    from torchvision import models

    n = models.googlenet(weights=None, aux_logits=False, init_weights=True, transform_input=False)
    stages: list[nn.Module] = [
        n.conv1,
        nn.Sequential(n.maxpool1, n.conv2, n.conv3),
        nn.Sequential(n.maxpool2, n.inception3a, n.inception3b),
        nn.Sequential(n.maxpool3, n.inception4a, n.inception4b, n.inception4c, n.inception4d, n.inception4e),
        nn.Sequential(n.maxpool4, n.inception5a, n.inception5b),
    ]
    return Staged(stages, [64, 192, 480, 832, 1024], [2, 4, 8, 16, 32])


ENCODERS = {
    "plain": _plain,
    "vgg11": _vgg,
    "vgg16": _vgg,
    "googlenet": _googlenet,
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
}
"""Beside these every backbone of timm that gives feature maps, as `timm/NAME`."""


def encoder(name: str, channels: int) -> nn.Module:
    """The encoder of that name for images of so many channels.

    Raises:
        UserError: there is none.
    """
    if name.startswith("timm/"):
        return _ByTimm(name.removeprefix("timm/"), channels)
    if name not in ENCODERS:
        raise UserError(f"network.encoder: {name}: {did_you_mean(name, [*ENCODERS, 'timm/NAME'])}")
    return with_channels(ENCODERS[name](name), channels)
