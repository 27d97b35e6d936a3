"""Linear changes of brightness and colour, composed into one channel matrix and offset per image."""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, AugmentationData, Tensor, by_level, predicts_image
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section
from stages.core.plurals import quantity
from stages.core.shapes import Float

_Levels = tuple[Float[Tensor, "B C C"], Float[Tensor, "B 1"]]
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601), as in Kornia
MAX_SKILL_LOSS = 0.2  # share of a class probe's skill that grey images may lose
GREY_AXIS = 3**-0.5
TWICE = 2.0
"""Maximum shift s over the difference g between two classes that removes most of the difference.

Uniform shifts in -s..s give an AUC of 1 - (2 - g / s)^2 / 8: 0.72 at s = 2 g.
"""


class Brightness(Section):
    """Add a constant to all grey levels."""

    shift: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Maximum shift in either direction; white is 1."""


class Contrast(Section):
    """Multiply all grey levels by a constant."""

    change: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Maximum relative change in either direction: 0.1 means 0.9 to 1.1 times."""


class Saturation(Section):
    """Move colours towards or away from grey."""

    change: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Maximum relative change of the distance from grey: 0.1 means 0.9 to 1.1 times."""


class Hue(Section):
    """Rotate all colours about the grey axis."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 10
    """Maximum angle in either direction, degrees."""


class Tint(Section):
    """Multiply each channel by its own factor, as a change of the illumination does."""

    change: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Maximum relative change of a channel: 0.1 means 0.9 to 1.1 times."""


def requires_colour(data: AugmentationData) -> str:
    """Return why colours cannot be changed; empty for images with three channels."""
    return "" if data.spec.channels == 3 else f"the images have {quantity(data.spec.channels, 'channel')}, not 3"


def alters_informative_colour(data: AugmentationData) -> str:
    """Return why changes of the hue work against the signal; empty unless classes are determined by colours."""
    lost = data.symmetry_score_drop.get("grey", 0.0)
    if lost > MAX_SKILL_LOSS:
        return f"a class probe loses {lost:.0%} of its skill on grey images: colours may determine the class"
    return predicts_image(data)


def _brightness(amounts: Brightness, stream: RandomStream, channels: int) -> _Levels:
    shift_B1 = stream.symmetric(amounts.shift, 1)
    return torch.ones((len(stream), 1, 1), device=stream.device), shift_B1


def _contrast(amounts: Contrast, stream: RandomStream, channels: int) -> _Levels:
    return _linear(1 + stream.symmetric(amounts.change, 1, 1))


def _saturation(amounts: Saturation, stream: RandomStream, channels: int) -> _Levels:
    factor_B11 = 1 + stream.symmetric(amounts.change, 1, 1)
    grey_33 = torch.tensor(LUMA, device=stream.device).expand(3, 3)
    return _linear(factor_B11 * torch.eye(3, device=stream.device) + (1 - factor_B11) * grey_33)


def _hue(amounts: Hue, stream: RandomStream, channels: int) -> _Levels:
    """Return the matrix that rotates colours about the grey axis (1, 1, 1), by Rodrigues' formula, and a shift of 0.

    Unlike a hue shift in HSV, the rotation is linear (Haeberli 1993).
    """
    angle_B11 = torch.deg2rad(stream.symmetric(amounts.degrees, 1, 1))
    axis_33 = GREY_AXIS * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=stream.device)
    all_33, one_33 = torch.full((3, 3), 1 / 3, device=stream.device), torch.eye(3, device=stream.device)
    return _linear(all_33 + angle_B11.cos() * (one_33 - all_33) + angle_B11.sin() * axis_33)


def _tint(amounts: Tint, stream: RandomStream, channels: int) -> _Levels:
    return _linear(torch.diag_embed(1 + stream.symmetric(amounts.change, channels)))


def _linear(gain: Float[Tensor, "B C C"]) -> _Levels:
    return gain, torch.zeros((len(gain), 1), device=gain.device)


BRIGHTNESS = Augmentation(
    Brightness,
    by_level(light=Brightness(shift=0.05), standard=Brightness(), strong=Brightness(shift=0.2)),
    unwise=predicts_image,
    breaks=("brightness", "darkest", "brightest", "border"),
    enough=lambda inside, outside: TWICE * abs(inside - outside) / 255,
    levels=_brightness,
)
CONTRAST = Augmentation(
    Contrast,
    by_level(light=Contrast(change=0.05), standard=Contrast(), strong=Contrast(change=0.25)),
    unwise=predicts_image,
    breaks=("contrast",),
    enough=lambda inside, outside: TWICE * abs(inside - outside) / max(inside + outside, 1) * 2,
    levels=_contrast,
)
SATURATION = Augmentation(
    Saturation,
    by_level(standard=Saturation(), strong=Saturation(change=0.3)),
    impossible=requires_colour,
    unwise=alters_informative_colour,
    levels=_saturation,
)
HUE = Augmentation(
    Hue,
    by_level(strong=Hue()),
    impossible=requires_colour,
    unwise=alters_informative_colour,
    breaks=("redness", "blueness"),
    levels=_hue,
)
TINT = Augmentation(
    Tint,
    by_level(strong=Tint()),
    impossible=requires_colour,
    unwise=alters_informative_colour,
    breaks=("redness", "blueness"),
    levels=_tint,
)
