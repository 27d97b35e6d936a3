"""Losses of masks and instances: cross-entropy and Dice per pixel. `losses.py` describes the interface.

Axes: B images, K classes, H and W working size.
"""

import torch
from torch.nn import functional

from stages.core.shapes import Float, Integer
from stages.dataset.annotations import IGNORE_INDEX
from stages.training.loss_context import Loss, LossContext

Tensor = torch.Tensor
BACKGROUND, INTERIOR, BOUNDARY = 0, 1, 2
BOUNDARY_WEIGHT = 2.0


def pixel_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per pixel of known class; 0 if no pixel of the batch has a known class."""

    def loss(raw_BKHW: Float[Tensor, "B K H W"], index_BHW: Integer[Tensor, "B H W"]) -> Float[Tensor, ""]:
        if not (index_BHW != IGNORE_INDEX).any():
            return raw_BKHW.sum() * 0
        return functional.cross_entropy(
            raw_BKHW, index_BHW, context.weight_K, ignore_index=IGNORE_INDEX, label_smoothing=context.label_smoothing
        )

    return loss


def _dice(raw_BKHW: Float[Tensor, "B K H W"], index_BHW: Integer[Tensor, "B H W"]) -> Float[Tensor, ""]:
    known_BHW = index_BHW != IGNORE_INDEX
    classes = raw_BKHW.shape[1]
    true_BKHW = functional.one_hot(torch.where(known_BHW, index_BHW, 0), classes).movedim(3, 1) * known_BHW[:, None]
    predicted_BKHW = raw_BKHW.softmax(dim=1) * known_BHW[:, None]
    overlap_K = (true_BKHW * predicted_BKHW).sum(dim=(0, 2, 3))
    total_K = true_BKHW.sum(dim=(0, 2, 3)) + predicted_BKHW.sum(dim=(0, 2, 3))
    present_K = true_BKHW.sum(dim=(0, 2, 3)) > 0
    each_K = 1 - 2 * overlap_K / total_K.clamp(min=1e-6)
    return (each_K * present_K).sum() / present_K.sum().clamp(min=1)


def dice(_: LossContext) -> Loss:
    """1 - Dice of the probabilities over the batch, averaged over the classes present in it (Milletari et al. 2016)."""
    return _dice


def cross_entropy_dice(context: LossContext) -> Loss:
    """Sum of cross-entropy, which has smooth gradients, and 1 - Dice, which is the score (Isensee et al. 2021)."""
    pixels = pixel_cross_entropy(context)
    return lambda raw_BKHW, index_BHW: pixels(raw_BKHW, index_BHW) + _dice(raw_BKHW, index_BHW)


def boundary_classes(id_BHW: Integer[Tensor, "B H W"]) -> Integer[Tensor, "B H W"]:
    """Return background, interior or boundary for each pixel of a map of instance numbers.

    A boundary pixel belongs to an instance and is adjacent to another number (Caicedo et al. 2019, "Nucleus
    segmentation across imaging experiments").

    >>> boundary_classes(torch.tensor([[[0, 1, 1, 1, 1]]]))
    tensor([[[0, 2, 1, 1, 1]]])
    """
    id_B1HW = id_BHW[:, None].float()
    highest = functional.max_pool2d(id_B1HW, 3, stride=1, padding=1)
    lowest = -functional.max_pool2d(-id_B1HW, 3, stride=1, padding=1)
    edge_BHW = (highest != lowest)[:, 0]
    return torch.where(id_BHW > 0, torch.where(edge_BHW, BOUNDARY, INTERIOR), BACKGROUND)


def _boundary_cross_entropy(raw_B3HW: Float[Tensor, "B 3 H W"], id_BHW: Integer[Tensor, "B H W"]) -> Float[Tensor, ""]:
    weight_3 = torch.tensor([1.0, 1.0, BOUNDARY_WEIGHT], device=raw_B3HW.device)
    return functional.cross_entropy(raw_B3HW, boundary_classes(id_BHW), weight_3)


def boundary_cross_entropy(_: LossContext) -> Loss:
    """Cross-entropy in nats per pixel of background, interior and boundary; boundary pixels have weight 2."""
    return _boundary_cross_entropy


def boundary_cross_entropy_dice(_: LossContext) -> Loss:
    """Sum of `boundary_cross_entropy` and 1 - Dice of background, interior and boundary."""
    return lambda raw_B3HW, id_BHW: (
        _boundary_cross_entropy(raw_B3HW, id_BHW) + _dice(raw_B3HW, boundary_classes(id_BHW))
    )
