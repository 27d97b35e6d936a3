"""The networks by name. To add one: a function from blueprint to module, and its line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from stages.frame import UserError
from stages.frame.errors import did_you_mean
from stages.networks import classifiers, mask_rcnn, unet
from stages.networks.blueprint import Blueprint
from stages.networks.parts import Network, with_norm, with_stochastic_depth


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and what it gives."""

    build: Callable[[Blueprint], nn.Module]
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


def build(blueprint: Blueprint) -> Network:
    """The network with random weights.

    Raises:
        UserError: there is no such network, or it has no batch normalization that `norm` could replace, or no blocks
            that could be skipped.
    """
    timm = blueprint.name.startswith("timm/")
    if blueprint.feature_noise and (timm or blueprint.name == "mask_rcnn"):
        raise UserError(f"network.feature_noise: {blueprint.name} has no place for it; use 0, or network.dropout")
    body = architecture(blueprint.name).build(blueprint)
    if blueprint.stochastic_depth and not timm:
        with_stochastic_depth(body, blueprint.stochastic_depth, blueprint.name)
    return Network(with_norm(body, blueprint.norm, blueprint.name), blueprint.channels)
