"""Registry of all losses by representation and name, and the losses of classes, scalars, densities and images.

Each factory takes a `LossContext` and returns the loss, a function of raw outputs and targets. Every loss is a mean
over known targets; lower is better. Axes: B images, C channels, K classes, S scalars, T thresholds, H and W working
size.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from stages.core.shapes import Float, Integer, Real, Shaped
from stages.networks.heads import DENSITY_SCALE
from stages.training.loss_context import Loss, LossContext
from stages.training.point_losses import (
    coordinate_huber,
    coordinate_l1,
    disc_cross_entropy,
    disc_cross_entropy_dice,
    heatmap_cross_entropy,
    heatmap_l2,
    location_cross_entropy,
)
from stages.training.segmentation_losses import (
    boundary_cross_entropy,
    boundary_cross_entropy_dice,
    cross_entropy_dice,
    dice,
    pixel_cross_entropy,
)

Tensor = torch.Tensor
COUNT_WEIGHT = 0.01  # weight of the error of counts relative to the error of densities


def cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per image, with label smoothing (Szegedy et al. 2016).

    The target is a class index [B], or class proportions [B, K] where images were mixed.
    """
    weight_K, smoothing = context.weight_K, context.label_smoothing

    def loss(raw_BK: Float[Tensor, "B K"], target: Shaped[Tensor, "B ..."]) -> Float[Tensor, ""]:
        if target.ndim == 1:
            return functional.cross_entropy(raw_BK, target, weight_K, label_smoothing=smoothing)
        total = functional.cross_entropy(raw_BK, target, weight_K, label_smoothing=smoothing, reduction="sum")
        return total / (weight_K * target).sum()  # normalized as torch does for class indices

    return loss


def focal(context: LossContext) -> Loss:
    """Focal loss: (1 - p)^2 times the cross-entropy, which gives less weight to easy images (Lin et al. 2017).

    The target is a class index [B], or class proportions [B, K] where images were mixed. Label smoothing does not
    apply.
    """

    def loss(raw_BK: Float[Tensor, "B K"], target: Shaped[Tensor, "B ..."]) -> Float[Tensor, ""]:
        share_BK = target if target.ndim == 2 else functional.one_hot(target, raw_BK.shape[1])
        log_BK, weight_BK = functional.log_softmax(raw_BK, dim=1), context.weight_K * share_BK
        return (-weight_BK * (1 - log_BK.exp()) ** 2 * log_BK).sum() / weight_BK.sum()

    return loss


def binary_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per image and class, independent for each class."""

    def loss(raw_BK: Float[Tensor, "B K"], target_BK: Shaped[Tensor, "B K"]) -> Float[Tensor, ""]:
        smoothed_BK = target_BK.float() * (1 - context.label_smoothing) + context.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(raw_BK, smoothed_BK, pos_weight=context.weight_K)

    return loss


def cumulative_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per threshold, of whether the grade is above it (Frank and Hall 2001; Niu et al. 2016)."""

    def loss(raw_BT: Float[Tensor, "B T"], index_B: Integer[Tensor, " B"]) -> Float[Tensor, ""]:
        above_BT = (index_B[:, None] > torch.arange(raw_BT.shape[1], device=raw_BT.device)).float()
        above_BT = above_BT * (1 - context.label_smoothing) + context.label_smoothing / 2
        each_B = functional.binary_cross_entropy_with_logits(raw_BT, above_BT, reduction="none").mean(dim=1)
        weight_B = context.weight_K[index_B]
        return (each_B * weight_B).sum() / weight_B.sum()

    return loss


def _standardized(distance: Callable[[Tensor, Tensor], Tensor], context: LossContext) -> Loss:
    """Return a loss that compares outputs with standardized values: (value - mean) / deviation."""

    def loss(raw_BS: Float[Tensor, "B S"], value_BS: Real[Tensor, "B S"]) -> Float[Tensor, ""]:
        spec, device = context.spec, value_BS.device
        mean_S, deviation_S = (torch.tensor(values, device=device) for values in (spec.mean, spec.deviation))
        return distance(raw_BS, (value_BS.float() - mean_S) / deviation_S)

    return loss


def huber(context: LossContext) -> Loss:
    """Huber loss of standardized values: quadratic up to one standard deviation, linear beyond (Huber 1964)."""
    return _standardized(functional.huber_loss, context)


def l1(context: LossContext) -> Loss:
    """Mean absolute error of standardized values."""
    return _standardized(functional.l1_loss, context)


def l2(context: LossContext) -> Loss:
    """Mean squared error of standardized values."""
    return _standardized(functional.mse_loss, context)


def image_l1(_: LossContext) -> Loss:
    """Mean absolute error of pixels, where white is 1."""
    return functional.l1_loss


def image_l2(_: LossContext) -> Loss:
    """Mean squared error of pixels, where white is 1; PSNR is a function of it."""
    return functional.mse_loss


def density_l2(_: LossContext) -> Loss:
    """Mean squared error of densities times `DENSITY_SCALE`, plus `COUNT_WEIGHT` times the absolute error of counts.

    The error of counts follows Lempitsky and Zisserman 2010.
    """
    return lambda raw_BSHW, density_BSHW: (
        functional.mse_loss(raw_BSHW, density_BSHW * DENSITY_SCALE)
        + COUNT_WEIGHT * _count_error(raw_BSHW, density_BSHW)
    )


def density_l1(_: LossContext) -> Loss:
    """Mean absolute error of densities times `DENSITY_SCALE`, plus `COUNT_WEIGHT` times that of counts."""
    return lambda raw_BSHW, density_BSHW: (
        functional.l1_loss(raw_BSHW, density_BSHW * DENSITY_SCALE) + COUNT_WEIGHT * _count_error(raw_BSHW, density_BSHW)
    )


def _count_error(raw_BSHW: Float[Tensor, "B S H W"], density_BSHW: Float[Tensor, "B S H W"]) -> Float[Tensor, ""]:
    return (raw_BSHW.sum(dim=(2, 3)) / DENSITY_SCALE - density_BSHW.sum(dim=(2, 3))).abs().mean()


LOSSES: dict[str, dict[str, Callable[[LossContext], Loss]]] = {
    "class": {"cross_entropy": cross_entropy, "focal": focal},
    "classes": {"binary_cross_entropy": binary_cross_entropy},
    "cumulative": {"cumulative_cross_entropy": cumulative_cross_entropy},
    "scalar": {"huber": huber, "l1": l1, "l2": l2},
    "density": {"density_l2": density_l2, "density_l1": density_l1},
    "coordinates": {"coordinate_huber": coordinate_huber, "coordinate_l1": coordinate_l1},
    "heatmap": {
        "location_cross_entropy": location_cross_entropy,
        "heatmap_cross_entropy": heatmap_cross_entropy,
        "heatmap_l2": heatmap_l2,
    },
    "disc": {"disc_cross_entropy_dice": disc_cross_entropy_dice, "disc_cross_entropy": disc_cross_entropy},
    "mask": {"cross_entropy_dice": cross_entropy_dice, "cross_entropy": pixel_cross_entropy, "dice": dice},
    "image": {"l1": image_l1, "l2": image_l2},
    "watershed": {
        "boundary_cross_entropy_dice": boundary_cross_entropy_dice,
        "boundary_cross_entropy": boundary_cross_entropy,
    },
}
"""Loss factories by representation and name. Representation `boxes` is absent: its network computes its own losses."""
