"""Losses: what the network's raw outputs are held against, batch by batch.

Axes: B images, K classes, P points, S scalars, H and W working size. Every loss is a mean over what is known, and
lower is better.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from stages.dataset.annotations import IGNORE
from stages.networks.heads import DENSITY_SCALE
from stages.tasks.task_spec import TaskSpec

Tensor = torch.Tensor


@dataclass(frozen=True)
class Setting:
    """What a loss needs beside outputs and targets."""

    spec: TaskSpec
    weight_K: Tensor
    """Of each class, mean 1 over the training images; ones where classes are not weighted."""
    label_smoothing: float


Loss = Callable[[Tensor, Tensor, Setting], Tensor]


def cross_entropy(raw_BK: Tensor, target: Tensor, setting: Setting) -> Tensor:
    """Nats per image; label smoothing spreads a share of the target over all classes (Szegedy et al. 2016).

    Here and in `focal` the target is an index [B], or shares of the classes [B, K] where images were mixed.
    """
    weight_K, smoothing = setting.weight_K, setting.label_smoothing
    if target.ndim == 1:
        return functional.cross_entropy(raw_BK, target, weight_K, label_smoothing=smoothing)
    total = functional.cross_entropy(raw_BK, target, weight_K, label_smoothing=smoothing, reduction="sum")
    return total / (weight_K * target).sum()  # as torch has it for an index


def focal(raw_BK: Tensor, target: Tensor, setting: Setting) -> Tensor:
    """(1 - p)^2 times the cross-entropy: what is known already counts less (Lin et al. 2017)."""
    share_BK = target if target.ndim == 2 else functional.one_hot(target, raw_BK.shape[1])
    log_BK, weight_BK = functional.log_softmax(raw_BK, dim=1), setting.weight_K * share_BK
    return (-weight_BK * (1 - log_BK.exp()) ** 2 * log_BK).sum() / weight_BK.sum()


def binary_cross_entropy(raw_BK: Tensor, target_BK: Tensor, setting: Setting) -> Tensor:
    """Nats per image and class, each class for itself."""
    smoothed_BK = target_BK.float() * (1 - setting.label_smoothing) + setting.label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(raw_BK, smoothed_BK, pos_weight=setting.weight_K)


def cumulative_cross_entropy(raw_BT: Tensor, index_B: Tensor, setting: Setting) -> Tensor:
    """Nats per threshold: is the grade above it? (Frank and Hall 2001; Niu et al. 2016)."""
    above_BT = (index_B[:, None] > torch.arange(raw_BT.shape[1], device=raw_BT.device)).float()
    above_BT = above_BT * (1 - setting.label_smoothing) + setting.label_smoothing / 2
    each_B = functional.binary_cross_entropy_with_logits(raw_BT, above_BT, reduction="none").mean(dim=1)
    weight_B = setting.weight_K[index_B]
    return (each_B * weight_B).sum() / weight_B.sum()


def _standard(value_BS: Tensor, setting: Setting) -> Tensor:
    mean_S, deviation_S = (torch.tensor(v, device=value_BS.device) for v in (setting.spec.mean, setting.spec.deviation))
    return (value_BS.float() - mean_S) / deviation_S


def huber(raw_BS: Tensor, value_BS: Tensor, setting: Setting) -> Tensor:
    """Of standardized values: square up to one deviation, straight beyond (Huber 1964)."""
    return functional.huber_loss(raw_BS, _standard(value_BS, setting))


def l1(raw_BS: Tensor, value_BS: Tensor, setting: Setting) -> Tensor:
    """Mean absolute difference of standardized values."""
    return functional.l1_loss(raw_BS, _standard(value_BS, setting))


def l2(raw_BS: Tensor, value_BS: Tensor, setting: Setting) -> Tensor:
    """Mean squared difference of standardized values."""
    return functional.mse_loss(raw_BS, _standard(value_BS, setting))


def image_l1(raw_BCHW: Tensor, image_BCHW: Tensor, setting: Setting) -> Tensor:
    """Mean absolute difference, white = 1."""
    return functional.l1_loss(raw_BCHW, image_BCHW)


def image_l2(raw_BCHW: Tensor, image_BCHW: Tensor, setting: Setting) -> Tensor:
    """Mean squared difference, white = 1: what PSNR is made of."""
    return functional.mse_loss(raw_BCHW, image_BCHW)


COUNT_WEIGHT = 0.01


def density_l2(raw_BSHW: Tensor, density_BSHW: Tensor, setting: Setting) -> Tensor:
    """Squared difference of the densities, and a little of the counts' (Lempitsky and Zisserman 2010)."""
    pixels = functional.mse_loss(raw_BSHW, density_BSHW * DENSITY_SCALE)
    return pixels + COUNT_WEIGHT * _count_difference(raw_BSHW, density_BSHW)


