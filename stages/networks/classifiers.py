"""Networks that give one answer an image: VGG, GoogLeNet, ResNet as torchvision builds them, and timm's.

torchvision and timm are imported where they are used: they cost seconds, which other stages need not wait.
"""

from typing import Any

import torch
from torch import nn

from stages.networks.blueprint import Blueprint
from stages.networks.parts import last_layer, with_channels


class _Pooled(nn.Module):
    """Features, their average over the image, and one linear layer."""

    def __init__(self, features: nn.Module, width: int, blueprint: Blueprint) -> None:
        super().__init__()
        self.features = features
        self.fc = last_layer(width, blueprint.outputs, blueprint.dropout)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """[B, outputs]."""
        return self.fc(self.features(image_BCHW).mean(dim=(2, 3)))


def vgg(blueprint: Blueprint) -> nn.Module:
    """VGG (Simonyan and Zisserman 2015) with batch normalization.

    Behind the convolutions their average and one linear layer, in place of three of 4096: those hold nine tenths of
    the weights, fit one image size, and overfit small data sets.
    """
    from torchvision import models

    built = {"vgg11": models.vgg11_bn, "vgg16": models.vgg16_bn}[blueprint.name](weights=None)
    return with_channels(_Pooled(built.features, 512, blueprint), blueprint.channels)


def googlenet(blueprint: Blueprint) -> nn.Module:
    """GoogLeNet (Szegedy et al. 2015) with batch normalization and without the auxiliary classifiers."""
    from torchvision import models

    network = models.googlenet(weights=None, aux_logits=False, init_weights=True, transform_input=False)
    network.dropout = nn.Identity()
    network.fc = last_layer(1024, blueprint.outputs, blueprint.dropout)
    return with_channels(network, blueprint.channels)


def resnet(blueprint: Blueprint) -> nn.Module:
    """Residual networks (He et al. 2016)."""
    from torchvision import models

    network = getattr(models, blueprint.name)(weights=None)
    network.fc = last_layer(network.fc.in_features, blueprint.outputs, blueprint.dropout)
    return with_channels(network, blueprint.channels)


def by_timm(blueprint: Blueprint) -> nn.Module:
    """Any network of timm (Wightman 2019, "PyTorch image models")."""
    import timm

    name = blueprint.name.removeprefix("timm/")
    options: dict[str, Any] = {
        "num_classes": blueprint.outputs,
        "in_chans": blueprint.channels,
        "drop_rate": blueprint.dropout,
    }
    try:
        return timm.create_model(name, img_size=blueprint.size, **options)
    except TypeError:  # only networks of patches are made for one size
        return timm.create_model(name, **options)
