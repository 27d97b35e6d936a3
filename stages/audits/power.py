"""Power of the audits: faults are planted in the data, and an audit passes only if it would report most of them.

Faults are planted in what an audit has measured already (statistics, features, labels), so that no image is read again.
Counts and seeds depend on the data only, so that a repeated audit gives the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.core.findings import Finding, Severity
from stages.core.shapes import Array, Integer

MIN_POWER = 0.8
"""Share of the planted faults that an audit must report before it passes."""
TRIALS = 10
"""Planted faults of one kind, if each changes a whole class or split."""
SHARE = 0.05
"""Share of the images with a planted fault, if each changes one image."""
FEWEST, MOST = 5, 100  # images with a planted fault


@dataclass(frozen=True)
class Power:
    """Planted faults of one kind, and how many of them an audit reports."""

    fault: str
    """The fault in words, such as `images of one class that are 23 levels brighter`."""
    found: int
    """Number of planted faults that the audit reports."""
    planted: int
    """Number of planted faults."""
    missing: str
    """What would make the audit find more of them, as a sentence."""
    alarms: str = ""
    """False alarms in words, such as `false alarms in 0 of 499 permutations`; empty if unknown."""

    @property
    def is_sufficient(self) -> bool:
        """True if the audit reports enough of the planted faults to pass."""
        return self.planted > 0 and self.found >= MIN_POWER * self.planted


def describe(powers: Sequence[Power]) -> str:
    """Return the faults with the number of those found, and the false alarms, each once.

    >>> describe([Power("a stamp", 5, 5, "", "false alarms in 0 of 499 permutations")])
    'a stamp (5 of 5 planted; false alarms in 0 of 499 permutations)'
    """
    shown = []
    for power, following in zip(powers, [*powers[1:], None], strict=True):
        last = following is None or following.alarms != power.alarms
        alarms = f"; {power.alarms}" if power.alarms and last else ""
        shown.append(f"{power.fault} ({power.found} of {power.planted} planted{alarms})")
    return "; ".join(shown)


def require_power(finding: Finding, powers: Sequence[Power]) -> list[Finding]:
    """Return a finding; if it is passed, with the faults that the audit would find, and a finding about the others.

    If none of the faults would be found, only the finding about the others is left (`AUDIT/not-checked`).

    Args:
        finding: finding of an audit, of any severity.
        powers: power for each kind of fault; at least one if the finding is passed.
    """
    if finding.severity != "passed":
        return [finding]
    assert powers, f"{finding.id} passes without power"
    would, would_not = ([p for p in powers if p.is_sufficient == sufficient] for sufficient in (True, False))
    figures = {p.fault: {"found": int(p.found), "planted": int(p.planted)} for p in powers}
    findings = []
    if would:
        evidence = finding.evidence | {"power": figures}
        findings.append(
            replace(finding, message=f"{finding.message} The audit finds {describe(would)}.", evidence=evidence)
        )
    if would_not:
        missing = " ".join(dict.fromkeys(p.missing for p in would_not))
        message = f"`{finding.id}` was not checked for faults that the audit would miss: {describe(would_not)}. "
        message += missing
        if not would:
            message += f" Result without a planted fault: {finding.message}"
        audit = finding.id.split("/")[0]
        findings.append(Finding(f"{audit}/not-checked", "info", message, {"power": figures}))
    return findings


def choose_planted(count: int, most: int = MOST, seed: int = 0) -> Integer[Array, " M"]:
    """Return the sorted indices of the images with a planted fault: 5 % of the images, but 5 to `most`.

    Args:
        count: number of images.
        most: maximum number of images with a planted fault.
        seed: seed of the random choice.
    """
    planted = min(count, int(np.clip(round(SHARE * count), FEWEST, most)))
    return np.sort(np.random.default_rng(seed).permutation(count)[:planted])


def merge_unchecked(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings in which those named `AUDIT/not-checked` are one, the last, with the sentences of all.

    Its severity is `warning` if one of them warns.

    Args:
        findings: findings of one audit.
    """
    unchecked = [finding for finding in findings if finding.id.endswith("/not-checked")]
    others = [finding for finding in findings if finding not in unchecked]
    if len(unchecked) < 2:
        return [*others, *unchecked]
    severity: Severity = "warning" if any(one.severity == "warning" for one in unchecked) else "info"
    evidence: dict[str, Any] = {}
    for one in unchecked:
        evidence |= one.evidence | {"power": evidence.get("power", {}) | one.evidence.get("power", {})}
    message = " ".join(one.message for one in unchecked)
    return [*others, Finding(unchecked[0].id, severity, message, evidence)]
