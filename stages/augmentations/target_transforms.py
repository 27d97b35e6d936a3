"""Transformation of training targets by the warp of their images.

Axes: B images, P points, M objects, S working size. Points are in working pixels; the centre of the first pixel is 0.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from stages.augmentations.warp import Warp
from stages.core.shapes import Bool, Float
from stages.dataset.annotations import IGNORE_INDEX

Objects = dict[str, torch.Tensor]
ROUND = 32  # number of points on the ellipse inscribed in a box
LEAST_LEFT = 0.2  # minimum share of an object's area inside the image; objects with less are dropped


def transform_targets(kind: str, target: Any, warp: Warp, swap: Sequence[int] = ()) -> Any:
    """Transform a batch of training targets by the warp of its images.

    Args:
        kind: storage format of the target, see `Representation.stores`.
        target: batch of targets; objects are a list of dicts: boxes [M, 4] (edges x0, y0, x1, y1), labels [M] and
            optional masks [M, S, S].
        warp: warp returned by `Policy`.
        swap: index of the point that takes each point's place in a mirrored image, [P]; empty if no points swap.

    Returns:
        The transformed targets in the same format. Points that leave the image are NaN; objects mostly outside are
        dropped.
    """
    match kind:
        case "points":
            return _points(target, warp, swap)
        case "labels":
            return warp.sample(target[:, None].float(), "nearest", beyond=IGNORE_INDEX)[:, 0].round().long()
        case "ids":
            return warp.sample(target[:, None].float(), "nearest")[:, 0].round().long()
        case "density":
            return warp.sample(target.float(), "bilinear", "zeros") * warp.area_BSS[:, None]
        case "image":
            return warp.sample(target.float(), "bilinear")
        case "things":
            return [_objects(one, warp.only(index)) for index, one in enumerate(target)]
        case _:  # index, vector: labels of the whole image
            return target


def _points(xy_BP2: Float[torch.Tensor, "B P 2"], warp: Warp, swap: Sequence[int]) -> Float[torch.Tensor, "B P 2"]:
    """Transform points and swap those of mirrored images; points that leave the image become NaN."""
    moved_BP2 = warp.points(xy_BP2)
    inside_BP = ((moved_BP2 > -0.5) & (moved_BP2 < warp.size - 0.5)).all(dim=2, keepdim=True)
    moved_BP2 = torch.where(inside_BP, moved_BP2, torch.nan)
    if swap:
        moved_BP2 = torch.where(warp.mirrored_B[:, None, None], moved_BP2[:, list(swap)], moved_BP2)
    return moved_BP2


def _objects(objects: Objects, warp: Warp) -> Objects:
    """Transform objects; the new boxes are tight around the moved masks, or the moved ellipses inscribed in the boxes.

    Objects with at most the share `LEAST_LEFT` of their area inside the image are dropped.

    Rotating the corners of a box overestimates the extent of the object; the inscribed ellipse approximates it better
    (Kalra et al. 2021, "Towards rotation invariance in object detection").
    """
    if "masks" in objects:
        mask_MSS = old_MSS = objects["masks"].bool()
        if len(old_MSS):
            mask_MSS = warp.sample(old_MSS[None].float(), "nearest", "zeros")[0] > 0.5
        whole_M = old_MSS.flatten(1).sum(dim=1) * warp.matrix_B33[0, :2, :2].det().abs()
        kept_M = mask_MSS.flatten(1).sum(dim=1) > (LEAST_LEFT * whole_M).floor()
        mask_MSS = mask_MSS[kept_M]
        box_M4 = _boxes_of(mask_MSS)
        return {"boxes": box_M4, "labels": objects["labels"][kept_M], "masks": mask_MSS.to(torch.uint8)}
    if not len(objects["boxes"]):
        return objects
    low_M2, high_M2 = objects["boxes"][:, :2] - 0.5, objects["boxes"][:, 2:] - 0.5  # edges as points
    angle_R = torch.arange(ROUND, device=low_M2.device) * (2 * math.pi / ROUND)
    circle_R2 = torch.stack([angle_R.cos(), angle_R.sin()], dim=1)
    round_MR2 = ((low_M2 + high_M2) / 2)[:, None] + ((high_M2 - low_M2) / 2)[:, None] * circle_R2
    moved_MR2 = warp.points(round_MR2.reshape(1, -1, 2)).reshape(-1, ROUND, 2) + 0.5
    whole_M4 = torch.cat([moved_MR2.amin(dim=1), moved_MR2.amax(dim=1)], dim=1)
    box_M4 = whole_M4.clamp(0, warp.size)
    kept_M = _area(box_M4) > LEAST_LEFT * _area(whole_M4)
    return {"boxes": box_M4[kept_M], "labels": objects["labels"][kept_M]}


def _area(box_M4: Float[torch.Tensor, "M 4"]) -> Float[torch.Tensor, " M"]:
    return (box_M4[:, 2] - box_M4[:, 0]).clamp(min=0) * (box_M4[:, 3] - box_M4[:, 1]).clamp(min=0)


def _boxes_of(mask_MSS: Bool[torch.Tensor, "M S S"]) -> Float[torch.Tensor, "M 4"]:
    """Return tight boxes of non-empty masks, as pixel edges."""
    if not len(mask_MSS):
        return mask_MSS.new_zeros((0, 4), dtype=torch.float32)
    from torchvision.ops import masks_to_boxes

    box_M4 = masks_to_boxes(mask_MSS)
    box_M4[:, 2:] += 1
    return box_M4
