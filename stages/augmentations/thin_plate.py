"""Thin-plate splines: the corners and the middle are pulled, the rest bends as little as it can (Bookstein 1989)."""

from typing import Annotated

import torch
from kornia.geometry.transform import get_tps_transform, warp_points_tps
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Scene, Tensor, by_level, measures
from stages.augmentations.rng import Stream
from stages.config.schema_base import Section, Share

PULLED = ((-0.5, -0.5), (0.5, -0.5), (0.0, 0.0), (-0.5, 0.5), (0.5, 0.5))
"""Middles of the quarters and of the image, where it is 2 wide: at the corners most of the pull would be outside."""


class ThinPlate(Section):
    """As a thin sheet of metal, bent."""

    share: Annotated[float, Field(ge=0, le=0.3)] = 0.05
    """Largest pull either way, share of the side, 0 to 0.3."""
    chance: Share = 1.0
    """How often, 0 to 1."""


def _field(amounts: ThinPlate, stream: Stream, at_BNN2: Tensor, scene: Scene) -> Tensor:
    pull_B1 = 2 * amounts.share * stream.happens(amounts.chance)[:, None, None]
    rest_BP2 = torch.tensor(PULLED, device=stream.device).expand(len(stream), -1, -1)
    pulled_BP2 = rest_BP2 + stream.either_way(1.0, len(PULLED), 2) * pull_B1
    kernel_BP2, affine_B32 = get_tps_transform(rest_BP2, pulled_BP2)
    place_BX2 = ((at_BNN2 + 0.5) / scene.size * 2 - 1).flatten(1, 2)
    moved_BX2 = warp_points_tps(place_BX2, rest_BP2, kernel_BP2, affine_B32)
    return ((moved_BX2 - place_BX2) * scene.size / 2).reshape(at_BNN2.shape)


THIN_PLATE = Augmentation(
    ThinPlate,
    by_level(strong=ThinPlate(share=0.05, chance=0.5)),
    unwise=measures,
    spans=lambda amounts, size: 16,
    field=_field,
)
