"""Thin-plate spline deformation by five displaced control points, with minimal bending energy (Bookstein 1989)."""

from typing import Annotated

import torch
from kornia.geometry.transform import get_tps_transform, warp_points_tps
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Scene, Tensor, by_level, geometry_alters_target
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section, Share
from stages.core.shapes import Float

CONTROL_POINTS = ((-0.5, -0.5), (0.5, -0.5), (0.0, 0.0), (-0.5, 0.5), (0.5, 0.5))
"""Control points (x, y) in an image of side 2: centres of the quadrants and of the image.

At the corners most of the displacement would lie outside the image.
"""


class ThinPlate(Section):
    """Smooth deformation by displacing five control points."""

    share: Annotated[float, Field(ge=0, le=0.3)] = 0.05
    """Maximum displacement of a control point along each axis, share of the side, 0 to 0.3."""
    chance: Share = 1.0
    """Probability per image, 0 to 1."""


def _field(
    amounts: ThinPlate, stream: RandomStream, at_BNN2: Float[Tensor, "B N N 2"], scene: Scene
) -> Float[Tensor, "B N N 2"]:
    pull_B1 = 2 * amounts.share * stream.bernoulli(amounts.chance)[:, None, None]
    rest_BP2 = torch.tensor(CONTROL_POINTS, device=stream.device).expand(len(stream), -1, -1)
    pulled_BP2 = rest_BP2 + stream.symmetric(1.0, len(CONTROL_POINTS), 2) * pull_B1
    kernel_BP2, affine_B32 = get_tps_transform(rest_BP2, pulled_BP2)
    place_BX2 = ((at_BNN2 + 0.5) / scene.size * 2 - 1).flatten(1, 2)
    moved_BX2 = warp_points_tps(place_BX2, rest_BP2, kernel_BP2, affine_B32)
    return ((moved_BX2 - place_BX2) * scene.size / 2).reshape(at_BNN2.shape)


THIN_PLATE = Augmentation(
    ThinPlate,
    by_level(strong=ThinPlate(share=0.05, chance=0.5)),
    unwise=geometry_alters_target,
    spans=lambda amounts, size: 16,
    field=_field,
)
