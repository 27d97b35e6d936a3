"""What it takes to build a network again."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkConfig:
    """Plain values, kept in checkpoints."""

    name: str
    """Key of `NETWORKS`, or timm/NAME."""
    encoder: str
    """Of unet and mask_rcnn: plain, or the name of a network that gives one answer an image."""
    channels: int
    """Of the images."""
    outputs: int
    norm: str
    """batch, group or none."""
    dropout: float
    """Share of features dropped before the last layer, 0 to 1."""
    size: int
    """Working size, pixels."""
    masks: bool = False
    """Of mask_rcnn: masks, not boxes alone."""
    feature_noise: float = 0.0
    """Deviation around 1 of the noise by which features before the last layer are multiplied."""
    stochastic_depth: float = 0.0
    """Share of images that leave the last residual block out."""
