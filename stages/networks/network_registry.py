"""Registry of networks. To add one, write a function from NetworkConfig to module and add it here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from stages.core.errors import UserError, did_you_mean
from stages.networks import classifiers, mask_rcnn, unet
from stages.networks.network_config import NetworkConfig
from stages.networks.surgery import Network, add_stochastic_depth, raise_momentum, replace_norm, synchronize_norm


@dataclass(frozen=True)
class Architecture:
    """Builder and output type of a network."""

    build: Callable[[NetworkConfig], nn.Module]
    gives: Literal["vector", "map", "boxes"]
    """Output for normalized images [B, C, H, W]: [B, outputs], [B, outputs, H, W], or boxes (see `mask_rcnn`)."""


NETWORKS = {
    "vgg11": Architecture(classifiers.vgg, "vector"),
    "vgg16": Architecture(classifiers.vgg, "vector"),
    "googlenet": Architecture(classifiers.googlenet, "vector"),
    "resnet18": Architecture(classifiers.resnet, "vector"),
    "resnet34": Architecture(classifiers.resnet, "vector"),
    "resnet50": Architecture(classifiers.resnet, "vector"),
    "efficientnet_lite0": Architecture(classifiers.efficientnet_lite, "vector"),
    "efficientnet_lite1": Architecture(classifiers.efficientnet_lite, "vector"),
    "efficientnet_lite2": Architecture(classifiers.efficientnet_lite, "vector"),
    "unet": Architecture(unet.unet, "map"),
    "mask_rcnn": Architecture(mask_rcnn.mask_rcnn, "boxes"),
}
"""Networks by name. Any network of timm is also supported, as `timm/NAME`."""


def architecture(name: str) -> Architecture:
    """Return the architecture with the given name.

    Raises:
        UserError: the name, or the tag of a network of timm, is unknown.
    """
    if name.startswith("timm/"):
        classifiers.check_timm_name(name)
        return Architecture(classifiers.timm_classifier, "vector")
    if name not in NETWORKS:
        raise UserError(f"network.name: {name} is unknown; {did_you_mean(name, [*NETWORKS, 'timm/NAME'])}")
    return NETWORKS[name]


def build(network_config: NetworkConfig, synchronized: bool = False) -> Network:
    """Build a network with random weights.

    Args:
        network_config: configuration of the network.
        synchronized: whether batch normalization uses the images of all processes, which requires cuda.

    Raises:
        UserError: the name is unknown, the encoder is unknown or does not provide feature maps, or the network does not
            support `norm`, `feature_noise` or `stochastic_depth`.
    """
    name, timm = network_config.name, network_config.name.startswith("timm/")
    if network_config.feature_noise and (timm or name == "mask_rcnn"):
        instead = "use 0, or network.dropout" if timm else "use 0"
        raise UserError(
            f"network.feature_noise: {network_config.feature_noise:g}, but {name} does not support it; {instead}"
        )
    body = replace_norm(architecture(name).build(network_config), network_config.norm, name)
    if synchronized:
        body = synchronize_norm(body)
    raise_momentum(body)
    if network_config.stochastic_depth and not timm and name not in classifiers.EFFICIENTNET_LITE:
        add_stochastic_depth(body, network_config.stochastic_depth, name)  # last: it belongs to the final layers
    return Network(body, network_config.channels)
