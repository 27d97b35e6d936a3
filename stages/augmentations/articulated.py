"""Articulated deformation: body parts rotate about their joints, and their surroundings follow smoothly.

Axes: K bones, H handles (control points on the bones), X positions. The bones found by `prepare` are rotated about
their joints, parents first. The map from the new pose back to the original is moving least squares with rigid
transformations (Schaefer, McPhail and Warren 2006). At each position it applies the rotation and translation that best
map the new handles to the original ones. Near handles and handles on thick parts have larger weights.
"""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import (
    Augmentation,
    AugmentationData,
    Scene,
    Tensor,
    by_level,
    geometry_alters_target,
)
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section, Share
from stages.core.shapes import Float, Integer

HANDLES = 5  # number along each bone
ANCHORS = 4  # number along each side of the image; they keep the background in place
ANCHOR_RADIUS = 0.02  # share of the side; small, so that bones outweigh the anchors
NEAR = 1.0  # working pixels; limits the weight of handles closer than that


class Articulated(Section):
    """Rotate the parts of an articulated figure about their joints by random angles."""

    degrees: Annotated[float, Field(ge=0, le=90)] = 15
    """Maximum joint angle in either direction, degrees; short parts rotate less (`stages.articulation.skeleton`)."""
    chance: Share = 1.0
    """Probability per image, 0 to 1."""


def _impossible(data: AugmentationData) -> str:
    return "" if data.bones else "the prepared images have no articulated parts (see prepare.articulated_parts)"


def _field(
    amounts: Articulated, stream: RandomStream, at_BNN2: Float[Tensor, "B N N 2"], scene: Scene
) -> Float[Tensor, "B N N 2"]:
    assert scene.bone_BK7 is not None, "impossible without bones"
    bones = scene.bone_BK7.shape[1]
    angle_BK = stream.symmetric(amounts.degrees, 16)[:, :bones]  # a fixed number of draws, independent of the batch
    angle_BK = angle_BK * stream.bernoulli(amounts.chance)[:, None]
    there_BK = scene.bone_BK7[..., 0].isfinite()
    if not there_BK.any():
        return torch.zeros_like(at_BNN2)
    bone_BK7 = scene.bone_BK7.nan_to_num()
    limit_BK = torch.where(there_BK & (bone_BK7[..., 5] >= 0), bone_BK7[..., 6], 0.0)
    end_BK22 = _moved(bone_BK7[..., :4].reshape(-1, bones, 2, 2), scene.matrix_B33)
    radius_BK = bone_BK7[..., 4] * scene.matrix_B33[:, :2, :2].det().abs().sqrt()[:, None]
    posed_BK22 = _posed(end_BK22, bone_BK7[..., 5].long(), torch.deg2rad(angle_BK * limit_BK))
    weight_BK = torch.where(there_BK, radius_BK**4 * (end_BK22[:, :, 1] - end_BK22[:, :, 0]).norm(dim=2), 0.0)
    old_BH2, new_BH2, weight_BH = _handles(end_BK22, posed_BK22, weight_BK, scene.size)
    place_BX2 = at_BNN2.flatten(1, 2)
    moved_BX2 = _least_squares(place_BX2, new_BH2, old_BH2, weight_BH, scene.size)
    there_B = there_BK.any(dim=1)[:, None, None]
    return torch.where(there_B, moved_BX2 - place_BX2, 0.0).reshape(at_BNN2.shape)


def _moved(end_BK22: Float[Tensor, "B K 2 2"], matrix_B33: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B K 2 2"]:
    return end_BK22 @ matrix_B33[:, None, :2, :2].mT + matrix_B33[:, None, None, :2, 2]


def _posed(
    end_BK22: Float[Tensor, "B K 2 2"], parent_BK: Integer[Tensor, "B K"], angle_BK: Float[Tensor, "B K"]
) -> Float[Tensor, "B K 2 2"]:
    """Return the ends of the bones in the new pose, by forward kinematics.

    Each bone rotates about its first end, which moves with its parent; bone 0 stays.
    """
    turn_BK, posed_BK22 = torch.zeros_like(angle_BK), end_BK22.clone()
    each_B = torch.arange(len(end_BK22), device=end_BK22.device)
    for bone in range(end_BK22.shape[1]):
        parent_B = parent_BK[:, bone].clamp(min=0)
        carried_B = parent_BK[:, bone] >= 0
        if bone:
            turn_BK[:, bone] = torch.where(carried_B, turn_BK[each_B, parent_B], 0.0) + angle_BK[:, bone]
            from_joint_B2 = end_BK22[:, bone, 0] - end_BK22[each_B, parent_B, 0]
            joint_B2 = posed_BK22[each_B, parent_B, 0] + _turned(from_joint_B2, turn_BK[each_B, parent_B])
            joint_B2 = torch.where(carried_B[:, None], joint_B2, end_BK22[:, bone, 0])
            along_B2 = _turned(end_BK22[:, bone, 1] - end_BK22[:, bone, 0], turn_BK[:, bone])
            posed_BK22[:, bone] = torch.stack([joint_B2, joint_B2 + along_B2], dim=1)
    return posed_BK22


def _turned(xy: Float[Tensor, "*P 2"], angle: Float[Tensor, "*P"]) -> Float[Tensor, "*P 2"]:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine * xy[..., 0] - sine * xy[..., 1], sine * xy[..., 0] + cosine * xy[..., 1]], dim=-1)


