"""Levels and colours that are linear in the pixel: all of them together are one matrix of the channels an image."""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Data, Tensor, by_level, one_picture
from stages.augmentations.rng import Stream
from stages.config.schema_base import Section

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as Kornia has it
GREY_AXIS = 3**-0.5
TWICE = 2.0
"""Even shifts of s either way leave classes that are g apart an AUC of 1 - (2 - g / s)^2 / 8: .72 at s = 2 g."""


class Brightness(Section):
    """The same added to all grey levels."""

    shift: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest shift either way; white is 1."""


class Contrast(Section):
    """All grey levels times the same."""

    change: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest relative change either way: 0.1 is 0.9 to 1.1 times."""


class Saturation(Section):
    """Towards grey or away from it."""

    change: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest relative change of the distance from grey either way: 0.1 is 0.9 to 1.1 times."""


class Hue(Section):
    """All colours turned about the grey axis."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 10
    """Largest angle either way, degrees."""


class Tint(Section):
    """Another light: each channel times its own factor."""

    change: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest relative change of a channel either way: 0.1 is 0.9 to 1.1 times."""


def in_colour(data: Data) -> str:
    """Why colours cannot be changed."""
    return "" if data.spec.channels == 3 else f"the images have {data.spec.channels} channel(s), not 3"


def _brightness(amounts: Brightness, stream: Stream, channels: int) -> tuple[Tensor, Tensor]:
    shift_B1 = stream.either_way(amounts.shift, 1)
    return torch.ones((len(stream), 1, 1), device=stream.device), shift_B1


def _contrast(amounts: Contrast, stream: Stream, channels: int) -> tuple[Tensor, Tensor]:
    return _linear(1 + stream.either_way(amounts.change, 1, 1))


def _saturation(amounts: Saturation, stream: Stream, channels: int) -> tuple[Tensor, Tensor]:
    factor_B11 = 1 + stream.either_way(amounts.change, 1, 1)
    grey_33 = torch.tensor(LUMA, device=stream.device).expand(3, 3)
    return _linear(factor_B11 * torch.eye(3, device=stream.device) + (1 - factor_B11) * grey_33)


def _hue(amounts: Hue, stream: Stream, channels: int) -> tuple[Tensor, Tensor]:
    """Rodrigues' formula about (1, 1, 1); unlike a turn in HSV it is linear (Haeberli 1993)."""
    angle_B11 = torch.deg2rad(stream.either_way(amounts.degrees, 1, 1))
    axis_33 = GREY_AXIS * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=stream.device)
    all_33, one_33 = torch.full((3, 3), 1 / 3, device=stream.device), torch.eye(3, device=stream.device)
    return _linear(all_33 + angle_B11.cos() * (one_33 - all_33) + angle_B11.sin() * axis_33)


def _tint(amounts: Tint, stream: Stream, channels: int) -> tuple[Tensor, Tensor]:
    return _linear(torch.diag_embed(1 + stream.either_way(amounts.change, channels)))


def _linear(gain: Tensor) -> tuple[Tensor, Tensor]:
    return gain, torch.zeros((len(gain), 1), device=gain.device)


BRIGHTNESS = Augmentation(
    Brightness,
    by_level(light=Brightness(shift=0.05), standard=Brightness(), strong=Brightness(shift=0.2)),
    unwise=one_picture,
    breaks=("brightness", "darkest", "brightest", "border"),
    enough=lambda inside, outside: TWICE * abs(inside - outside) / 255,
    levels=_brightness,
)
CONTRAST = Augmentation(
    Contrast,
    by_level(light=Contrast(change=0.05), standard=Contrast(), strong=Contrast(change=0.25)),
    unwise=one_picture,
    breaks=("contrast",),
    enough=lambda inside, outside: TWICE * abs(inside - outside) / max(inside + outside, 1) * 2,
    levels=_contrast,
)
SATURATION = Augmentation(
    Saturation,
    by_level(standard=Saturation(), strong=Saturation(change=0.3)),
    impossible=in_colour,
    unwise=one_picture,
    levels=_saturation,
)
HUE = Augmentation(
    Hue,
    by_level(strong=Hue()),
    impossible=in_colour,
    unwise=one_picture,
    breaks=("redness", "blueness"),
    levels=_hue,
)
TINT = Augmentation(
    Tint,
    by_level(strong=Tint()),
    impossible=in_colour,
    unwise=one_picture,
    breaks=("redness", "blueness"),
    levels=_tint,
)
