"""U-Net (Ronneberger, Fischer and Brox 2015), with any encoder: an answer a pixel."""

import torch
from torch import nn
from torch.nn import functional

from stages.networks.encoders import encoder
from stages.networks.network_config import NetworkConfig
from stages.networks.surgery import FeatureNoise, convolve

MULTIPLE = 32  # pixels: what the coarsest map stands for
NARROWEST, WIDEST = 16, 256  # features of the decoder


class UNet(nn.Module):
    """Feature maps of an encoder, brought together again from the coarsest to the finest.

    Our own decoder: the libraries at hand lack GoogLeNet as an encoder, or a free choice of normalization.
    """

    def __init__(self, contracting: nn.Module, network_config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = contracting
        widths: list[int] = contracting.widths  # type: ignore[assignment]
        before, blocks = widths[-1], []
        for skip in reversed(widths[:-1]):
            after = min(max(skip, NARROWEST), WIDEST)
            blocks.append(convolve(before + skip, after))
            before = after
        self.expanding = nn.ModuleList(blocks)
        width = max(before // 2, NARROWEST)
        noise = FeatureNoise(network_config.feature_noise)
        self.last = nn.Sequential(convolve(before, width), nn.Dropout2d(network_config.dropout), noise)
        self.fc = nn.Conv2d(width, network_config.outputs, 1)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """[B, outputs, H, W] for any H and W."""
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
    """A U-Net with `blueprint.encoder`."""
    return UNet(encoder(network_config.encoder, network_config.channels), network_config)
