"""Labels follow the pixels: what is learned from an image goes through the same warp.

Axes: B images, P points, M things, S working size. Points in working pixels, centre of the first pixel 0.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from stages.augmentations.warp import Warp
from stages.dataset.annotations import IGNORE_INDEX

Things = dict[str, torch.Tensor]
ROUND = 32  # points around a box
LEAST_LEFT = 0.2  # of a thing: a sliver of a thing cannot be told for what it is


def move(kind: str, target: Any, warp: Warp, swap: Sequence[int] = ()) -> Any:
    """What is stored to learn from, moved as the image was.

    Args:
        kind: how it is stored, as `Representation.stores` has it.
        target: a batch of it; of things a list of dicts of boxes [M, 4], labels [M] and perhaps masks [M, S, S].
        warp: as `Policy` gives it.
        swap: for each point the one that takes its name in a mirrored image.
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
            return [_things(one, warp.only(index)) for index, one in enumerate(target)]
        case _:  # index, vector: what is said of the whole image
            return target


def _points(xy_BP2: torch.Tensor, warp: Warp, swap: Sequence[int]) -> torch.Tensor:
    """Points that leave the image become missing."""
    moved_BP2 = warp.points(xy_BP2)
    inside_BP = ((moved_BP2 > -0.5) & (moved_BP2 < warp.size - 0.5)).all(dim=2, keepdim=True)
    moved_BP2 = torch.where(inside_BP, moved_BP2, torch.nan)
    if swap:
        moved_BP2 = torch.where(warp.mirrored_B[:, None, None], moved_BP2[:, list(swap)], moved_BP2)
    return moved_BP2


def _things(things: Things, warp: Warp) -> Things:
    """Boxes tight around the moved masks, or around the ellipse in the box; what has left the image is dropped.

    Of a thing that turns, the corners of its box say too much; the ellipse that fills the box stays nearer to the thing
    (Kalra et al. 2021, "Towards rotation invariance in object detection").
    """
    if "masks" in things:
        mask_MSS = old_MSS = things["masks"].bool()
        if len(old_MSS):
            mask_MSS = warp.sample(old_MSS[None].float(), "nearest", "zeros")[0] > 0.5
        whole_M = old_MSS.flatten(1).sum(dim=1) * warp.matrix_B33[0, :2, :2].det().abs()
        kept_M = mask_MSS.flatten(1).sum(dim=1) > (LEAST_LEFT * whole_M).floor()
        mask_MSS = mask_MSS[kept_M]
        box_M4 = _boxes_of(mask_MSS)
        return {"boxes": box_M4, "labels": things["labels"][kept_M], "masks": mask_MSS.to(torch.uint8)}
    if not len(things["boxes"]):
        return things
    low_M2, high_M2 = things["boxes"][:, :2] - 0.5, things["boxes"][:, 2:] - 0.5  # edges as points
    angle_R = torch.arange(ROUND, device=low_M2.device) * (2 * math.pi / ROUND)
    circle_R2 = torch.stack([angle_R.cos(), angle_R.sin()], dim=1)
    round_MR2 = ((low_M2 + high_M2) / 2)[:, None] + ((high_M2 - low_M2) / 2)[:, None] * circle_R2
    moved_MR2 = warp.points(round_MR2.reshape(1, -1, 2)).reshape(-1, ROUND, 2) + 0.5
    whole_M4 = torch.cat([moved_MR2.amin(dim=1), moved_MR2.amax(dim=1)], dim=1)
    box_M4 = whole_M4.clamp(0, warp.size)
    kept_M = _area(box_M4) > LEAST_LEFT * _area(whole_M4)
    return {"boxes": box_M4[kept_M], "labels": things["labels"][kept_M]}


def _area(box_M4: torch.Tensor) -> torch.Tensor:
    return (box_M4[:, 2] - box_M4[:, 0]).clamp(min=0) * (box_M4[:, 3] - box_M4[:, 1]).clamp(min=0)


def _boxes_of(mask_MSS: torch.Tensor) -> torch.Tensor:
    """[M, 4] tight boxes, edges, of masks that are not empty."""
    if not len(mask_MSS):
        return mask_MSS.new_zeros((0, 4), dtype=torch.float32)
    from torchvision.ops import masks_to_boxes

    box_M4 = masks_to_boxes(mask_MSS)
    box_M4[:, 2:] += 1
    return box_M4
