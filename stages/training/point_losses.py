"""Losses of points: coordinates, heatmaps and discs. `losses.py` describes the interface.

Axes: B images, P points, Q = 3 P, H and W working size. The coordinates of an invisible point are NaN.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from stages.core.shapes import Float
from stages.training.loss_context import Loss, LossContext

Tensor = torch.Tensor
VISIBILITY_WEIGHT = 0.1  # weight of the visibility relative to the position
OBJECT_WEIGHT = 0.1  # weight of the pixels of a blob or disc relative to those around it


def _coordinates(distance: Callable[..., Tensor], context: LossContext) -> Loss:
    """Return a loss of the coordinates of visible points and of the visibility of all points."""

    def loss(raw_BQ: Float[Tensor, "B Q"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
        raw_BP3 = raw_BQ.reshape(len(raw_BQ), -1, 3)
        visible_BP = xy_BP2.isfinite().all(dim=2)
        target_BP2 = (xy_BP2.nan_to_num() + 0.5) / context.spec.size * 2 - 1
        distance_BP = distance(raw_BP3[..., :2], target_BP2, reduction="none").sum(dim=2)
        position = (distance_BP * visible_BP).sum() / visible_BP.sum().clamp(min=1)
        visibility = functional.binary_cross_entropy_with_logits(raw_BP3[..., 2], visible_BP.float())
        return position + VISIBILITY_WEIGHT * visibility

    return loss


def coordinate_huber(context: LossContext) -> Loss:
    """Huber distance of points, where the working image has width 2, and cross-entropy of their visibility."""
    return _coordinates(functional.smooth_l1_loss, context)


def coordinate_l1(context: LossContext) -> Loss:
    """Absolute distance of points, where the working image has width 2, and cross-entropy of their visibility."""
    return _coordinates(functional.l1_loss, context)


def _squared_distance(raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, "B P H W"]:
    """Return the squared distance to each point in working pixels; infinite for invisible points."""
    y_H, x_W = (torch.arange(n, device=raw_BPHW.device).float() for n in raw_BPHW.shape[2:])
    x_BP, y_BP = xy_BP2.float().unbind(dim=2)
    squared = (y_H - y_BP[..., None])[..., :, None] ** 2 + (x_W - x_BP[..., None])[..., None, :] ** 2
    return squared.nan_to_num(nan=torch.inf)


def _blob(
    raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"], context: LossContext
) -> Float[Tensor, "B P H W"]:
    """Return a Gaussian of height 1 around each point."""
    return (-0.5 * _squared_distance(raw_BPHW, xy_BP2) / context.spec.radius**2).exp()


def _disc(
    raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"], context: LossContext
) -> Float[Tensor, "B P H W"]:
    """Return 1 inside the disc around each point and 0 outside."""
    return (_squared_distance(raw_BPHW, xy_BP2) <= context.spec.radius**2).float()


def _balanced_mean(each_BPHW: Float[Tensor, "B P H W"], object_BPHW: Float[Tensor, "B P H W"]) -> Float[Tensor, ""]:
    """Return the mean over the surroundings plus `OBJECT_WEIGHT` times the mean over the object, whatever its area."""
    around = (each_BPHW * (1 - object_BPHW)).sum() / (1 - object_BPHW).sum().clamp(min=1)
    inside = (each_BPHW * object_BPHW).sum() / object_BPHW.sum().clamp(min=1)
    return around + OBJECT_WEIGHT * inside


def location_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy of the position of each visible point over all pixels, plus `heatmap_cross_entropy`.

    The softmax of the map is compared with a Gaussian of sum 1, as in pose estimation (Biderman et al. 2024): a peak at
    a wrong position costs as much as no peak. The second term decides whether the point is visible.
    """
    visibility = heatmap_cross_entropy(context)

    def loss(raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
        visible_BP = xy_BP2.isfinite().all(dim=2)
        blob_BPN = _blob(raw_BPHW, xy_BP2, context).flatten(2)
        share_BPN = blob_BPN / blob_BPN.sum(dim=2, keepdim=True).clamp(min=1e-6)
        nats_BP = -(share_BPN * raw_BPHW.flatten(2).log_softmax(dim=2)).sum(dim=2)
        position = (nats_BP * visible_BP).sum() / visible_BP.sum().clamp(min=1)
        return position + visibility(raw_BPHW, xy_BP2)

    return loss


def heatmap_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy per pixel against a Gaussian of height 1; the target of an invisible point is 0 everywhere."""

    def loss(raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
        blob_BPHW = _blob(raw_BPHW, xy_BP2, context)
        each_BPHW = functional.binary_cross_entropy_with_logits(raw_BPHW, blob_BPHW, reduction="none")
        return _balanced_mean(each_BPHW, blob_BPHW)

    return loss


def heatmap_l2(context: LossContext) -> Loss:
    """Squared difference between the probability and a Gaussian of height 1."""

    def loss(raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
        blob_BPHW = _blob(raw_BPHW, xy_BP2, context)
        return _balanced_mean((raw_BPHW.sigmoid() - blob_BPHW) ** 2, blob_BPHW)

    return loss


def disc_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy per pixel against a disc around the point."""

    def loss(raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
        disc_BPHW = _disc(raw_BPHW, xy_BP2, context)
        each_BPHW = functional.binary_cross_entropy_with_logits(raw_BPHW, disc_BPHW, reduction="none")
        return _balanced_mean(each_BPHW, disc_BPHW)

    return loss


def disc_cross_entropy_dice(context: LossContext) -> Loss:
    """`disc_cross_entropy` plus 1 - Dice, averaged over the points visible in the batch (Milletari et al. 2016).

    Dice penalizes similar places that are wrongly marked, which hardly change the cross-entropy.
    """
    cross_entropy_loss = disc_cross_entropy(context)

    def loss(raw_BPHW: Float[Tensor, "B P H W"], xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
        disc_BPHW = _disc(raw_BPHW, xy_BP2, context)
        predicted_BPHW = raw_BPHW.sigmoid()
        overlap_P = (disc_BPHW * predicted_BPHW).sum(dim=(0, 2, 3))
        total_P = (disc_BPHW + predicted_BPHW).sum(dim=(0, 2, 3))
        present_P = disc_BPHW.sum(dim=(0, 2, 3)) > 0
        each_P = 1 - 2 * overlap_P / total_P.clamp(min=1e-6)
        return cross_entropy_loss(raw_BPHW, xy_BP2) + (each_P * present_P).sum() / present_P.sum().clamp(min=1)

    return loss
