"""What keeps lines straight but not angles: stretching and shearing."""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Tensor, by_level, measures
from stages.augmentations.rng import Stream
from stages.augmentations.similarity import about_middle
from stages.config.schema_base import Section


class Stretch(Section):
    """Longer along one axis, shorter along the other; the area stays."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest change of the ratio of the sides either way: 0.1 is 0.9 to 1.1 times."""


class Shear(Section):
    """Rows slide along each other."""

    degrees: Annotated[float, Field(ge=0, le=60)] = 5
    """Largest angle either way, degrees."""


def _stretch(amounts: Stretch, stream: Stream, size: int) -> Tensor:
    root_B = (1 + stream.either_way(amounts.change)).sqrt()
    return about_middle(torch.diag_embed(torch.stack([root_B, 1 / root_B], dim=1)), size)


def _shear(amounts: Shear, stream: Stream, size: int) -> Tensor:
    linear_B22 = torch.eye(2, device=stream.device).repeat(len(stream), 1, 1)
    linear_B22[:, 0, 1] = torch.deg2rad(stream.either_way(amounts.degrees)).tan()
    return about_middle(linear_B22, size)


STRETCH = Augmentation(Stretch, by_level(strong=Stretch()), unwise=measures, matrix=_stretch)
SHEAR = Augmentation(Shear, by_level(strong=Shear()), unwise=measures, matrix=_shear)
