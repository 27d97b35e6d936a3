"""Findings prepared for a page: worst first, with their images."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.reports.charts import interval_band
from stages.reports.thumbnails import Album, Thumbnail

LONG = 30  # characters; longer values are written on separate lines
NOT_NULL = "checks/not_null_"
"""Beginning of the ids of the rules that a column of the manifest has a value for every image."""
ORDER = ("blocking", "warning", "waived", "info", "passed")


@dataclass(frozen=True)
class Card:
    """Content of a finding for a page."""

    id: str
    badge: str
    """One of `ORDER`: the severity, or `waived`."""
    message: str
    reason: str
    """Reason for the waiver; empty if the finding is not waived."""
    evidence: list[tuple[str, str]]
    strip: list[Thumbnail]
    unseen: int
    """Number of images of the finding that are not shown."""
    chart: Markup
    """Chart of `evidence["chart"]`, the arguments of `charts.interval_band`; empty if there is none."""


def make_cards(
    findings: Iterable[Finding],
    album: Album,
    waived: Mapping[str, str] | None = None,
    most: int = 24,
) -> list[Card]:
    """Return the cards of findings, worst first.

    Args:
        findings: findings to show.
        album: thumbnails of the images.
        waived: reasons for waivers, by id of the finding.
        most: maximum number of images per card.
    """
    waived = waived or {}
    shown = [_card(finding, album, waived.get(finding.id, ""), most) for finding in findings]
    return sorted(shown, key=lambda card: (ORDER.index(card.badge), card.id))


def _card(finding: Finding, album: Album, reason: str, most: int) -> Card:
    images = list(dict.fromkeys(finding.images))

    def caption(row: Any) -> str:
        return f"{finding.captions.get(row['path'], row['label'])}\n{_short(row['path'])}"

    strip = album.strip(images[:most], caption, places=finding.places)
    unseen = len(images) - len(strip)
    figures = {key: value for key, value in finding.evidence.items() if key != "chart"}
    chart = interval_band(**finding.evidence["chart"]) if "chart" in finding.evidence else Markup("")
    badge = badge_of(finding, reason)
    return Card(finding.id, badge, finding.message, reason, list(flatten_evidence(figures)), strip, unseen, chart)


def badge_of(finding: Finding, reason: str) -> str:
    """Return the severity, or `waived` if a warning or blocking finding has a reason."""
    return "waived" if reason and finding.severity in ("blocking", "warning") else finding.severity


def _short(path: str) -> str:
    name = path.rpartition("/")[2]
    return name if len(name) <= 16 else f"{name[:6]}\N{HORIZONTAL ELLIPSIS}{name[-8:]}"


def flatten_evidence(evidence: Mapping[str, Any], prefix: str = "", most: int = 40) -> Iterable[tuple[str, str]]:
    """Yield nested evidence as rows of a table, with long lists truncated.

    Args:
        evidence: evidence of a finding.
        prefix: beginning of all row names.
        most: maximum number of rows per mapping, and of values per list.

    >>> list(flatten_evidence({"p": 0.002, "by": {"a": 1}}))
    [('p', '0.002'), ('by / a', '1')]
    """
    for count, (key, value) in enumerate(evidence.items()):
        if count == most:
            yield f"{prefix}\N{HORIZONTAL ELLIPSIS}", f"and {len(evidence) - most} more"
            return
        if isinstance(value, Mapping) and value:
            yield from flatten_evidence(value, f"{prefix}{key} / ", most)
        elif isinstance(value, list | tuple):
            more = f" and {len(value) - most} more" if len(value) > most else ""
            lines = any(isinstance(v, Mapping | list) or len(_text(v)) > LONG for v in value)
            between = "\n" if lines else ", "
            yield f"{prefix}{key}", between.join(_text(v) for v in value[:most]) + more
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(v)}" for key, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def merge_columns(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in which the passed rules that a column has no missing value are one: a reader counts one check.

    >>> [f.message for f in merge_columns([Finding(f"checks/not_null_{n}", "passed", "") for n in ("path", "label")])]
    ['2 columns of the manifest have a value for every image.']
    """
    findings = list(findings)
    merged = [f for f in findings if f.id.startswith(NOT_NULL) and f.severity == "passed"]
    others = [f for f in findings if f not in merged]
    if not merged:
        return others
    columns = quantity(len(merged), "column of the manifest has", "columns of the manifest have")
    return [*others, Finding(NOT_NULL.rstrip("_"), "passed", f"{columns} a value for every image.")]


def count_by_severity(shown: Iterable[Card]) -> list[tuple[str, int]]:
    """Return the number of cards by badge, worst first, without badges that do not occur."""
    counts = Counter(card.badge for card in shown)
    return [(badge, counts[badge]) for badge in ORDER if counts[badge]]
