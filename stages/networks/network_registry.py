"""The networks by name. To add one: a function from blueprint to module, and its line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from stages.core.errors import UserError, did_you_mean
from stages.networks import classifiers, mask_rcnn, unet
from stages.networks.network_config import NetworkConfig
from stages.networks.surgery import Network, with_norm, with_stochastic_depth


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and what it gives."""

    build: Callable[[NetworkConfig], nn.Module]
    gives: Literal["vector", "map", "boxes"]
    """vector: image_BCHW in 0..1 to [B, outputs]; map: to [B, outputs, H, W]; boxes: see `mask_rcnn`."""


NETWORKS = {
    "vgg11": Architecture(classifiers.vgg, "vector"),
    "vgg16": Architecture(classifiers.vgg, "vector"),
    "googlenet": Architecture(classifiers.googlenet, "vector"),
    "resnet18": Architecture(classifiers.resnet, "vector"),
    "resnet34": Architecture(classifiers.resnet, "vector"),
    "resnet50": Architecture(classifiers.resnet, "vector"),
    "unet": Architecture(unet.unet, "map"),
    "mask_rcnn": Architecture(mask_rcnn.mask_rcnn, "boxes"),
}
"""Beside these every backbone of timm, as `timm/NAME`."""


def architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        UserError: there is none.
    """
    if name.startswith("timm/"):
        classifiers.refuse_unknown_to_timm(name)
        return Architecture(classifiers.by_timm, "vector")
    if name not in NETWORKS:
        raise UserError(f"network.name: {name}: {did_you_mean(name, [*NETWORKS, 'timm/NAME'])}")
    return NETWORKS[name]


def build(network_config: NetworkConfig) -> Network:
    """The network with random weights.

    Raises:
        UserError: there is no such network, or it has no batch normalization that `norm` could replace, or no blocks
            that could be skipped.
    """
    timm = network_config.name.startswith("timm/")
    if network_config.feature_noise and (timm or network_config.name == "mask_rcnn"):
        raise UserError(f"network.feature_noise: {network_config.name} has no place for it; use 0, or network.dropout")
    body = architecture(network_config.name).build(network_config)
    if network_config.stochastic_depth and not timm:
        with_stochastic_depth(body, network_config.stochastic_depth, network_config.name)
    return Network(with_norm(body, network_config.norm, network_config.name), network_config.channels)
