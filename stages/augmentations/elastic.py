"""Elastic deformation: a smooth random displacement (Simard, Steinkraus and Platt 2003), by B-splines."""

import math
from typing import Annotated

from pydantic import Field, model_validator

from stages.augmentations.augmentation_interface import Augmentation, Data, Level, Scene, Tensor, measures
from stages.augmentations.rng import Stream
from stages.config.schema_base import Section, Share

SPANS_PER_WAVE = 2 * math.pi / math.sqrt((2 / 3) / (151 / 315))
"""Of a spline with random coefficients: its mean frequency is the root of the ratio of the squares of B' and B."""
SPREAD = 151 / 315
"""Deviation of such a spline on a plane, its coefficients having 1: the square of B, integrated, once an axis."""


class Elastic(Section):
    """As a drawing on rubber that is pulled here and there."""

    amplitude: Annotated[float, Field(ge=0)] = 1.0
    """Root mean square of the displacement, working pixels."""
    wavelength: Annotated[float, Field(ge=8)] = 32.0
    """Mean distance from crest to crest, working pixels, 8 or more."""
    chance: Share = 1.0
    """How often, 0 to 1."""

    @model_validator(mode="after")
    def _holds_together(self) -> "Elastic":
        if self.amplitude > self.wavelength / 8:
            raise ValueError(
                f"amplitude {self.amplitude:g} tears what has wavelength {self.wavelength:g}; at most an eighth of it, "
                f"{self.wavelength / 8:g}"
            )
        return self


def _preset(level: Level, data: Data) -> Elastic | None:
    share = {"light": 0.0, "standard": 0.015, "strong": 0.03}[level]
    return Elastic(amplitude=share * data.spec.size, wavelength=max(8.0, data.spec.size / 2)) if share else None


def _spans(amounts: Elastic, size: int) -> int:
    return max(1, round(SPANS_PER_WAVE * size / amounts.wavelength))


def _field(amounts: Elastic, stream: Stream, at_BNN2: Tensor, scene: Scene) -> Tensor:
    each = amounts.amplitude / math.sqrt(2) / SPREAD  # along one axis
    chosen_B = stream.happens(amounts.chance)
    return stream.normal(*at_BNN2.shape[1:]) * (each * chosen_B)[:, None, None, None]


ELASTIC = Augmentation(Elastic, _preset, unwise=measures, spans=_spans, field=_field)
