"""Networks with one output vector per image: VGG, GoogLeNet and ResNet of torchvision, and the networks of timm.

torchvision and timm are imported inside functions, because importing them takes seconds that other stages can save.
"""

from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError, did_you_mean
from stages.networks.network_config import NetworkConfig
from stages.networks.surgery import adapt_input_channels, build_last_layer, initialize_convolutions


class _Pooled(nn.Module):
    """Convolutional features, global average pooling and one linear layer."""

    def __init__(self, features: nn.Module, width: int, network_config: NetworkConfig) -> None:
        super().__init__()
        self.features = features
        self.fc = build_last_layer(width, network_config.outputs, network_config)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return outputs [B, outputs] for images [B, C, H, W]."""
        return self.fc(self.features(image_BCHW).mean(dim=(2, 3)))


def vgg_features(name: str) -> nn.Module:
    """Return the convolutional part of `vgg11` or `vgg16`, with batch normalization.

    Building the complete network would take seconds, because torchvision initializes 120 million other weights.
    """
    from torchvision.models.vgg import cfgs, make_layers

    return initialize_convolutions(make_layers(cfgs[{"vgg11": "A", "vgg16": "D"}[name]], batch_norm=True))


def vgg(network_config: NetworkConfig) -> nn.Module:
    """Build a VGG (Simonyan and Zisserman 2015) with batch normalization.

    Global average pooling and one linear layer replace the three fully connected layers, which contain about 90 % of
    the weights, require a fixed image size, and overfit small data sets.
    """
    return adapt_input_channels(
        _Pooled(vgg_features(network_config.name), 512, network_config), network_config.channels
    )


def googlenet(network_config: NetworkConfig) -> nn.Module:
    """Build a GoogLeNet (Szegedy et al. 2015) with batch normalization and without the auxiliary classifiers."""
    from torchvision import models

    network = models.googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    network.dropout = nn.Identity()
    network.fc = build_last_layer(1024, network_config.outputs, network_config)
    return adapt_input_channels(initialize_convolutions(network), network_config.channels)


def resnet(network_config: NetworkConfig) -> nn.Module:
    """Build a residual network (He et al. 2016)."""
    from torchvision import models

    network = getattr(models, network_config.name)(weights=None)
    network.fc = build_last_layer(network.fc.in_features, network_config.outputs, network_config)
    return adapt_input_channels(network, network_config.channels)


EFFICIENTNET_LITE = {f"efficientnet_lite{i}": f"timm/tf_efficientnet_lite{i}" for i in range(3)}
"""Networks of timm with the layers and the padding of TensorFlow's EfficientNet-Lite."""


def efficientnet_lite(network_config: NetworkConfig) -> nn.Module:
    """Build an EfficientNet-Lite, a mobile network without attention (Tan and Le 2019, "EfficientNet")."""
    network = timm_network(
        EFFICIENTNET_LITE[network_config.name],
        [],
        in_chans=network_config.channels,
        drop_path_rate=network_config.stochastic_depth,
    )
    network.classifier = build_last_layer(network.classifier.in_features, network_config.outputs, network_config)
    built: nn.Module = network
    return built


def timm_classifier(network_config: NetworkConfig) -> nn.Module:
    """Build any network of timm (Wightman 2019, "PyTorch image models").

    Raises:
        UserError: timm does not provide the network, or the network does not support `stochastic_depth`.
    """
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
            f"network.stochastic_depth: {network_config.stochastic_depth:g}, but {network_config.name} has no blocks "
            "that can be skipped; use 0"
        ) from None


def timm_network(name: str, sizing: list[dict[str, Any]], **options: Any) -> Any:
    """Build the network `timm/NAME` with the first size options that it accepts, or without any.

    Only patch-based networks (ViT, Swin) require a size, and their option names differ.

    Args:
        name: network name, `timm/NAME`.
        sizing: alternative keyword options for the image size, in order of preference.
        **options: further options of `timm.create_model`.

    Raises:
        UserError: timm does not provide the network, or the weights that the tag of the name selects.
    """
    check_timm_name(name)
    import timm

    for size_options in sizing:
        try:
            return timm.create_model(name.removeprefix("timm/"), **size_options, **options)
        except TypeError as error:
            if not any(f"'{option}'" in str(error) for option in size_options):
                raise
    return timm.create_model(name.removeprefix("timm/"), **options)


def check_timm_name(name: str) -> None:
    """Check that timm provides a network and, if the name has a tag, the weights of that tag.

    Raises:
        UserError: the name or tag is unknown; the message suggests a similar one if there is one.
    """
    import timm  # takes some seconds

    bare, _, tag = name.removeprefix("timm/").partition(".")
    known = timm.list_models()
    if bare not in known:
        close = did_you_mean(bare, known)
        hint = (
            close if close.startswith("did") else f"timm provides {len(known)} networks: timm.list_models() lists them"
        )
        raise UserError(f"{name}: timm has no such network; {hint}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{bare}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"{name}: timm has no weights {tag} of {bare}; {did_you_mean(tag, tags) if tags else f'use timm/{bare}'}"
        )
