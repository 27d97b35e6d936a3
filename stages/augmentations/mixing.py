"""Augmentations that hide part of an image or mix two images: cutout, mixup and CutMix."""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, AugmentationData, Tensor, by_level
from stages.augmentations.photometric import apply_to_chosen
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section, Share
from stages.core.shapes import Bool, Float


class Cutout(Section):
    """Replace a random square by the image mean (DeVries and Taylor 2017)."""

    share: Annotated[float, Field(gt=0, le=0.75)] = 0.3
    """Maximum side of the square, share of the image side."""
    chance: Share = 0.5
    """Probability per image, 0 to 1."""


class Mixup(Section):
    """Weighted mean of two images and of their class labels (Zhang et al. 2018)."""

    alpha: Annotated[float, Field(ge=0.01, le=10)] = 0.2
    """Parameter of the Beta(alpha, alpha) distribution of the weight: small values favour one image, 1 is uniform."""
    chance: Share = 0.5
    """Probability per image, 0 to 1."""


class Cutmix(Section):
    """Paste a square of another image; class labels are weighted by area, masks are pasted too (Yun et al. 2019)."""

    alpha: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """Parameter of the Beta(alpha, alpha) distribution of the area share: small values favour 0 or 1, 1 is uniform."""
    chance: Share = 0.5
    """Probability per image, 0 to 1."""


def rectangle(
    middle_B2: Float[Tensor, "B 2"], side_B: Float[Tensor, " B"], size: int
) -> Bool[Tensor, "B {size} {size}"]:
    """Return a mask that is true within one square per image, clipped at the edge.

    Args:
        middle_B2: centres (x, y), share of the image side.
        side_B: sides of the squares, share of the image side.
        size: image side, pixels.
    """
    place_S = (torch.arange(size, device=side_B.device) + 0.5) / size
    within_B2S = (place_S - middle_B2[..., None]).abs() * 2 < side_B[:, None, None]
    return within_B2S[:, 1, :, None] & within_B2S[:, 0, None, :]


def _cutout(amounts: Cutout, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    chosen_B, side_B = stream.bernoulli(amounts.chance), stream.uniform(0, amounts.share)
    hidden_BSS = rectangle(stream.uniform(0, 1, 2), side_B, image_BCSS.shape[2])[chosen_B]

    def hide(image: Float[Tensor, "N C S S"]) -> Float[Tensor, "N C S S"]:
        return torch.where(hidden_BSS[:, None], image.mean(dim=(1, 2, 3), keepdim=True), image)

    return apply_to_chosen(chosen_B, image_BCSS, hide)


def _mixup(amounts: Mixup, stream: RandomStream, size: int) -> Float[Tensor, "B 1 1"]:
    chosen_B, share_B = stream.bernoulli(amounts.chance), stream.beta(amounts.alpha)
    return torch.where(chosen_B, torch.maximum(share_B, 1 - share_B), 1.0)[:, None, None]


def _cutmix(amounts: Cutmix, stream: RandomStream, size: int) -> Float[Tensor, "B {size} {size}"]:
    chosen_B, side_B = stream.bernoulli(amounts.chance), (1 - stream.beta(amounts.alpha)).sqrt()
    cut_BSS = rectangle(stream.uniform(0, 1, 2), side_B, size) & chosen_B[:, None, None]
    return 1 - cut_BSS.float()


def _requires_classes(data: AugmentationData) -> str:
    name = data.spec.representation
    return "" if name in ("class", "classes") else f"labels of the representation `{name}` cannot be averaged"


def _requires_classes_or_masks(data: AugmentationData) -> str:
    name = data.spec.representation
    return (
        ""
        if name in ("class", "classes", "mask")
        else f"labels of the representation `{name}` cannot be combined by area"
    )


def _labels_have_positions(data: AugmentationData) -> str:
    stores_places = data.spec.representation not in ("class", "classes", "cumulative")
    return "the labels would still describe the hidden part of the image" if stores_places else ""


CUTOUT = Augmentation(Cutout, by_level(strong=Cutout()), unwise=_labels_have_positions, pixels=_cutout)
MIXUP = Augmentation(Mixup, by_level(), impossible=_requires_classes, mix=_mixup)
CUTMIX = Augmentation(Cutmix, by_level(), impossible=_requires_classes_or_masks, mix=_cutmix)
