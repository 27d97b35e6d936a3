"""Encoders that return feature maps of decreasing resolution, for U-Net and Mask R-CNN.

Each encoder is a module with `widths` and `strides`, finest first. It returns a list of feature maps
[B, width, H / stride, W / stride].
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from stages.core.errors import UserError, did_you_mean
from stages.networks.classifiers import EFFICIENTNET_LITE, timm_network, vgg_features
from stages.networks.surgery import adapt_input_channels, double_convolution, initialize_convolutions


class StagedEncoder(nn.Module):
    """Encoder made from a network by splitting its layers into stages of equal resolution.

    The layers keep their names, so that published weights of the network can be loaded.
    """

    def __init__(self, network: nn.Module, stages: list[list[str]], widths: list[int], strides: list[int]) -> None:
        super().__init__()
        self.network, self.layers = network, stages
        self.widths, self.strides = widths, strides

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of images [B, C, H, W], finest first."""
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
"""Options that let the patch-based networks of timm (ViT, Swin) accept images of any size."""


class _FixedPaddingConv2d(nn.Conv2d):
    """Convolution with the padding of TensorFlow's `SAME` for sizes that are multiples of the stride."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the convolution [B, out, H / stride, W / stride] of maps [B, C, H, W]."""
        margins = []
        for kernel, stride in zip(reversed(self.kernel_size), reversed(self.stride), strict=True):
            total = max(kernel - stride, 0)
            margins += [total // 2, total - total // 2]
        return super().forward(functional.pad(x_BCHW, margins))


def fix_same_padding(network: nn.Module) -> nn.Module:
    """Give timm's convolutions with TensorFlow's `SAME` padding a padding that does not depend on the size, in place.

    U-Net and Mask R-CNN pad images to multiples of 32, for which both are equal. Exporting paddings that depend on the
    size took four minutes, because each is a condition on a size that is not known.
    """
    from timm.layers.conv2d_same import Conv2dSame

    for path, module in list(network.named_modules()):
        if not isinstance(module, Conv2dSame) or module.stride == (1, 1) or module.dilation != (1, 1):
            continue
        fixed = _FixedPaddingConv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            groups=module.groups,
            bias=module.bias is not None,
        )
        fixed.load_state_dict(module.state_dict())
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, fixed)
    return network


class TimmEncoder(nn.Module):
    """Encoder of timm; converts feature maps in NHWC order to NCHW."""

    def __init__(self, name: str, channels: int, pretrained: bool = False) -> None:
        super().__init__()
        try:
            network = timm_network(name, TIMM_SIZING, features_only=True, in_chans=channels, pretrained=pretrained)
        except (RuntimeError, AttributeError) as error:
            if pretrained:
                raise  # the weights cannot be loaded, since the same encoder was built without them
            raise UserError(
                f"network.encoder: {name} does not provide feature maps ({error}); use another encoder"
            ) from None
        self.network = fix_same_padding(network)
        self.widths = list(network.feature_info.channels())
        self.strides = list(network.feature_info.reduction())
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of images [B, C, H, W], finest first."""
        maps = self.network(x_BCHW)
        return [x_BHWC.permute(0, 3, 1, 2) for x_BHWC in maps] if self.channels_last else list(maps)


def _plain(name: str) -> StagedEncoder:
    """Build the contracting path of the U-Net (Ronneberger, Fischer and Brox 2015) with half the channels."""
    widths = [32, 64, 128, 256, 512]
    levels: list[nn.Module] = [double_convolution(3, widths[0])]
    for before, after in pairwise(widths):
        levels.append(nn.Sequential(nn.MaxPool2d(2), double_convolution(before, after)))
    return StagedEncoder(nn.Sequential(*levels), [[str(i)] for i in range(5)], widths, [1, 2, 4, 8, 16])


def _resnet(name: str) -> StagedEncoder:
    from torchvision import models

    network = getattr(models, name)(weights=None)
    widest = network.fc.in_features
    network.fc = nn.Identity()
    stages = [["conv1", "bn1", "relu"], ["maxpool", "layer1"], ["layer2"], ["layer3"], ["layer4"]]
    return StagedEncoder(network, stages, [64, widest // 8, widest // 4, widest // 2, widest], [2, 4, 8, 16, 32])


def _vgg(name: str) -> StagedEncoder:
    """Build a VGG encoder, split before each pooling so that the first map has full resolution."""
    network = nn.ModuleDict({"features": vgg_features(name)})
    layers = dict(network["features"].named_children())
    stages: list[list[str]] = [[]]
    for place, layer in list(layers.items())[:-1]:  # the last layer is a pooling
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
        stages[-1].append(f"features.{place}")
    return StagedEncoder(network, stages, [64, 128, 256, 512, 512], [1, 2, 4, 8, 16])


def _googlenet(name: str) -> StagedEncoder:
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
    return StagedEncoder(initialize_convolutions(network), stages, [64, 192, 480, 832, 1024], [2, 4, 8, 16, 32])


def _efficientnet_lite(name: str) -> TimmEncoder:
    return TimmEncoder(EFFICIENTNET_LITE[name], 3)


ENCODERS: dict[str, Callable[[str], nn.Module]] = {
    "plain": _plain,
    "vgg11": _vgg,
    "vgg16": _vgg,
    "googlenet": _googlenet,
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
    "efficientnet_lite0": _efficientnet_lite,
    "efficientnet_lite1": _efficientnet_lite,
    "efficientnet_lite2": _efficientnet_lite,
}
"""Encoders by name. Any network of timm that provides feature maps is also supported, as `timm/NAME`."""


def build_encoder(name: str, channels: int) -> nn.Module:
    """Build an encoder.

    Args:
        name: key of `ENCODERS`, or `timm/NAME`.
        channels: channels of the images.

    Raises:
        UserError: the name is unknown, or the network of timm does not provide feature maps.
    """
    if name.startswith("timm/"):
        return TimmEncoder(name, channels)
    if name not in ENCODERS:
        raise UserError(f"network.encoder: {name} is unknown; {did_you_mean(name, [*ENCODERS, 'timm/NAME'])}")
    return adapt_input_channels(ENCODERS[name](name), channels)
