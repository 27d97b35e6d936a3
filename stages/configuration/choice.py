"""Proposed value of one params key."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """Proposed value with its reason."""

    key: str
    """Dotted params key."""
    value: Any
    why: str = ""
    """Reason; empty if the value needs no explanation."""
