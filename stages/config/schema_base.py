"""Base class and shared types of the params sections."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Share = Annotated[float, Field(ge=0, le=1)]
"""Number from 0 to 1."""
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
"""Non-empty text."""


@dataclass(frozen=True)
class Unit:
    """Unit of a key, as annotation: `Annotated[int, Unit("pixels")]`."""

    name: str
    """Unit in words."""


class Section(BaseModel):
    """Frozen section of the params: unknown keys are errors, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
