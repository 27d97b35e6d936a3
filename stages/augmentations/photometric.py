"""Photometric augmentations other than channel matrices: gamma, blur, sensor noise and JPEG artefacts."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import torch
from kornia.enhance import adjust_gamma, jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, AugmentationData, Tensor, by_level, predicts_image
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section, Share
from stages.core.shapes import Bool, Float

OFFSETS = 2**20  # possible start positions in the bank of noise
POISSON_MOST = 1e6  # maximum number of photons; the noise is invisible with far fewer


class Gamma(Section):
    """Gamma correction: raise grey levels to a random power; black and white are unchanged."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Maximum change of the exponent: 0.2 means 1/1.2 to 1.2."""


class Blur(Section):
    """Gaussian blur, similar to that of a lens out of focus."""

    deviation: Annotated[float, Field(ge=0, le=20)] = 1.0
    """Maximum standard deviation, working pixels."""
    chance: Share = 0.2
    """Probability per image, 0 to 1."""


class Noise(Section):
    """Gaussian noise, independent for each pixel and channel."""

    deviation: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Standard deviation; white is 1."""


class Poisson(Section):
    """Photon (shot) noise: its standard deviation grows with the square root of the level."""

    photons: Annotated[float, Field(gt=0, le=POISSON_MOST)] = 100
    """Minimum number of photons at white; each image has 1 to 10 times as many, drawn log-uniformly."""
    chance: Share = 1.0
    """Probability per image, 0 to 1."""


class Jpeg(Section):
    """JPEG compression artefacts."""

    quality: Annotated[float, Field(ge=5, le=95)] = 40
    """Minimum quality, 5 to 95; the quality of each image is drawn uniformly between the minimum and 95."""
    chance: Share = 0.2
    """Probability per image, 0 to 1."""


def apply_to_chosen(
    chosen_B: Bool[Tensor, " B"], image_BCSS: Float[Tensor, "B C S S"], change: Callable[[Tensor], Tensor]
) -> Float[Tensor, "B C S S"]:
    """Apply a change to the chosen images of a batch and return the batch, which may be modified in place.

    Args:
        chosen_B: whether each image is changed.
        image_BCSS: the batch.
        change: function that returns changed images [N, C, S, S].
    """
    if bool(chosen_B.all()):
        return change(image_BCSS)
    if bool(chosen_B.any()):
        image_BCSS[chosen_B] = change(image_BCSS[chosen_B])
    return image_BCSS


def _gamma(amounts: Gamma, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    most = torch.tensor(1 + amounts.change).log()
    return adjust_gamma(image_BCSS, (stream.symmetric(1.0) * most).exp())


def _blur(amounts: Blur, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    chosen_B, deviation_B = stream.bernoulli(amounts.chance), stream.uniform(0.1, max(0.1, amounts.deviation))
    side = min(2 * int(3 * amounts.deviation + 0.5) + 1, 2 * (image_BCSS.shape[2] // 2) - 1)
    deviation_B2 = deviation_B[chosen_B, None].expand(-1, 2)
    return apply_to_chosen(chosen_B, image_BCSS, lambda image: gaussian_blur2d(image, (side, side), deviation_B2))


@lru_cache(maxsize=2)
def _bank(values: int, device: torch.device) -> Float[Tensor, " N"]:
    """Return `values + OFFSETS` standard normal numbers, the same in every call; each image uses a random section."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(values + OFFSETS, generator=generator).to(device)


def _noise(amounts: Noise, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    values = image_BCSS[0].numel()
    bank = _bank(values, image_BCSS.device)
    for image_CSS, offset in zip(image_BCSS, stream.integers(OFFSETS), strict=True):
        image_CSS.add_(bank[offset : offset + values].view_as(image_CSS), alpha=amounts.deviation)
    return image_BCSS


def _poisson(amounts: Poisson, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    chosen_B, photons_B = stream.bernoulli(amounts.chance), amounts.photons * 10 ** stream.uniform(0, 1)
    each = zip(image_BCSS, chosen_B.tolist(), photons_B.tolist(), stream.generators(), strict=True)
    for image_CSS, chosen, photons, generator in each:
        if chosen:
            image_CSS.copy_(torch.poisson(image_CSS.clamp(0, 1) * photons, generator) / photons)
    return image_BCSS


def _jpeg(amounts: Jpeg, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    chosen_B, quality_B = stream.bernoulli(amounts.chance), stream.uniform(amounts.quality, 95)

    def compress(image: Float[Tensor, "N C S S"]) -> Float[Tensor, "N C S S"]:
        colour = jpeg_codec_differentiable(image.expand(-1, 3, -1, -1).clamp(0, 1), quality_B[chosen_B])
        return colour if image.shape[1] == 3 else colour.mean(dim=1, keepdim=True)

    return apply_to_chosen(chosen_B, image_BCSS, compress)


def _requires_grey_or_colour(data: AugmentationData) -> str:
    channels = data.spec.channels
    return "" if channels in (1, 3) else f"the images have {channels} channels; JPEG supports 1 or 3"


GAMMA = Augmentation(
    Gamma,
    by_level(strong=Gamma()),
    unwise=predicts_image,
    breaks=("brightness", "contrast"),
    pixels=_gamma,
)
BLUR = Augmentation(Blur, by_level(strong=Blur()), unwise=predicts_image, breaks=("sharpness",), pixels=_blur)
NOISE = Augmentation(
    Noise,
    by_level(light=Noise(deviation=0.01), standard=Noise(), strong=Noise(deviation=0.03)),
    unwise=predicts_image,
    breaks=("sharpness",),
    pixels=_noise,
)
POISSON = Augmentation(Poisson, by_level(), unwise=predicts_image, breaks=("sharpness",), pixels=_poisson)
JPEG = Augmentation(
    Jpeg, by_level(), impossible=_requires_grey_or_colour, unwise=predicts_image, breaks=("sharpness",), pixels=_jpeg
)