def density_l1(raw_BSHW: Tensor, density_BSHW: Tensor, setting: Setting) -> Tensor:
    """Absolute difference of the densities, and a little of the counts'."""
    pixels = functional.l1_loss(raw_BSHW, density_BSHW * DENSITY_SCALE)
    return pixels + COUNT_WEIGHT * _count_difference(raw_BSHW, density_BSHW)


def _count_difference(raw_BSHW: Tensor, density_BSHW: Tensor) -> Tensor:
    return (raw_BSHW.sum(dim=(2, 3)) / DENSITY_SCALE - density_BSHW.sum(dim=(2, 3))).abs().mean()


def _coordinate(raw_BQ: Tensor, xy_BP2: Tensor, setting: Setting, distance: Callable[..., Tensor]) -> Tensor:
    """Of the visible points where they are, of all points whether they are visible."""
    raw_BP3 = raw_BQ.reshape(len(raw_BQ), -1, 3)
    seen_BP = xy_BP2.isfinite().all(dim=2)
    wanted_BP2 = (xy_BP2.nan_to_num() + 0.5) / setting.spec.size * 2 - 1
    far_BP = distance(raw_BP3[..., :2], wanted_BP2, reduction="none").sum(dim=2)
    where = (far_BP * seen_BP).sum() / seen_BP.sum().clamp(min=1)
    whether = functional.binary_cross_entropy_with_logits(raw_BP3[..., 2], seen_BP.float())
    return where + 0.1 * whether


