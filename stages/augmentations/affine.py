"""Affine augmentations that do not preserve angles: stretch and shear."""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Tensor, by_level, geometry_alters_target
from stages.augmentations.rng import RandomStream
from stages.augmentations.similarity import about_centre
from stages.config.schema_base import Section
from stages.core.shapes import Float


class Stretch(Section):
    """Stretch along one axis and shrink along the other; the area is unchanged."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Maximum change of the aspect ratio, in either direction: 0.1 means 0.9 to 1.1 times."""


class Shear(Section):
    """Shift each row horizontally in proportion to its height in the image."""

    degrees: Annotated[float, Field(ge=0, le=60)] = 5
    """Maximum angle in either direction, degrees."""


def _stretch(amounts: Stretch, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    root_B = (1 + stream.symmetric(amounts.change)).sqrt()
    return about_centre(torch.diag_embed(torch.stack([root_B, 1 / root_B], dim=1)), size)


def _shear(amounts: Shear, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    linear_B22 = torch.eye(2, device=stream.device).repeat(len(stream), 1, 1)
    linear_B22[:, 0, 1] = torch.deg2rad(stream.symmetric(amounts.degrees)).tan()
    return about_centre(linear_B22, size)


STRETCH = Augmentation(Stretch, by_level(strong=Stretch()), unwise=geometry_alters_target, matrix=_stretch)
SHEAR = Augmentation(Shear, by_level(strong=Shear()), unwise=geometry_alters_target, matrix=_shear)
