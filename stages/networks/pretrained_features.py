"""Features of images from a network with packaged ImageNet weights, for linear models and comparisons of images."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from stages.core.shapes import Array, Float, UInt8
from stages.networks import packaged_weights
from stages.networks.classifiers import EFFICIENTNET_LITE, timm_network

NETWORK = "efficientnet_lite0"
SIDE = 160
"""Side of the images in pixels; of 128, 160, 192 and 224, see docs/why/baseline.md."""
COUNT = 1280
"""Number of features of an image."""
BATCH = 16


def pretrained_features(images: Iterable[UInt8[Array, "S S 3"]]) -> Iterator[Float[Array, "B 1280"]]:
    """Yield float32 features of batches of RGB images of `SIDE` pixels: the last feature maps, averaged over positions.

    Args:
        images: images, 0..255.

    Raises:
        UserError: the package with the weights is not installed, or its file is not the one that was reviewed.
    """
    network = timm_network(EFFICIENTNET_LITE[NETWORK], [], num_classes=0)
    state = packaged_weights.load_packaged_weights(NETWORK)
    network.load_state_dict({n: v for n, v in state.items() if not n.startswith("classifier.")})
    network.eval().to(memory_format=torch.channels_last)
    batch: list[UInt8[Array, "S S 3"]] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield _features(network, batch)
            batch = []
    if batch:
        yield _features(network, batch)


def _features(network: torch.nn.Module, batch: list[UInt8[Array, "S S 3"]]) -> Float[Array, "B 1280"]:
    pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255
    normalized = (pixels - packaged_weights.MEAN) / packaged_weights.DEVIATION
    with torch.inference_mode():
        found: Float[Array, "B 1280"] = network(normalized.contiguous(memory_format=torch.channels_last)).numpy()
    return found