def coordinate_huber(raw_BQ: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """Huber distance, where the working image is 2 wide."""
    return _coordinate(raw_BQ, xy_BP2, setting, functional.smooth_l1_loss)


def coordinate_l1(raw_BQ: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """Absolute distance, where the working image is 2 wide."""
    return _coordinate(raw_BQ, xy_BP2, setting, functional.l1_loss)


def _squared_distance(raw_BPHW: Tensor, xy_BP2: Tensor) -> Tensor:
    """[B, P, H, W] to each point, working pixels squared; infinite for missing points."""
    y_H, x_W = (torch.arange(n, device=raw_BPHW.device).float() for n in raw_BPHW.shape[2:])
    x_BP, y_BP = xy_BP2.float().unbind(dim=2)
    squared = (y_H - y_BP[..., None])[..., :, None] ** 2 + (x_W - x_BP[..., None])[..., None, :] ** 2
    return squared.nan_to_num(nan=torch.inf)


def location_cross_entropy(raw_BPHW: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """Of all places the right one, nats per visible point; and `heatmap_cross_entropy`, which says whether it is there.

    The first is what tells a point from its neighbours: over all places the blob, of sum 1, is held against the softmax
    of the map, as pose estimators do (Biderman et al. 2024), so that a peak in a wrong place costs as much as none.
    """
    seen_BP = xy_BP2.isfinite().all(dim=2)
    blob_BPN = (-0.5 * _squared_distance(raw_BPHW, xy_BP2) / setting.spec.radius**2).exp().flatten(2)
    share_BPN = blob_BPN / blob_BPN.sum(dim=2, keepdim=True).clamp(min=1e-6)
    nats_BP = -(share_BPN * raw_BPHW.flatten(2).log_softmax(dim=2)).sum(dim=2)
    where = (nats_BP * seen_BP).sum() / seen_BP.sum().clamp(min=1)
    return where + heatmap_cross_entropy(raw_BPHW, xy_BP2, setting)


def heatmap_cross_entropy(raw_BPHW: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """Against a blob of height 1, blob and surroundings weighing the same; missing points: nothing anywhere."""
    blob_BPHW = (-0.5 * _squared_distance(raw_BPHW, xy_BP2) / setting.spec.radius**2).exp()
    return _even(functional.binary_cross_entropy_with_logits(raw_BPHW, blob_BPHW, reduction="none"), blob_BPHW)


def heatmap_l2(raw_BPHW: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """Squared difference of probability and blob, blob and surroundings weighing the same."""
    blob_BPHW = (-0.5 * _squared_distance(raw_BPHW, xy_BP2) / setting.spec.radius**2).exp()
    return _even((raw_BPHW.sigmoid() - blob_BPHW) ** 2, blob_BPHW)


def disc_cross_entropy(raw_BPHW: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """Against a disc around the point, disc and surroundings weighing the same."""
    disc_BPHW = (_squared_distance(raw_BPHW, xy_BP2) <= setting.spec.radius**2).float()
    return _even(functional.binary_cross_entropy_with_logits(raw_BPHW, disc_BPHW, reduction="none"), disc_BPHW)


def disc_cross_entropy_dice(raw_BPHW: Tensor, xy_BP2: Tensor, setting: Setting) -> Tensor:
    """`disc_cross_entropy` and 1 - Dice of each point that the batch shows (Milletari et al. 2016).

    Pixel by pixel, alike places may all be called the point at little cost; Dice falls with each that is not.
    """
    disc_BPHW = (_squared_distance(raw_BPHW, xy_BP2) <= setting.spec.radius**2).float()
    given_BPHW = raw_BPHW.sigmoid()
    overlap_P = (disc_BPHW * given_BPHW).sum(dim=(0, 2, 3))
    total_P = (disc_BPHW + given_BPHW).sum(dim=(0, 2, 3))
    there_P = disc_BPHW.sum(dim=(0, 2, 3)) > 0
    apart_P = 1 - 2 * overlap_P / total_P.clamp(min=1e-6)
    return disc_cross_entropy(raw_BPHW, xy_BP2, setting) + (apart_P * there_P).sum() / there_P.sum().clamp(min=1)


def _even(each_BPHW: Tensor, object_BPHW: Tensor) -> Tensor:
    """Mean over the surroundings plus, an even share, the mean over the object."""
    around = (each_BPHW * (1 - object_BPHW)).sum() / (1 - object_BPHW).sum().clamp(min=1)
    inside = (each_BPHW * object_BPHW).sum() / object_BPHW.sum().clamp(min=1)
    return around + 0.1 * inside


def pixel_cross_entropy(raw_BKHW: Tensor, index_BHW: Tensor, setting: Setting) -> Tensor:
    """Nats per pixel whose truth is known."""
    if not (index_BHW != IGNORE).any():
        return raw_BKHW.sum() * 0
    return functional.cross_entropy(
        raw_BKHW, index_BHW, setting.weight_K, ignore_index=IGNORE, label_smoothing=setting.label_smoothing
    )


def dice(raw_BKHW: Tensor, index_BHW: Tensor, setting: Setting) -> Tensor:
    """1 - Dice of the probabilities, pooled over the batch, mean over the classes it holds (Milletari et al. 2016)."""
    known_BHW = index_BHW != IGNORE
    classes = raw_BKHW.shape[1]
    true_BKHW = functional.one_hot(torch.where(known_BHW, index_BHW, 0), classes).movedim(3, 1) * known_BHW[:, None]
    given_BKHW = raw_BKHW.softmax(dim=1) * known_BHW[:, None]
    overlap_K = (true_BKHW * given_BKHW).sum(dim=(0, 2, 3))
    total_K = true_BKHW.sum(dim=(0, 2, 3)) + given_BKHW.sum(dim=(0, 2, 3))
    there_K = true_BKHW.sum(dim=(0, 2, 3)) > 0
    each_K = 1 - 2 * overlap_K / total_K.clamp(min=1e-6)
    return (each_K * there_K).sum() / there_K.sum().clamp(min=1)


def cross_entropy_dice(raw_BKHW: Tensor, index_BHW: Tensor, setting: Setting) -> Tensor:
    """Their sum: the first has smooth gradients, the second is the score (Isensee et al. 2021)."""
    return pixel_cross_entropy(raw_BKHW, index_BHW, setting) + dice(raw_BKHW, index_BHW, setting)


BACKGROUND, INTERIOR, BOUNDARY = 0, 1, 2


def three_classes(id_BHW: Tensor) -> Tensor:
    """Instance numbers to background, interior and boundary: pixels next to another number, on the object's side.

    As the U-Net of Caicedo et al. 2019, "Nucleus segmentation across imaging experiments".
    """
    id_B1HW = id_BHW[:, None].float()
    highest = functional.max_pool2d(id_B1HW, 3, stride=1, padding=1)
    lowest = -functional.max_pool2d(-id_B1HW, 3, stride=1, padding=1)
    edge_BHW = (highest != lowest)[:, 0]
    return torch.where(id_BHW > 0, torch.where(edge_BHW, BOUNDARY, INTERIOR), BACKGROUND)


def boundary_cross_entropy(raw_B3HW: Tensor, id_BHW: Tensor, setting: Setting) -> Tensor:
    """Nats per pixel over background, interior and boundary, the boundary counting double."""
    weight_3 = torch.tensor([1.0, 1.0, 2.0], device=raw_B3HW.device)
    return functional.cross_entropy(raw_B3HW, three_classes(id_BHW), weight_3)


def boundary_cross_entropy_dice(raw_B3HW: Tensor, id_BHW: Tensor, setting: Setting) -> Tensor:
    """With the Dice loss of the three classes."""
    return boundary_cross_entropy(raw_B3HW, id_BHW, setting) + dice(raw_B3HW, three_classes(id_BHW), setting)


LOSSES: dict[str, dict[str, Loss]] = {
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
"""By representation and name; `boxes` has its losses inside the network."""
