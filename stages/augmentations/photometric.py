"""What a lens, a sensor or a file format does to pixels, beyond what is linear."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import torch
from kornia.enhance import adjust_gamma, jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Data, Tensor, by_level, one_picture
from stages.augmentations.rng import Stream
from stages.config.schema_base import Section, Share

OFFSETS = 2**20  # places at which a stretch of noise may begin
POISSON_MOST = 1e6  # photons, far beyond which nothing is to be seen


class Gamma(Section):
    """A curve through black and white."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest change of the exponent either way: 0.2 is 1/1.2 to 1.2."""


class Blur(Section):
    """A lens out of focus, as a Gaussian."""

    deviation: Annotated[float, Field(ge=0, le=20)] = 1.0
    """Largest standard deviation, working pixels."""
    chance: Share = 0.2
    """How often, 0 to 1."""


class Noise(Section):
    """Gaussian, of each pixel and channel for itself."""

    deviation: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Standard deviation; white is 1."""


class Poisson(Section):
    """The noise of counted light: it grows with the root of the level."""

    photons: Annotated[float, Field(gt=0, le=POISSON_MOST)] = 100
    """Fewest that make white; up to ten times as many are drawn, evenly by the logarithm."""
    chance: Share = 1.0
    """How often, 0 to 1."""


class Jpeg(Section):
    """The blocks and ripples of a saved photo."""

    quality: Annotated[float, Field(ge=5, le=95)] = 40
    """Lowest quality, 5 to 95; drawn from there to 95."""
    chance: Share = 0.2
    """How often, 0 to 1."""


def some(chosen_B: Tensor, image_BCSS: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change some images of a batch in place; the others cost nothing."""
    if bool(chosen_B.all()):
        return change(image_BCSS)
    if bool(chosen_B.any()):
        image_BCSS[chosen_B] = change(image_BCSS[chosen_B])
    return image_BCSS


def _gamma(amounts: Gamma, stream: Stream, image_BCSS: Tensor) -> Tensor:
    most = torch.tensor(1 + amounts.change).log()
    return adjust_gamma(image_BCSS, (stream.either_way(1.0) * most).exp())


def _blur(amounts: Blur, stream: Stream, image_BCSS: Tensor) -> Tensor:
    chosen_B, deviation_B = stream.happens(amounts.chance), stream.between(0.1, max(0.1, amounts.deviation))
    side = min(2 * int(3 * amounts.deviation + 0.5) + 1, 2 * (image_BCSS.shape[2] // 2) - 1)
    deviation_B2 = deviation_B[chosen_B, None].expand(-1, 2)
    return some(chosen_B, image_BCSS, lambda image: gaussian_blur2d(image, (side, side), deviation_B2))


@lru_cache(maxsize=2)
def _bank(values: int, device: torch.device) -> Tensor:
    """Normal numbers, made once: an image takes a stretch that begins where its draw says."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(values + OFFSETS, generator=generator).to(device)


def _noise(amounts: Noise, stream: Stream, image_BCSS: Tensor) -> Tensor:
    values = image_BCSS[0].numel()
    bank = _bank(values, image_BCSS.device)
    for image_CSS, offset in zip(image_BCSS, stream.whole(OFFSETS), strict=True):
        image_CSS.add_(bank[offset : offset + values].view_as(image_CSS), alpha=amounts.deviation)
    return image_BCSS


def _poisson(amounts: Poisson, stream: Stream, image_BCSS: Tensor) -> Tensor:
    chosen_B, photons_B = stream.happens(amounts.chance), amounts.photons * 10 ** stream.between(0, 1)
    each = zip(image_BCSS, chosen_B.tolist(), photons_B.tolist(), stream.generators(), strict=True)
    for image_CSS, chosen, photons, generator in each:
        if chosen:
            image_CSS.copy_(torch.poisson(image_CSS.clamp(0, 1) * photons, generator) / photons)
    return image_BCSS


def _jpeg(amounts: Jpeg, stream: Stream, image_BCSS: Tensor) -> Tensor:
    chosen_B, quality_B = stream.happens(amounts.chance), stream.between(amounts.quality, 95)

    def saved(image: Tensor) -> Tensor:
        colour = jpeg_codec_differentiable(image.expand(-1, 3, -1, -1).clamp(0, 1), quality_B[chosen_B])
        return colour if image.shape[1] == 3 else colour.mean(dim=1, keepdim=True)

    return some(chosen_B, image_BCSS, saved)


def _grey_or_colour(data: Data) -> str:
    channels = data.spec.channels
    return "" if channels in (1, 3) else f"the images have {channels} channels, JPEG has 1 or 3"


GAMMA = Augmentation(
    Gamma,
    by_level(strong=Gamma()),
    unwise=one_picture,
    breaks=("brightness", "contrast"),
    pixels=_gamma,
)
BLUR = Augmentation(Blur, by_level(strong=Blur()), unwise=one_picture, breaks=("sharpness",), pixels=_blur)
NOISE = Augmentation(
    Noise,
    by_level(light=Noise(deviation=0.01), standard=Noise(), strong=Noise(deviation=0.03)),
    unwise=one_picture,
    breaks=("sharpness",),
    pixels=_noise,
)
POISSON = Augmentation(Poisson, by_level(), unwise=one_picture, breaks=("sharpness",), pixels=_poisson)
JPEG = Augmentation(
    Jpeg, by_level(), impossible=_grey_or_colour, unwise=one_picture, breaks=("sharpness",), pixels=_jpeg
)
