"""Elastic deformation: smooth random displacement (Simard, Steinkraus and Platt 2003) by cubic B-splines."""

import math
from typing import Annotated

from pydantic import Field, model_validator

from stages.augmentations.augmentation_interface import (
    Augmentation,
    AugmentationData,
    Level,
    Scene,
    Tensor,
    geometry_alters_target,
)
from stages.augmentations.rng import RandomStream
from stages.config.schema_base import Section, Share
from stages.core.shapes import Float

SPANS_PER_WAVE = 2 * math.pi / math.sqrt((2 / 3) / (151 / 315))
"""Lattice spans per wavelength of a spline with random coefficients.

The mean frequency is sqrt(integral of B'^2 / integral of B^2).
"""
SPREAD = 151 / 315
"""Standard deviation of a 2-D spline with unit-variance coefficients.

The variance is the square of the integral of B^2: one factor per axis.
"""


class Elastic(Section):
    """Smooth random displacement of the image."""

    amplitude: Annotated[float, Field(ge=0)] = 1.0
    """Root mean square displacement, working pixels, at most an eighth of `wavelength`."""
    wavelength: Annotated[float, Field(ge=8)] = 32.0
    """Mean wavelength of the displacement, working pixels, at least 8."""
    chance: Share = 1.0
    """Probability per image, 0 to 1."""

    @model_validator(mode="after")
    def _check_no_folding(self) -> "Elastic":
        if self.amplitude > self.wavelength / 8:
            raise ValueError(
                f"amplitude {self.amplitude:g} would fold the image at wavelength {self.wavelength:g}; use at most "
                f"{self.wavelength / 8:g}, an eighth of the wavelength"
            )
        return self


def _preset(level: Level, data: AugmentationData) -> Elastic | None:
    share = {"light": 0.0, "standard": 0.015, "strong": 0.03}[level]
    return Elastic(amplitude=share * data.spec.size, wavelength=max(8.0, data.spec.size / 2)) if share else None


def _spans(amounts: Elastic, size: int) -> int:
    return max(1, round(SPANS_PER_WAVE * size / amounts.wavelength))


def _field(
    amounts: Elastic, stream: RandomStream, at_BNN2: Float[Tensor, "B N N 2"], scene: Scene
) -> Float[Tensor, "B N N 2"]:
    each = amounts.amplitude / math.sqrt(2) / SPREAD  # along one axis
    chosen_B = stream.bernoulli(amounts.chance)
    return stream.normal(*at_BNN2.shape[1:]) * (each * chosen_B)[:, None, None, None]


ELASTIC = Augmentation(Elastic, _preset, unwise=geometry_alters_target, spans=_spans, field=_field)
