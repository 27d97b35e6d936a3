"""Registry of all losses by representation and name, and the losses of classes, scalars, densities and images.

Each factory takes a `LossContext` and returns the loss, a function of raw outputs and targets that returns one number
per image [B]; lower is better. The loss of an image is a mean over its known targets and depends on no other image.
Training and validation take the mean over images, which is the same however the images are divided into batches
(docs/why/losses.md). Axes: B images, C channels, K classes, S scalars, T thresholds, H and W working size.
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


def _shares(target: Shaped[Tensor, "B ..."], classes: int) -> Float[Tensor, "B {classes}"]:
    """Return class proportions for class indices [B] or for proportions [B, K], which mixing augmentations give."""
    return functional.one_hot(target, classes).float() if target.ndim == 1 else target.float()


def _smoothed(share_BK: Float[Tensor, "B K"], smoothing: float, choices: int) -> Float[Tensor, "B K"]:
    """Return targets of which a share is spread evenly over the choices (Szegedy et al. 2016)."""
    return share_BK * (1 - smoothing) + smoothing / choices


def cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per image, with label smoothing (Szegedy et al. 2016).

    The target is a class index [B], or class proportions [B, K] where images were mixed. The weight of an image is that
    of its class, or the mean over its classes. It does not depend on the smoothing: weighting the smoothed target, as
    `torch.nn.functional.cross_entropy` does, would make a rare class likely for images of a common one.
    """

    def loss(raw_BK: Float[Tensor, "B K"], target: Shaped[Tensor, "B ..."]) -> Float[Tensor, " B"]:
        share_BK = _shares(target, raw_BK.shape[1])
        smoothed_BK = _smoothed(share_BK, context.label_smoothing, raw_BK.shape[1])
        return (share_BK @ context.weight_K) * functional.cross_entropy(raw_BK, smoothed_BK, reduction="none")

    return loss


def focal(context: LossContext) -> Loss:
    """Focal loss: (1 - p)^2 times the cross-entropy, which gives less weight to easy images (Lin et al. 2017).

    The target is a class index [B], or class proportions [B, K] where images were mixed; label smoothing and class
    weights act as in `cross_entropy`. The factor (1 - p)^2 is that of each class.
    """

    def loss(raw_BK: Float[Tensor, "B K"], target: Shaped[Tensor, "B ..."]) -> Float[Tensor, " B"]:
        share_BK, log_BK = _shares(target, raw_BK.shape[1]), functional.log_softmax(raw_BK, dim=1)
        smoothed_BK = _smoothed(share_BK, context.label_smoothing, raw_BK.shape[1])
        return (share_BK @ context.weight_K) * (-smoothed_BK * (1 - log_BK.exp()) ** 2 * log_BK).sum(dim=1)

    return loss


def binary_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per image and class, independent for each class.

    Each class of an image is weighted by its presence or absence, whatever the label smoothing; for a mixed image the
    weight is the mean of both.
    """

    def loss(raw_BK: Float[Tensor, "B K"], target_BK: Shaped[Tensor, "B K"]) -> Float[Tensor, " B"]:
        present_BK = target_BK.float()
        smoothed_BK = _smoothed(present_BK, context.label_smoothing, 2)
        each_BK = functional.binary_cross_entropy_with_logits(raw_BK, smoothed_BK, reduction="none")
        weight_BK = present_BK * context.weight_K + (1 - present_BK) * context.absence_weight_K
        return (weight_BK * each_BK).mean(dim=1)

    return loss


def cumulative_cross_entropy(context: LossContext) -> Loss:
    """Cross-entropy in nats per threshold, of whether the grade is above it (Frank and Hall 2001; Niu et al. 2016)."""

    def loss(raw_BT: Float[Tensor, "B T"], index_B: Integer[Tensor, " B"]) -> Float[Tensor, " B"]:
        above_BT = (index_B[:, None] > torch.arange(raw_BT.shape[1], device=raw_BT.device)).float()
        smoothed_BT = _smoothed(above_BT, context.label_smoothing, 2)
        each_BT = functional.binary_cross_entropy_with_logits(raw_BT, smoothed_BT, reduction="none")
        return context.weight_K[index_B] * each_BT.mean(dim=1)

    return loss


def _mean(each: Float[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Return the mean of each image."""
    return each.flatten(1).mean(dim=1)


def _standardized(distance: Callable[..., Tensor], context: LossContext) -> Loss:
    """Return a loss that compares outputs with standardized values: (value - mean) / deviation."""

    def loss(raw_BS: Float[Tensor, "B S"], value_BS: Real[Tensor, "B S"]) -> Float[Tensor, " B"]:
        spec, device = context.spec, value_BS.device
        mean_S, deviation_S = (torch.tensor(values, device=device) for values in (spec.mean, spec.deviation))
        return _mean(distance(raw_BS, (value_BS.float() - mean_S) / deviation_S, reduction="none"))

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
    return lambda raw_BCHW, image_BCHW: _mean(functional.l1_loss(raw_BCHW, image_BCHW, reduction="none"))


def image_l2(_: LossContext) -> Loss:
    """Mean squared error of pixels, where white is 1; PSNR is a function of it."""
    return lambda raw_BCHW, image_BCHW: _mean(functional.mse_loss(raw_BCHW, image_BCHW, reduction="none"))


def _density(distance: Callable[..., Tensor]) -> Loss:
    """Return a loss of densities times `DENSITY_SCALE`, plus `COUNT_WEIGHT` times the absolute error of counts."""

    def loss(raw_BSHW: Float[Tensor, "B S H W"], density_BSHW: Float[Tensor, "B S H W"]) -> Float[Tensor, " B"]:
        count_error_BS = (raw_BSHW.sum(dim=(2, 3)) / DENSITY_SCALE - density_BSHW.sum(dim=(2, 3))).abs()
        each_BSHW = distance(raw_BSHW, density_BSHW * DENSITY_SCALE, reduction="none")
        return _mean(each_BSHW) + COUNT_WEIGHT * _mean(count_error_BS)

    return loss


def density_l2(_: LossContext) -> Loss:
    """Mean squared error of densities times `DENSITY_SCALE`, plus `COUNT_WEIGHT` times the absolute error of counts.

    The error of counts follows Lempitsky and Zisserman 2010.
    """
    return _density(functional.mse_loss)


def density_l1(_: LossContext) -> Loss:
    """Mean absolute error of densities times `DENSITY_SCALE`, plus `COUNT_WEIGHT` times that of counts."""
    return _density(functional.l1_loss)


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

CLASS_LOSSES = ("cross_entropy", "focal", "binary_cross_entropy", "cumulative_cross_entropy", "cross_entropy_dice")
"""Losses that use label smoothing and class weights; the others ignore them."""
