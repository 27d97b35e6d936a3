"""What a check or an audit has to say; found by `validate` and `audit`, acted on by `gate`, shown by `report`."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["passed", "info", "warning", "blocking"]


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    Audits find, the gate stops: only `gate` decides what a severity leads to.
    """

    id: str
    """Stable name, `audit/what`, by which `gate.waive` names it."""
    severity: Severity
    """passed: checked and fine; info: worth knowing; warning: look at it; blocking: the gate stops unless waived."""
    says: str
    """The finding in one or two sentences, with its figures."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Figures behind the sentence, JSON-ready."""
    images: list[str] = field(default_factory=list)
    """Manifest paths of images to look at, the most telling first. Never of the sealed test split."""
    captions: dict[str, str] = field(default_factory=dict)
    """Manifest path: what is written under its image; its label where nothing is said."""
    places: dict[str, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    """Manifest path: where to look in its image; boxes x0, y0, x1, y1 in pixels, edges."""


def write_findings(findings: list[Finding], file: Path) -> None:
    """Write findings as JSON; a figure that is no finite number, as numbers near the largest one give, as null."""
    file.write_text(json.dumps(_finite([asdict(f) for f in findings]), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_findings(file: Path) -> list[Finding]:
    """Read what `write_findings` wrote."""
    return [Finding(**f) for f in json.loads(file.read_text())]
