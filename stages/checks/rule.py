"""A rule of the manifest, and what became of it."""

from dataclasses import dataclass, field
from typing import Any

BETWEEN = ("min_value", "max_value")
CHAPTERS = ("yours", "splits", "labels", "images", "table")
"""What rules are about, in the order of the page."""


@dataclass(frozen=True)
class Rule:
    """One rule of the manifest, one expectation of the suite."""

    name: str
    description: str
    """The rule in plain words."""
    expectation: str
    """Name of a built-in expectation; or of one of `FINDERS`."""
    fault: str = ""
    """What is wrong, in words: `3 of 90 images {fault}`; around {observed}; or after the offences of a finder."""
    wants: dict[str, Any] = field(default_factory=dict)
    """Arguments of the expectation."""
    about: str = "table"
    """One of `CHAPTERS`."""
    severity: str = "blocking"
    """Of a broken rule: blocking or warning."""
    why: str = ""
    """Why it is asked, where somebody said so."""

    @property
    def id(self) -> str:
        """Id of its finding."""
        return f"checks/{self.name}"

    @property
    def columns(self) -> list[str]:
        """Those that a built-in expectation looks at."""
        return columns_in(self.wants)


@dataclass(frozen=True)
class Verdict:
    """What became of a rule; an element of `results.json`."""

    id: str
    description: str
    expectation: str
    wants: dict[str, Any]
    about: str
    why: str
    severity: str
    observed: str
    says: str
    offenders: list[str] = field(default_factory=list)
    """Sentences, or paths of images."""
    images: dict[str, str] = field(default_factory=dict)
    """Path of an image to look at: what is wrong with it, in a few words or none."""


def columns_in(arguments: dict[str, Any]) -> list[str]:
    """The columns that arguments of a built-in expectation name."""
    single = [arguments[key] for key in ("column", "column_A", "column_B") if key in arguments]
    return [str(name) for name in (*single, *arguments.get("column_list", ()))]
