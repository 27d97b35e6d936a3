"""Interface of an augmentation: its parameters, when it applies, and the function that computes it.

Axes: B images, N lattice nodes, C channels, S working size, K bones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section
from stages.core.shapes import Float
from stages.tasks.task_spec import TaskSpec

Tensor = torch.Tensor
Level = Literal["light", "standard", "strong"]


@dataclass(frozen=True)
class AugmentationData:
    """Properties of the data set that determine which augmentations apply."""

    spec: TaskSpec
    symmetry_auc: dict[str, float]
    """Upper confidence limit of the AUC of a probe that distinguishes transformed from original images, by
    transformation (`mirror`, `upside_down`, `turn`). 0.5 indicates a symmetry; empty if not measured."""
    symmetry_score_drop: dict[str, float] = field(default_factory=dict)
    """Share of a class probe's skill lost on transformed images, by transformation; `grey` is that without colours."""
    black_border_share: float = 0.0
    """Share of the outermost pixels that are black."""
    bones: bool = False
    """Whether `prepare` found articulated parts."""


@dataclass(frozen=True)
class Scene:
    """Data passed to displacement functions."""

    size: int
    bone_BK7: Float[Tensor, "B K 7"] | None
    """Bones in the original images, in the format of `stages.articulation.skeleton`; missing bones are rows of NaN."""
    matrix_B33: Float[Tensor, "B 3 3"]
    """Homogeneous matrix from original to new positions, pixels."""


@dataclass(frozen=True)
class Augmentation:
    """Entry of `AUGMENTATIONS`. One of `matrix`, `field`, `levels`, `pixels` and `mix` is set.

    `matrix` and `pixels` may both be set. Each of them then receives the same stream from its beginning, so that both
    draw the same operation for an image.
    """

    amounts: type[Section]
    """Parameters with units and ranges; a single value sets the first parameter, as in `rotation: 15`."""
    preset: Callable[[Level, AugmentationData], Section | None]
    """Parameters at a preset level; None if that level does not include the augmentation."""
    impossible: Callable[[AugmentationData], str] = lambda data: ""
    """Reason why the augmentation cannot be applied to the data; empty if it can."""
    unwise: Callable[[AugmentationData], str] = lambda data: ""
    """Reason why presets leave the augmentation out for the data; empty if there is none."""
    breaks: tuple[str, ...] = ()
    """Statistics of `stages.images.image_statistics` that no longer predict a class if the augmentation is strong."""
    enough: Callable[[float, float], float] | None = None
    """Only with `breaks`: maps the statistic's medians inside and outside a class to the smallest first parameter at
    which the statistic predicts the class with an AUC of at most about 0.7."""
    matrix: Callable[[Any, RandomStream, int], Tensor] | None = None
    """(amounts, stream, size) -> matrices [B, 3, 3] from original to new positions, pixels."""
    spans: Callable[[Any, int], int] | None = None
    """Only with `field`: (amounts, size) -> number of lattice spans along a side."""
    field: Callable[[Any, RandomStream, Tensor, Scene], Tensor] | None = None
    """(amounts, stream, positions [B, N, N, 2], scene) -> displacement of the lookup positions, pixels."""
    levels: Callable[[Any, RandomStream, int], tuple[Tensor, Tensor]] | None = None
    """(amounts, stream, channels) -> channel matrix [B, C, C] or [B, 1, 1], and offset [B, 1]; white is 1."""
    pixels: Callable[[Any, RandomStream, Tensor], Tensor] | None = None
    """(amounts, stream, image [B, C, S, S] in 0..1) -> image; may work in place."""
    mix: Callable[[Any, RandomStream, int], Tensor] | None = None
    """(amounts, stream, size) -> weight of the original image, [B, S, S] or [B, 1, 1]; the rest is another image."""


def always(amounts: Section) -> Callable[[Level, AugmentationData], Section]:
    """Return a preset function with the same parameters at every level."""
    return lambda level, data: amounts


def by_level(**amounts: Section) -> Callable[[Level, AugmentationData], Section | None]:
    """Return a preset function with parameters by level; the augmentation is not applied at other levels."""
    return lambda level, data: amounts.get(level)


def geometry_alters_target(data: AugmentationData) -> str:
    """Return why geometric changes may alter the target; empty unless the representation is `scalar`."""
    reason = "the target is a number, which may depend on size, position and direction"
    return reason if data.spec.representation == "scalar" else ""


def predicts_image(data: AugmentationData) -> str:
    """Return why changes of the input alone do not suit the task; empty unless the prediction is an image."""
    reason = "the prediction is an image, and the network would learn to undo the change"
    return reason if data.spec.task == "image" else ""
