"""What leaves shapes alike: flips, rotation, translation, one scale."""

import re
from typing import Annotated

import torch
from kornia.geometry.transform import get_rotation_matrix2d
from pydantic import Field

from stages.augmentations.augmentation_interface import Augmentation, Data, Level, Tensor, always, measures
from stages.augmentations.rng import Stream
from stages.config.schema_base import Section, Share

SIDES = ("left", "right", "up", "down", "top", "bottom", "north", "south", "east", "west", "clockwise", "od", "os")
TELLING = 0.8
"""AUC from which a changed image is no longer one of the data's own; the probe's may be so high by its interval."""
LOSING = 0.2
"""Share of what a probe of the classes knows that may be wrong of changed images: more, and their labels are."""


class Flip(Section):
    """A mirror image, some of the time."""

    chance: Share = 0.5
    """How often, 0 to 1."""


class Rotation(Section):
    """About the middle of the image."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 10
    """Largest angle either way, degrees."""


class Translation(Section):
    """Along both axes, each for itself."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    """Largest shift either way, share of the side."""


class Scale(Section):
    """About the middle of the image, the same along both axes."""

    change: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest change of size either way: 0.1 is 0.9 to 1.1 times."""


def about_middle(linear_B22: Tensor, size: int) -> Tensor:
    """[B, 3, 3]: a linear map about the middle of an image."""
    middle = (size - 1) / 2
    matrix_B33 = torch.eye(3, device=linear_B22.device).repeat(len(linear_B22), 1, 1)
    matrix_B33[:, :2, :2] = linear_B22
    matrix_B33[:, :2, 2] = middle - middle * linear_B22.sum(dim=2)
    return matrix_B33


def _flip(axis: int, amounts: Flip, stream: Stream, size: int) -> Tensor:
    linear_B22 = torch.eye(2, device=stream.device).repeat(len(stream), 1, 1)
    linear_B22[:, axis, axis] = torch.where(stream.happens(amounts.chance), -1.0, 1.0)
    return about_middle(linear_B22, size)


def _rotation(amounts: Rotation, stream: Stream, size: int) -> Tensor:
    middle_B2 = torch.full((len(stream), 2), (size - 1) / 2, device=stream.device)
    turned_B23 = get_rotation_matrix2d(middle_B2, stream.either_way(amounts.degrees), torch.ones_like(middle_B2))
    last_B13 = torch.tensor([0.0, 0.0, 1.0], device=stream.device).expand(len(stream), 1, 3)
    return torch.cat([turned_B23, last_B13], dim=1)


def _translation(amounts: Translation, stream: Stream, size: int) -> Tensor:
    matrix_B33 = torch.eye(3, device=stream.device).repeat(len(stream), 1, 1)
    matrix_B33[:, :2, 2] = stream.either_way(amounts.share * size, 2)
    return matrix_B33


def _scale(amounts: Scale, stream: Stream, size: int) -> Tensor:
    factor_B = 1 + stream.either_way(amounts.change)
    return about_middle(factor_B[:, None, None] * torch.eye(2, device=stream.device), size)


def _are_signs(data: Data) -> bool:
    """Digits or letters: classes that a single character names."""
    labels = data.spec.labels
    return data.spec.task == "classification" and len(labels) > 1 and all(len(label) == 1 for label in labels)


def _unlike(data: Data, change: str) -> str:
    """What is not known to be a symmetry is none."""
    told = {"mirror": "mirrored images", "upside_down": "images upside down", "turn": "turned images"}[change]
    auc = data.symmetry_auc.get(change)
    if auc is None:
        return f"there are too few images to tell whether {told} are like the data's own"
    if auc >= TELLING:
        return f"{told} are told from the data's own (AUC up to {auc:.2f})"
    lost = data.symmetry_score_drop.get(change, 0.0)
    return f"of {told} a probe of the classes gets {lost:.0%} less right" if lost > LOSING else ""


def _sided(data: Data) -> str:
    """A class or an unpaired point whose name says where it is."""
    paired = {name for pair in data.spec.flip_pairs for name in pair}
    names = [*data.spec.labels, *(point for point in data.spec.points if point not in paired)]
    words = {name: {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)} for name in names}
    return next(
        (name for name in names if any(word.startswith(SIDES[:2]) or word in SIDES for word in words[name])), ""
    )


def _unwise_flip(data: Data, change: str) -> str:
    if _are_signs(data):
        return "the classes are signs"
    if sided := _sided(data):
        return f"a mirror would make `{sided}` untrue"
    if data.spec.task == "landmarks" and not data.spec.flip_pairs:
        return "task.flip_pairs does not say which points change names in a mirror"
    return measures(data) or _unlike(data, change)


def _unwise_rotation(data: Data) -> str:
    if data.spec.task == "instances" and not data.spec.masks:
        return "a turned box is no longer tight"
    return measures(data)


def _rotations(level: Level, data: Data) -> Rotation:
    """Any angle where no direction is up."""
    if not (_are_signs(data) or _sided(data) or _unlike(data, "turn") or _unlike(data, "upside_down")):
        return Rotation(degrees=180)
    return Rotation(degrees={"light": 5, "standard": 10, "strong": 20}[level])


def _translations(level: Level, data: Data) -> Translation:
    return Translation(share={"light": 0.04, "standard": 0.08, "strong": 0.12}[level])


def _scales(level: Level, data: Data) -> Scale:
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
ROTATION = Augmentation(Rotation, _rotations, unwise=_unwise_rotation, matrix=_rotation)
TRANSLATION = Augmentation(Translation, _translations, unwise=measures, matrix=_translation)
SCALE = Augmentation(Scale, _scales, unwise=measures, matrix=_scale)
