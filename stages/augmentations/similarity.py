"""Similarity transformations: flips, rotation, translation and uniform scale."""

import re
from typing import Annotated

import torch
from kornia.geometry.transform import get_rotation_matrix2d
from pydantic import Field

from stages.augmentations.augmentation_interface import (
    Augmentation,
    AugmentationData,
    Level,
    Tensor,
    always,
    geometry_alters_target,
)
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section, Share
from stages.core.shapes import Float

SIDES = ("left", "right", "up", "down", "top", "bottom", "north", "south", "east", "west", "clockwise", "od", "os")
CHARACTERS = "the class names are single characters, as of images of digits or letters"
MIN_DISTINGUISHABLE_AUC = 0.8
"""A transformation is not a symmetry of the data if the upper confidence limit of the probe's AUC is at least this."""
MAX_SKILL_LOSS = 0.2
"""Maximum share of a class probe's skill lost on transformed images; above it, the transformation changes labels."""


class Flip(Section):
    """Mirror the image with a given probability."""

    chance: Share = 0.5
    """Probability per image, 0 to 1."""


class Rotation(Section):
    """Rotate about the image centre."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 10
    """Maximum angle in either direction, degrees."""


class Translation(Section):
    """Shift along both axes independently."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    """Maximum shift in either direction, share of the side."""


class Scale(Section):
    """Scale about the image centre, equally along both axes."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Maximum change of size: 0.1 means 0.9 to 1.1 times."""


def about_centre(linear_B22: Float[Tensor, "B 2 2"], size: int) -> Float[Tensor, "B 3 3"]:
    """Return homogeneous matrices of linear maps about the image centre."""
    middle = (size - 1) / 2
    matrix_B33 = torch.eye(3, device=linear_B22.device).repeat(len(linear_B22), 1, 1)
    matrix_B33[:, :2, :2] = linear_B22
    matrix_B33[:, :2, 2] = middle - middle * linear_B22.sum(dim=2)
    return matrix_B33


def _flip(axis: int, amounts: Flip, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    linear_B22 = torch.eye(2, device=stream.device).repeat(len(stream), 1, 1)
    linear_B22[:, axis, axis] = torch.where(stream.bernoulli(amounts.chance), -1.0, 1.0)
    return about_centre(linear_B22, size)


def _rotation(amounts: Rotation, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    middle_B2 = torch.full((len(stream), 2), (size - 1) / 2, device=stream.device)
    turned_B23 = get_rotation_matrix2d(middle_B2, stream.symmetric(amounts.degrees), torch.ones_like(middle_B2))
    last_B13 = torch.tensor([0.0, 0.0, 1.0], device=stream.device).expand(len(stream), 1, 3)
    return torch.cat([turned_B23, last_B13], dim=1)


def _translation(amounts: Translation, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    matrix_B33 = torch.eye(3, device=stream.device).repeat(len(stream), 1, 1)
    matrix_B33[:, :2, 2] = stream.symmetric(amounts.share * size, 2)
    return matrix_B33


def _scale(amounts: Scale, stream: RandomStream, size: int) -> Float[Tensor, "B 3 3"]:
    factor_B = 1 + stream.symmetric(amounts.change)
    return about_centre(factor_B[:, None, None] * torch.eye(2, device=stream.device), size)


def _are_characters(data: AugmentationData) -> bool:
    """Return whether all classes are digits or letters, that is, have names of one character."""
    labels = data.spec.labels
    return data.spec.task == "classification" and len(labels) > 1 and all(len(label) == 1 for label in labels)


def _asymmetry(data: AugmentationData, change: str) -> str:
    """Return why a transformation is not known to be a symmetry of the data; empty if it is."""
    images = {"mirror": "mirrored images", "upside_down": "upside-down images", "turn": "rotated images"}[change]
    auc = data.symmetry_auc.get(change)
    if auc is None:
        return f"there are too few images or groups to test whether {images} resemble the original ones"
    if auc >= MIN_DISTINGUISHABLE_AUC:
        return f"{images} can be distinguished from the original ones (AUC up to {auc:.2f})"
    lost = data.symmetry_score_drop.get(change, 0.0)
    return f"a class probe loses {lost:.0%} of its skill on {images}" if lost > MAX_SKILL_LOSS else ""


def _name_of_side(data: AugmentationData) -> str:
    """Return a class or unpaired point whose name contains a side or direction; empty if there is none."""
    paired = {name for pair in data.spec.flip_pairs for name in pair}
    names = [*data.spec.labels, *(point for point in data.spec.points if point not in paired)]
    words = {name: {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)} for name in names}
    return next(
        (name for name in names if any(word.startswith(SIDES[:2]) or word in SIDES for word in words[name])), ""
    )


def large_rotation_alters_class(data: AugmentationData) -> str:
    """Return why a rotation by more than 90 degrees may change the class or the name of a point; empty if not known."""
    if _are_characters(data):
        return CHARACTERS
    sided = _name_of_side(data)
    return f"the name `{sided}` contains a side or direction, which a large rotation would change" if sided else ""


def _unwise_flip(data: AugmentationData, change: str) -> str:
    if _are_characters(data):
        return CHARACTERS
    if sided := _name_of_side(data):
        return f"the name `{sided}` contains a side or direction, which a flip would change"
    if data.spec.task == "landmarks" and not data.spec.flip_pairs:
        return "task.flip_pairs is empty, but mirrored points may have to swap names"
    return geometry_alters_target(data) or _asymmetry(data, change)


def symmetry_problem(data: AugmentationData, change: str) -> str:
    """Return why a change of the image is not known to be a symmetry of data and labels; empty if it is one.

    Args:
        data: properties of the data set.
        change: `mirror`, `upside_down` or `turn` (by 90 degrees).
    """
    return _unwise_flip(data, change)


def unwise_rotation(data: AugmentationData) -> str:
    """Return why presets do not rotate the images of a data set; empty if they do."""
    if data.spec.task == "instances" and not data.spec.masks:
        return "boxes around rotated objects would not be tight"
    return geometry_alters_target(data)


def _rotations(level: Level, data: AugmentationData) -> Rotation:
    """Return rotations by up to 180 degrees if the data have no preferred orientation, otherwise by small angles."""
    if not (
        _are_characters(data) or _name_of_side(data) or _asymmetry(data, "turn") or _asymmetry(data, "upside_down")
    ):
        return Rotation(degrees=180)
    return Rotation(degrees={"light": 5, "standard": 10, "strong": 20}[level])


def _translations(level: Level, data: AugmentationData) -> Translation:
    return Translation(share={"light": 0.04, "standard": 0.08, "strong": 0.12}[level])


def _scales(level: Level, data: AugmentationData) -> Scale:
    return Scale(change={"light": 0.05, "standard": 0.1, "strong": 0.25}[level])


FLIP_HORIZONTAL = Augmentation(
    Flip,
    always(Flip()),
    unwise=lambda data: _unwise_flip(data, "mirror"),
    matrix=lambda amounts, stream, size: _flip(0, amounts, stream, size),
)
FLIP_VERTICAL = Augmentation(
    Flip,
    always(Flip()),
    unwise=lambda data: _unwise_flip(data, "upside_down"),
    matrix=lambda amounts, stream, size: _flip(1, amounts, stream, size),
)
ROTATION = Augmentation(Rotation, _rotations, unwise=unwise_rotation, matrix=_rotation)
TRANSLATION = Augmentation(Translation, _translations, unwise=geometry_alters_target, matrix=_translation)
SCALE = Augmentation(Scale, _scales, unwise=geometry_alters_target, matrix=_scale)
