"""Labels follow the pixels: the matrix by which an image moved, applied to what is learned from it.

Axes: B images, P points, S working size. Points in working pixels, centre of the first pixel 0.
"""

from collections.abc import Sequence
from typing import Any

import torch
from kornia.geometry.transform import warp_affine

from stages.images.annotations import IGNORE

Things = dict[str, torch.Tensor]


def move(kind: str, target: Any, matrix_B33: torch.Tensor, size: int, outside: str, swap: Sequence[int] = ()) -> Any:
    """What is stored to learn from, moved as the image was.

    Args:
        kind: how it is stored, as `Representation.stores` has it.
        target: a batch of it; of things a list of dicts of boxes [M, 4], labels [M] and perhaps masks [M, S, S].
        matrix_B33: as `Policy` gives it.
        size: of the working image, pixels.
        outside: what the policy shows beyond the edge; labels beyond it are unknown where it is black.
        swap: for each point the one that takes its name in a mirrored image.
    """
    match kind:
        case "points":
            return _points(target, matrix_B33, size, swap)
        case "labels":
            return _map(target[:, None], matrix_B33, "nearest", outside, IGNORE)[:, 0].round().long()
        case "ids":
            return _map(target[:, None], matrix_B33, "nearest", outside, 0)[:, 0].round().long()
        case "density":
            shrunk_B = matrix_B33[:, :2, :2].det().abs()
            return _map(target, matrix_B33, "bilinear", "zeros", 0) / shrunk_B[:, None, None, None]
        case "image":
            return _map(target, matrix_B33, "bilinear", outside, 0)
        case "things":
            return [_things(one, m_33, size, outside) for one, m_33 in zip(target, matrix_B33, strict=True)]
        case _:  # index, vector: what is said of the whole image
            return target


def _points(xy_BP2: torch.Tensor, matrix_B33: torch.Tensor, size: int, swap: Sequence[int]) -> torch.Tensor:
    """Points that leave the image become missing."""
    moved_BP2 = _transform(xy_BP2, matrix_B33)
    inside_BP = ((moved_BP2 > -0.5) & (moved_BP2 < size - 0.5)).all(dim=2, keepdim=True)
    moved_BP2 = torch.where(inside_BP, moved_BP2, torch.nan)
    if swap:
        mirrored_B = matrix_B33[:, :2, :2].det() < 0
        moved_BP2 = torch.where(mirrored_B[:, None, None], moved_BP2[:, list(swap)], moved_BP2)
    return moved_BP2


def _transform(xy_BP2: torch.Tensor, matrix_B33: torch.Tensor) -> torch.Tensor:
    """Where points go; Kornia's matrices count from pixel centres, as we do."""
    known_BP3 = torch.nn.functional.pad(xy_BP2, (0, 1), value=1.0)
    return (known_BP3 @ matrix_B33.transpose(1, 2).to(xy_BP2))[..., :2]


def _map(value_BCSS: torch.Tensor, matrix_B33: torch.Tensor, mode: str, outside: str, beyond: float) -> torch.Tensor:
    size = value_BCSS.shape[-2], value_BCSS.shape[-1]
    shifted = value_BCSS.float() - beyond  # what comes in from outside is 0, hence `beyond`
    moved = warp_affine(
        shifted, matrix_B33[:, :2].to(shifted), size, mode=mode, padding_mode=outside, align_corners=False
    )
    return moved + beyond


def _things(things: Things, matrix_33: torch.Tensor, size: int, outside: str) -> Things:
    """Boxes tight around the moved masks, or around their moved corners; what has left the image is dropped."""
    if "masks" in things:
        mask_MSS = _map(things["masks"][None].float(), matrix_33[None], "nearest", "zeros", 0)[0] > 0.5
        kept_M = mask_MSS.flatten(1).any(dim=1)
        mask_MSS = mask_MSS[kept_M]
        box_M4 = _boxes_of(mask_MSS)
        return {"boxes": box_M4, "labels": things["labels"][kept_M], "masks": mask_MSS.to(torch.uint8)}
    x0, y0, x1, y1 = (things["boxes"] - 0.5).unbind(dim=1)  # corners as points
    corner_M42 = torch.stack([torch.stack(xy, dim=1) for xy in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], dim=1)
    moved_M42 = _transform(corner_M42.reshape(1, -1, 2), matrix_33[None]).reshape(-1, 4, 2) + 0.5
    whole_M4 = torch.cat([moved_M42.amin(dim=1), moved_M42.amax(dim=1)], dim=1) if len(x0) else things["boxes"]
    box_M4 = whole_M4.clamp(0, size)
    area_M, left_M = _area(whole_M4), _area(box_M4)
    kept_M = left_M > 0.2 * area_M  # a sliver of a thing cannot be told for what it is
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
