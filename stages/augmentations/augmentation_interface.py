"""What an augmentation is: its amounts, when it suits, and one function that says what changes.

Axes: B images, N nodes of a lattice, C channels, S working size, K bones of a figure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from stages.augmentations.rng import Stream
from stages.config.schema_base import Section
from stages.tasks.task_spec import TaskSpec

Tensor = torch.Tensor
Level = Literal["light", "standard", "strong"]


@dataclass(frozen=True)
class Data:
    """What is known of the images when a policy is chosen."""

    spec: TaskSpec
    symmetry_auc: dict[str, float]
    """`mirror`, `upside_down`, `turn`: AUC at which images so changed are told from the data's own, at most; 0.5: a
    symmetry. Empty: not known."""
    symmetry_score_drop: dict[str, float] = field(default_factory=dict)
    """Of the same changes: share of what a probe of the classes knows that it gets wrong of changed images."""
    black_border_share: float = 0.0
    """Share of the outermost pixels that are black."""
    bones: bool = False
    """Figures have articulated parts, found by `prepare`."""


@dataclass(frozen=True)
class Scene:
    """What a displacement may look at."""

    size: int
    bone_BK7: Tensor | None
    """Of the old images, as `stages.articulation.skeleton` has them, with rows of NaN where a figure has fewer."""
    matrix_B33: Tensor
    """From old to new places."""


@dataclass(frozen=True)
class Augmentation:
    """One member of AUGMENTATIONS. Of the functions that change something it has exactly one."""

    amounts: type[Section]
    """Its amounts with units and ranges; the first one may be given alone, as `rotation: 15`."""
    preset: Callable[[Level, Data], Section | None]
    """Its amounts in a preset; None: not part of it."""
    impossible: Callable[[Data], str] = lambda data: ""
    """Why it cannot be done to such data; empty: it can."""
    unwise: Callable[[Data], str] = lambda data: ""
    """Why no preset does it to such data; empty: no reason not to."""
    breaks: tuple[str, ...] = ()
    """Statistics of `stages.images.image_statistics` that no longer tell a class once it is strong enough."""
    enough: Callable[[float, float], float] | None = None
    """With `breaks`: from the medians of such a statistic in a class and in the others to the first amount at which it
    tells them at an AUC of some .7 at most."""
    matrix: Callable[[Any, Stream, int], Tensor] | None = None
    """(amounts, stream, size) to [B, 3, 3], from old to new places in pixels."""
    spans: Callable[[Any, int], int] | None = None
    """With `field`: (amounts, size) to how many spans its lattice needs along a side."""
    field: Callable[[Any, Stream, Tensor, Scene], Tensor] | None = None
    """(amounts, stream, places [B, N, N, 2], scene) to what is added to each place before it is looked up, pixels."""
    levels: Callable[[Any, Stream, int], tuple[Tensor, Tensor]] | None = None
    """(amounts, stream, channels) to a matrix of channels, [B, C, C] or [B, 1, 1], and an offset [B, 1]; white = 1."""
    pixels: Callable[[Any, Stream, Tensor], Tensor] | None = None
    """(amounts, stream, image [B, C, S, S] in 0..1) to the image, perhaps in place."""
    mix: Callable[[Any, Stream, int], Tensor] | None = None
    """(amounts, stream, size) to [B, S, S] or [B, 1, 1]: how much of an image is kept; the rest is another's."""


def always(amounts: Section) -> Callable[[Level, Data], Section]:
    """A preset of the same amounts at every level."""
    return lambda level, data: amounts


def by_level(**amounts: Section) -> Callable[[Level, Data], Section | None]:
    """A preset by the names of levels; left out where none is given."""
    return lambda level, data: amounts.get(level)


def measures(data: Data) -> str:
    """Why geometry is unwise: what is asked may be how large, how many, where, or at what angle."""
    return "a number may depend on size, place and direction" if data.spec.representation == "scalar" else ""


def one_picture(data: Data) -> str:
    """Why a change of the input alone is unwise: it would be learned to be undone."""
    return "the answer is the image itself" if data.spec.task == "image" else ""
