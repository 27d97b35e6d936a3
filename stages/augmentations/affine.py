"""Affine augmentations that do not preserve angles: crop, stretch and shear."""

import math
from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Tensor, by_level, geometry_alters_target
from stages.augmentations.rng import RandomStream
from stages.augmentations.similarity import about_centre
from stages.config.schema_base import Section
from stages.core.shapes import Float


class Crop(Section):
    """Cut out a random rectangle and resize it to the working size (Szegedy et al. 2015)."""

    area: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Minimum area of the rectangle, share of the image area; the area is uniform between it and 1."""
    aspect: Annotated[float, Field(ge=1, le=4)] = 1.33
    """Maximum change of the aspect ratio, in either direction, log-uniform: 1.33 means 1/1.33 to 1.33 times."""


class Stretch(Section):
    """Stretch along one axis and shrink along the other; the area is unchanged."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Maximum change of the aspect ratio, in either direction: 0.1 means 0.9 to 1.1 times."""


class Shear(Section):
    """Shift each row horizontally in proportion to its height in the image."""

    degrees: Annotated[float, Field(ge=0, le=60)] = 5
    """Maximum angle in either direction, degrees."""


def _crop(amounts: Crop, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    """Return the map of a random rectangle to the whole image; the rectangle is always inside the image.

    Aspect ratios at which a rectangle of the drawn area would not fit into the image are left out, so that the area
    keeps its distribution.
    """
    area_B = stream.uniform(amounts.area, 1.0)
    most_B = (-area_B.log()).clamp(0, math.log(amounts.aspect))
    aspect_B = (stream.symmetric(1.0) * most_B).exp()
    side_B2 = torch.stack([(area_B * aspect_B).sqrt(), (area_B / aspect_B).sqrt()], dim=1).clamp(max=1.0)
    low_B2 = stream.uniform(0, 1, 2) * (1 - side_B2) * size - 0.5  # left and upper edge, pixels
    matrix_B33 = torch.diag_embed(torch.nn.functional.pad(1 / side_B2, (0, 1), value=1.0))
    matrix_B33[:, :2, 2] = -low_B2 / side_B2 - 0.5
    return matrix_B33


def _stretch(amounts: Stretch, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    root_B = (1 + stream.symmetric(amounts.change)).sqrt()
    return about_centre(torch.diag_embed(torch.stack([root_B, 1 / root_B], dim=1)), size)


def _shear(amounts: Shear, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    linear_B22 = torch.eye(2, device=stream.device).repeat(len(stream), 1, 1)
    linear_B22[:, 0, 1] = torch.deg2rad(stream.symmetric(amounts.degrees)).tan()
    return about_centre(linear_B22, size)


CROP = Augmentation(Crop, by_level(), unwise=geometry_alters_target, matrix=_crop)
STRETCH = Augmentation(Stretch, by_level(strong=Stretch()), unwise=geometry_alters_target, matrix=_stretch)
SHEAR = Augmentation(Shear, by_level(strong=Shear()), unwise=geometry_alters_target, matrix=_shear)
