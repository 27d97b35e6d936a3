"""U-Net (Ronneberger, Fischer and Brox 2015) with any encoder, for per-pixel predictions."""

import torch
from torch import nn
from torch.nn import functional

from stages.networks.encoders import build_encoder
from stages.networks.network_config import NetworkConfig
from stages.networks.surgery import FeatureNoise, double_convolution

MULTIPLE = 32  # largest stride of a coarsest map, pixels
NARROWEST, WIDEST = 16, 256  # minimum and maximum channels of the decoder


class UNet(nn.Module):
    """U-Net with skip connections from the feature maps of an encoder.

    The decoder is our own, because existing libraries lack a GoogLeNet encoder or a choice of normalization.
    """

    def __init__(self, contracting: nn.Module, network_config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = contracting
        widths: list[int] = contracting.widths  # type: ignore[assignment]
        before, blocks = widths[-1], []
        for skip in reversed(widths[:-1]):
            after = min(max(skip, NARROWEST), WIDEST)
            blocks.append(double_convolution(before + skip, after))
            before = after
        self.expanding = nn.ModuleList(blocks)
        width = max(before // 2, NARROWEST)
        noise = FeatureNoise(network_config.feature_noise)
        self.last = nn.Sequential(double_convolution(before, width), nn.Dropout2d(network_config.dropout), noise)
        self.fc = nn.Conv2d(width, network_config.outputs, 1)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return [B, outputs, H, W] for images [B, C, H, W] of any size."""
        height, width = image_BCHW.shape[2:]
        down = (height + MULTIPLE - 1) // MULTIPLE * MULTIPLE - height
        right = (width + MULTIPLE - 1) // MULTIPLE * MULTIPLE - width
        padded = functional.pad(image_BCHW, (0, right, 0, down), mode="replicate")
        *skips, x_BCHW = self.encoder(padded)
        for block, skip_BCHW in zip(self.expanding, reversed(skips), strict=True):
            x_BCHW = functional.interpolate(x_BCHW, size=skip_BCHW.shape[2:], mode="nearest")
            x_BCHW = block(torch.cat([x_BCHW, skip_BCHW], dim=1))
        if self.encoder.strides[0] != 1:  # type: ignore[index]
            x_BCHW = functional.interpolate(x_BCHW, size=padded.shape[2:], mode="bilinear", align_corners=False)
        return self.fc(self.last(x_BCHW))[:, :, :height, :width]


def unet(network_config: NetworkConfig) -> nn.Module:
    """Build a U-Net with `network_config.encoder`.

    Raises:
        UserError: the encoder is unknown or does not provide feature maps.
    """
    return UNet(build_encoder(network_config.encoder, network_config.channels), network_config)
