"""What hides a part of an image, or mixes it with another one."""

from typing import Annotated

import torch
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Data, Tensor, by_level
from stages.augmentations.photometric import some
from stages.augmentations.rng import Stream
from stages.config.schema_base import Section, Share


class Cutout(Section):
    """A square of the image's own mean (DeVries and Taylor 2017)."""

    share: Annotated[float, Field(gt=0, le=0.75)] = 0.3
    """Its largest side, share of the image's."""
    chance: Share = 0.5
    """How often, 0 to 1."""


class Mixup(Section):
    """A mean of two images, taught as that mean of their classes (Zhang et al. 2018)."""

    alpha: Annotated[float, Field(ge=0.01, le=10)] = 0.2
    """Of the beta distribution from which the weight comes: small, mostly one of them; 1, any."""
    chance: Share = 0.5
    """How often, 0 to 1."""


class Cutmix(Section):
    """A rectangle out of another image, which counts by its area (Yun et al. 2019)."""

    alpha: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """Of the beta distribution from which the area comes: small, mostly little or nearly all; 1, any."""
    chance: Share = 0.5
    """How often, 0 to 1."""


def rectangle(middle_B2: Tensor, side_B: Tensor, size: int) -> Tensor:
    """[B, S, S]: true within squares, cut at the edge; middles and sides in shares of the image's side."""
    place_S = (torch.arange(size, device=side_B.device) + 0.5) / size
    within_B2S = (place_S - middle_B2[..., None]).abs() * 2 < side_B[:, None, None]
    return within_B2S[:, 1, :, None] & within_B2S[:, 0, None, :]


def _cutout(amounts: Cutout, stream: Stream, image_BCSS: Tensor) -> Tensor:
    chosen_B, side_B = stream.happens(amounts.chance), stream.between(0, amounts.share)
    hidden_BSS = rectangle(stream.between(0, 1, 2), side_B, image_BCSS.shape[2])[chosen_B]

    def hide(image: Tensor) -> Tensor:
        return torch.where(hidden_BSS[:, None], image.mean(dim=(1, 2, 3), keepdim=True), image)

    return some(chosen_B, image_BCSS, hide)


def _mixup(amounts: Mixup, stream: Stream, size: int) -> Tensor:
    chosen_B, share_B = stream.happens(amounts.chance), stream.beta(amounts.alpha)
    return torch.where(chosen_B, torch.maximum(share_B, 1 - share_B), 1.0)[:, None, None]


def _cutmix(amounts: Cutmix, stream: Stream, size: int) -> Tensor:
    chosen_B, side_B = stream.happens(amounts.chance), (1 - stream.beta(amounts.alpha)).sqrt()
    cut_BSS = rectangle(stream.between(0, 1, 2), side_B, size) & chosen_B[:, None, None]
    return 1 - cut_BSS.float()


def _classes_alone(data: Data) -> str:
    name = data.spec.representation
    return "" if name in ("class", "classes") else f"between two answers in the form `{name}` there is no mean"


def _pasted(data: Data) -> str:
    name = data.spec.representation
    return "" if name in ("class", "classes", "mask") else f"answers in the form `{name}` cannot be pasted together"


def _places(data: Data) -> str:
    stores_places = data.spec.representation not in ("class", "classes", "cumulative")
    return "what is hidden would still be asked for" if stores_places else ""


CUTOUT = Augmentation(Cutout, by_level(strong=Cutout()), unwise=_places, pixels=_cutout)
MIXUP = Augmentation(Mixup, by_level(), impossible=_classes_alone, mix=_mixup)
CUTMIX = Augmentation(Cutmix, by_level(), impossible=_pasted, mix=_cutmix)