def _handles(
    end_BK22: Float[Tensor, "B K 2 2"], posed_BK22: Float[Tensor, "B K 2 2"], weight_BK: Float[Tensor, "B K"], size: int
) -> tuple[Float[Tensor, "B H 2"], Float[Tensor, "B H 2"], Float[Tensor, "B H"]]:
    """Return old positions, new positions and weights of the handles on the bones and of the anchors at the edge."""
    along_H = torch.linspace(0, 1, HANDLES, device=end_BK22.device)[:, None]
    old, new = (
        (ends[:, :, None, 0] * (1 - along_H) + ends[:, :, None, 1] * along_H).flatten(1, 2)
        for ends in (end_BK22, posed_BK22)
    )
    side = torch.linspace(-0.5, size - 0.5, ANCHORS + 1, device=end_BK22.device)[:-1]
    low, high = torch.full_like(side, -0.5), torch.full_like(side, size - 0.5)
    corners = [(side, low), (high, side), (size - 1 - side, high), (low, size - 1 - side)]
    anchor_BH2 = torch.cat([torch.stack(xy, dim=1) for xy in corners]).expand(len(end_BK22), -1, -1)
    held_BH = torch.full(anchor_BH2.shape[:2], (ANCHOR_RADIUS * size) ** 4 * size / ANCHORS, device=side.device)
    weight_BH = torch.cat([(weight_BK / HANDLES).repeat_interleave(HANDLES, dim=1), held_BH], dim=1)
    return torch.cat([old, anchor_BH2], dim=1), torch.cat([new, anchor_BH2], dim=1), weight_BH


def _least_squares(
    place_BX2: Float[Tensor, "B X 2"],
    from_BH2: Float[Tensor, "B H 2"],
    to_BH2: Float[Tensor, "B H 2"],
    weight_BH: Float[Tensor, "B H"],
    size: int,
) -> Float[Tensor, "B X 2"]:
    """Return positions moved by moving least squares with rigid transformations.

    With weights w = weight / (distance^2 + NEAR^2)^2, and the weighted means q* and p* of the handles q before and p
    after the movement, the angle is atan2(sum w (q - q*) x (p - p*), sum w (q - q*) . (p - p*)). All sums are computed
    as one product with a matrix [H, 7].
    """
    middle = size / 2
    q_BH2, p_BH2, place_BX2 = from_BH2 - middle, to_BH2 - middle, place_BX2 - middle
    near_BXH = torch.cdist(place_BX2, q_BH2, compute_mode="use_mm_for_euclid_dist").square_().add_(NEAR**2)
    share_BXH = near_BXH.square_().reciprocal_().mul_(weight_BH[:, None])
    dot_BH1 = (q_BH2 * p_BH2).sum(dim=2, keepdim=True)
    cross_BH1 = (q_BH2[..., :1] * p_BH2[..., 1:]) - (q_BH2[..., 1:] * p_BH2[..., :1])
    sums_BX7 = share_BXH @ torch.cat([q_BH2, p_BH2, dot_BH1, cross_BH1, torch.ones_like(dot_BH1)], dim=2)
    sums_BX6 = sums_BX7[..., :6] / sums_BX7[..., 6:]
    q_BX2, p_BX2, (dot_BX, cross_BX) = sums_BX6[..., :2], sums_BX6[..., 2:4], sums_BX6[..., 4:].unbind(dim=2)
    cosine_BX = dot_BX - (q_BX2 * p_BX2).sum(dim=2)
    sine_BX = cross_BX - (q_BX2[..., 0] * p_BX2[..., 1] - q_BX2[..., 1] * p_BX2[..., 0])
    return _turned(place_BX2 - q_BX2, torch.atan2(sine_BX, cosine_BX)) + p_BX2 + middle


ARTICULATED = Augmentation(
    Articulated,
    by_level(standard=Articulated(), strong=Articulated(degrees=30)),
    impossible=_impossible,
    unwise=geometry_alters_target,
    spans=lambda amounts, size: max(4, min(48, size // 2)),
    field=_field,
)
