"""What a proposal is made of."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A value that is proposed."""

    key: str
    """Dotted."""
    value: Any
    why: str = ""
    """Empty where it is merely as it must be."""
