"""Configuration from which a network can be rebuilt."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture and size of a network, stored in `model.pt`."""

    name: str
    """Key of `NETWORKS`, or `timm/NAME`."""
    encoder: str
    """Encoder of unet and mask_rcnn: a key of `ENCODERS`, or `timm/NAME`."""
    channels: int
    """Channels of the images."""
    outputs: int
    """Number of outputs, per image or per pixel; for mask_rcnn, number of classes without the background."""
    norm: str
    """Normalization: batch, group or none."""
    dropout: float
    """Share of features dropped before the last layer, 0 to 1; not used by mask_rcnn."""
    size: int
    """Working size, pixels."""
    masks: bool = False
    """Whether mask_rcnn predicts masks in addition to boxes."""
    feature_noise: float = 0.0
    """Standard deviation of multiplicative Gaussian noise (mean 1) on the features before the last layer."""
    stochastic_depth: float = 0.0
    """Probability of skipping the last residual block, 0 to 1; lower for earlier blocks."""
