"""TrivialAugment: one random operation per image, with a random strength (Müller and Hutter 2021).

The operations and ranges are those of the search space "wide". Translations are by up to a seventh of the side:
32 pixels of an image of 224. Saturation has no effect unless an image has three channels. The geometric operations
are part of the warp, as those of other augmentations, so that labels follow.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
    equalize,
    normalize_min_max,
    posterize,
    sharpness,
    solarize,
)
from kornia.geometry.transform import get_rotation_matrix2d

from stages.augmentations.augmentation_interface import Augmentation, AugmentationData, Tensor, by_level
from stages.augmentations.colour import alters_informative_colour
from stages.augmentations.rng import RandomStream
from stages.augmentations.similarity import about_centre, large_rotation_alters_class, unwise_rotation
from stages.config.schema_base import Section, Share
from stages.core.shapes import Array, Float, Integer

# Largest amounts of the search space "wide"
DEGREES = 135.0
SHEAR = 0.99  # shift of a row or column, share of its distance from the centre
SHIFT = 32 / 224  # share of the side: 32 pixels of an image of 224
CHANGE = 0.99  # relative change of brightness, contrast, saturation and sharpness
BITS = 6  # bits that posterize removes; two remain
LEVELS = 255  # posterize and equalize work on 8 bits

MATRIX_OPERATIONS = ("translation_x", "translation_y", "rotation", "shear_x", "shear_y")
OPERATIONS = (
    "identity",
    *MATRIX_OPERATIONS,
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterize",
    "solarize",
    "equalize",
    "autocontrast",
)


class Trivial(Section):
    """Apply one random operation per image, geometric or photometric (TrivialAugment wide, Müller and Hutter 2021)."""

    strength: Share = 1.0
    """Factor of the published ranges, 0 to 1; at 1 rotation by up to 135 degrees, brightness 0.01 to 1.99 times."""


def _drawn(amounts: Trivial, stream: RandomStream) -> tuple[Integer[Array, " B"], Float[Tensor, " B"]]:
    """Return the operation of each image, as index of `OPERATIONS`, and its amount in -strength..strength."""
    return stream.integers(len(OPERATIONS)), stream.symmetric(amounts.strength)


def _matrix(amounts: Trivial, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    pick_B, amount_B = _drawn(amounts, stream)
    share_NB = {
        name: torch.from_numpy(pick_B == OPERATIONS.index(name)).to(stream.device) * amount_B
        for name in MATRIX_OPERATIONS
    }
    middle_B2 = torch.full((len(stream), 2), (size - 1) / 2, device=stream.device)
    turned_B23 = get_rotation_matrix2d(middle_B2, DEGREES * share_NB["rotation"], torch.ones_like(middle_B2))
    linear_B22 = turned_B23[:, :, :2].clone()
    linear_B22[:, 0, 1] += SHEAR * share_NB["shear_x"]  # added to the identity: an image has one operation
    linear_B22[:, 1, 0] += SHEAR * share_NB["shear_y"]
    matrix_B33 = about_centre(linear_B22, size)
    matrix_B33[:, 0, 2] += SHIFT * size * share_NB["translation_x"]
    matrix_B33[:, 1, 2] += SHIFT * size * share_NB["translation_y"]
    return matrix_B33


def _pixels(amounts: Trivial, stream: RandomStream, image_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    pick_B, amount_B = _drawn(amounts, stream)
    for number, name in enumerate(OPERATIONS):
        if name in PIXEL_OPERATIONS and (pick_B == number).any():
            index_N = torch.from_numpy(np.flatnonzero(pick_B == number)).to(image_BCSS.device)
            image_BCSS[index_N] = PIXEL_OPERATIONS[name](image_BCSS[index_N], amount_B[index_N])
    return image_BCSS


def _saturated(image_NCSS: Float[Tensor, "N C S S"], amount_N: Float[Tensor, " N"]) -> Float[Tensor, "N C S S"]:
    if image_NCSS.shape[1] != 3:
        return image_NCSS
    return adjust_saturation_with_gray_subtraction(image_NCSS, 1 + CHANGE * amount_N)


def _in_8_bits(image_NCSS: Float[Tensor, "N C S S"]) -> Float[Tensor, "N C S S"]:
    """Return values rounded to 8 bits: Kornia truncates, and rounding errors of the warp would change the level."""
    return (image_NCSS * LEVELS).round() / LEVELS


def _posterized(image_NCSS: Float[Tensor, "N C S S"], amount_N: Float[Tensor, " N"]) -> Float[Tensor, "N C S S"]:
    bits_N = 8 - (BITS * amount_N.abs()).round().int()
    return posterize(_in_8_bits(image_NCSS), bits_N)


def _stretched(image_NCSS: Float[Tensor, "N C S S"], amount_N: Float[Tensor, " N"]) -> Float[Tensor, "N C S S"]:
    """Scale each channel to the range 0..1; a channel with one level is unchanged."""
    spread_NC11 = image_NCSS.amax(dim=(2, 3), keepdim=True) - image_NCSS.amin(dim=(2, 3), keepdim=True)
    return torch.where(spread_NC11 * LEVELS < 1, image_NCSS, normalize_min_max(image_NCSS))


PIXEL_OPERATIONS: dict[str, Callable[[Any, Any], Tensor]] = {
    "brightness": lambda image, amount: adjust_brightness_accumulative(image, 1 + CHANGE * amount),
    "contrast": lambda image, amount: adjust_contrast_with_mean_subtraction(image, 1 + CHANGE * amount),
    "saturation": _saturated,
    "sharpness": lambda image, amount: sharpness(image, 1 + CHANGE * amount),
    "posterize": _posterized,
    "solarize": lambda image, amount: solarize(_in_8_bits(image), 1 - amount.abs()),
    "equalize": lambda image, amount: equalize(_in_8_bits(image)),
    "autocontrast": _stretched,
}
"""Changes of pixels: (images [N, C, S, S], amounts [N] in -1..1) -> images."""


def _unwise(data: AugmentationData) -> str:
    return unwise_rotation(data) or large_rotation_alters_class(data) or alters_informative_colour(data)


TRIVIAL = Augmentation(Trivial, by_level(), unwise=_unwise, matrix=_matrix, pixels=_pixels)
