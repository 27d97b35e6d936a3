"""Networks that give one answer an image: VGG, GoogLeNet, ResNet as torchvision builds them, and timm's.

torchvision and timm are imported where they are used: they cost seconds, which other stages need not wait.
"""

from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError, did_you_mean
from stages.networks.network_config import NetworkConfig
from stages.networks.surgery import last_layer, randomized, with_channels


class _Pooled(nn.Module):
    """Features, their average over the image, and one linear layer."""

    def __init__(self, features: nn.Module, width: int, network_config: NetworkConfig) -> None:
        super().__init__()
        self.features = features
        self.fc = last_layer(width, network_config.outputs, network_config)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """[B, outputs]."""
        return self.fc(self.features(image_BCHW).mean(dim=(2, 3)))


def vgg_features(name: str) -> nn.Module:
    """Its convolutions; torchvision would draw its 120 million other weights as well, which takes seconds."""
    from torchvision.models.vgg import cfgs, make_layers

    return randomized(make_layers(cfgs[{"vgg11": "A", "vgg16": "D"}[name]], batch_norm=True))


def vgg(network_config: NetworkConfig) -> nn.Module:
    """VGG (Simonyan and Zisserman 2015) with batch normalization.

    Behind the convolutions their average and one linear layer, in place of three of 4096: those hold nine tenths of
    the weights, fit one image size, and overfit small data sets.
    """
    return with_channels(_Pooled(vgg_features(network_config.name), 512, network_config), network_config.channels)


def googlenet(network_config: NetworkConfig) -> nn.Module:
    """GoogLeNet (Szegedy et al. 2015) with batch normalization and without the auxiliary classifiers."""
    from torchvision import models

    network = models.googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    network.dropout = nn.Identity()
    network.fc = last_layer(1024, network_config.outputs, network_config)
    return with_channels(randomized(network), network_config.channels)


def resnet(network_config: NetworkConfig) -> nn.Module:
    """Residual networks (He et al. 2016)."""
    from torchvision import models

    network = getattr(models, network_config.name)(weights=None)
    network.fc = last_layer(network.fc.in_features, network_config.outputs, network_config)
    return with_channels(network, network_config.channels)


def by_timm(network_config: NetworkConfig) -> nn.Module:
    """Any network of timm (Wightman 2019, "PyTorch image models")."""
    skipped = {"drop_path_rate": network_config.stochastic_depth} if network_config.stochastic_depth else {}
    try:
        return timm_network(
            network_config.name,
            [{"img_size": network_config.size}],
            num_classes=network_config.outputs,
            in_chans=network_config.channels,
            drop_rate=network_config.dropout,
            **skipped,
        )
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise UserError(
            f"network.stochastic_depth: {network_config.name} has no blocks that could be skipped; use 0"
        ) from None


def timm_network(name: str, sizing: list[dict[str, Any]], **options: Any) -> Any:
    """The network `timm/NAME`, with the first of `sizing` that it takes.

    Only networks of patches are made for one size, and they differ in how they are told.

    Raises:
        UserError: timm knows no such network.
    """
    refuse_unknown_to_timm(name)
    import timm

    for ways in sizing:
        try:
            return timm.create_model(name.removeprefix("timm/"), **ways, **options)
        except TypeError as error:
            if not any(f"'{way}'" in str(error) for way in ways):
                raise
    return timm.create_model(name.removeprefix("timm/"), **options)


def refuse_unknown_to_timm(name: str) -> None:
    """A network, or a tag behind it, of which timm does not know.

    Raises:
        UserError: with the name nearest to it.
    """
    import timm  # some seconds

    bare, _, tag = name.removeprefix("timm/").partition(".")
    known = timm.list_models()
    if bare not in known:
        close = did_you_mean(bare, known)
        hint = close if close.startswith("did") else f"timm knows {len(known)}: timm.list_models() lists them"
        raise UserError(f"{name}: timm has no such network; {hint}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{bare}.*")]
    if tag and tag not in tags:
        raise UserError(f"{name}: timm has no weights {tag} of {bare}; {did_you_mean(tag, tags) if tags else 'none'}")
