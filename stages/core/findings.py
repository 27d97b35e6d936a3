"""Findings about the data: written by `validate` and `audit`, acted on by `gate`, shown by `report`."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["passed", "info", "warning", "blocking"]


@dataclass(frozen=True)
class Finding:
    """Result of one check or audit of the data.

    Audits only report: `gate` alone decides what a severity leads to.
    """

    id: str
    """Stable name, `AUDIT/RESULT`, to which `gate.waive` refers."""
    severity: Severity
    """passed: checked without a problem; info: useful to know; warning: to be reviewed; blocking: stops the gate
    unless waived."""
    message: str
    """The finding in a few sentences, with its figures."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Figures behind the message, JSON-ready."""
    images: list[str] = field(default_factory=list)
    """Manifest paths of images to inspect, the most informative first; never images of the sealed test split."""
    captions: dict[str, str] = field(default_factory=dict)
    """Manifest path: caption of its image; an image without a caption is shown with its label."""
    places: dict[str, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    """Manifest path: regions of interest in its image; boxes x0, y0, x1, y1 in pixels, edges."""


def write_findings(findings: list[Finding], file: Path) -> None:
    """Write findings as JSON; figures that are not finite become null."""
    file.write_text(json.dumps(_finite([asdict(f) for f in findings]), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_findings(file: Path) -> list[Finding]:
    """Read findings that `write_findings` wrote, also those of versions that called the message `says`."""
    found = json.loads(file.read_text())
    return [Finding(**{"message" if key == "says" else key: value for key, value in one.items()}) for one in found]
