"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition"), as torchvision builds them."""

from torch import nn


def resnet18(channels: int, classes: int, dropout: float) -> nn.Module:
    """ResNet-18 from random weights, for images of any number of channels.

    Args:
        channels: of the images.
        classes: number of outputs.
        dropout: share of the 512 pooled features dropped before the last layer, 0 to 1.
    """
    from torchvision import models  # some seconds, which stages that build no network need not wait

    network = models.resnet18(weights=None, num_classes=classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if dropout:
        network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return network
