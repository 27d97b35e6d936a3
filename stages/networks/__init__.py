"""Networks: standard architectures first."""

from collections.abc import Callable

from torch import nn

from stages.networks.resnet import resnet18

NETWORKS: dict[str, Callable[[int, int, float], nn.Module]] = {"resnet18": resnet18}
"""(channels, classes, dropout) -> network from image_BCHW in 0..1 to logit_BK."""
