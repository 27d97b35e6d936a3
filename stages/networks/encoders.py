"""Encoders: feature maps of falling resolution, for U-Net and Mask R-CNN.

Each is a module with `widths` and `strides`, finest first, and gives a list of [B, width, H / stride, W / stride].
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError, did_you_mean
from stages.networks.classifiers import timm_network, vgg_features
from stages.networks.surgery import convolve, randomized, with_channels


class Staged(nn.Module):
    """A network taken apart where its resolution falls: the layers of each stage by their names in the network.

    The names of weights stay those of the network, so that weights published for it fit.
    """

    def __init__(self, network: nn.Module, stages: list[list[str]], widths: list[int], strides: list[int]) -> None:
        super().__init__()
        self.network, self.layers = network, stages
        self.widths, self.strides = widths, strides

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps, finest first."""
        maps = []
        for stage in self.layers:
            for name in stage:
                x_BCHW = self.network.get_submodule(name)(x_BCHW)
            maps.append(x_BCHW)
        return maps


TIMM_SIZING: list[dict[str, Any]] = [
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
]
"""How timm's networks of patches (ViT, Swin) are told to take images of any size."""


class ByTimm(nn.Module):
    """timm gives feature maps itself; some networks with the features in the last axis."""

    def __init__(self, name: str, channels: int, pretrained: bool = False) -> None:
        super().__init__()
        try:
            network = timm_network(name, TIMM_SIZING, features_only=True, in_chans=channels, pretrained=pretrained)
        except (RuntimeError, AttributeError) as error:
            raise UserError(f"network.encoder: {name} gives no feature maps ({error}); take another") from None
        self.network = network
        self.widths = list(network.feature_info.channels())
        self.strides = list(network.feature_info.reduction())
        self.last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps, finest first."""
        maps = self.network(x_BCHW)
        return [x_BHWC.permute(0, 3, 1, 2) for x_BHWC in maps] if self.last else list(maps)


def _plain(name: str) -> Staged:
    """The contracting path of the U-Net (Ronneberger, Fischer and Brox 2015), half as wide."""
    widths = [32, 64, 128, 256, 512]
    levels: list[nn.Module] = [convolve(3, widths[0])]
    for before, after in pairwise(widths):
        levels.append(nn.Sequential(nn.MaxPool2d(2), convolve(before, after)))
    return Staged(nn.Sequential(*levels), [[str(i)] for i in range(5)], widths, [1, 2, 4, 8, 16])


def _resnet(name: str) -> Staged:
    from torchvision import models

    network = getattr(models, name)(weights=None)
    widest = network.fc.in_features
    network.fc = nn.Identity()
    stages = [["conv1", "bn1", "relu"], ["maxpool", "layer1"], ["layer2"], ["layer3"], ["layer4"]]
    return Staged(network, stages, [64, widest // 8, widest // 4, widest // 2, widest], [2, 4, 8, 16, 32])


def _vgg(name: str) -> Staged:
    """Cut in front of each pooling, so that the first map has the full resolution."""
    network = nn.ModuleDict({"features": vgg_features(name)})
    layers = dict(network["features"].named_children())
    stages: list[list[str]] = [[]]
    for place, layer in list(layers.items())[:-1]:  # the last is a pooling
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
        stages[-1].append(f"features.{place}")
    return Staged(network, stages, [64, 128, 256, 512, 512], [1, 2, 4, 8, 16])


def _googlenet(name: str) -> Staged:
    from torchvision import models

    network = models.googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    network.fc = nn.Identity()
    stages = [
        ["conv1"],
        ["maxpool1", "conv2", "conv3"],
        ["maxpool2", "inception3a", "inception3b"],
        ["maxpool3", "inception4a", "inception4b", "inception4c", "inception4d", "inception4e"],
        ["maxpool4", "inception5a", "inception5b"],
    ]
    return Staged(randomized(network), stages, [64, 192, 480, 832, 1024], [2, 4, 8, 16, 32])


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
        return ByTimm(name, channels)
    if name not in ENCODERS:
        raise UserError(f"network.encoder: {name}: {did_you_mean(name, [*ENCODERS, 'timm/NAME'])}")
    return with_channels(ENCODERS[name](name), channels)
