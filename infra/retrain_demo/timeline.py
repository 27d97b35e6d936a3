"""Timeline of the demonstration: one bar per run, with its state, and the load of the server."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

COLOURS = {
    "Promoted": "#2a7f4f",
    "Released": "#2a7f4f",
    "Deployed": "#2a7f4f",
    "Kept": "#6f7d8c",
    "Held": "#6f7d8c",
    "Drift": "#c97a00",
    "Stopped": "#b3372f",
    "Rolled-back": "#b3372f",
    "Served": "#3a6ea5",
}
"""Colour of a bar by the state of its run."""


@dataclass(frozen=True)
class Bar:
    """Run of a flow, or time during which the server was under load."""

    lane: str
    """Name of the flow, or `server`."""
    title: str
    """What the run worked on."""
    state: str
    """State in which it ended; key of `COLOURS`."""
    note: str
    """What came out, such as a version."""
    began: float
    """Start, seconds since 1970."""
    ended: float
    """End, seconds since 1970."""


def write_timeline(bars: list[Bar], folder: Path) -> Path:
    """Write `timeline.json` and `timeline.png`; return the picture.

    Args:
        bars: runs in the order in which they began, at least one.
        folder: folder to write to.
    """
    start = datetime.fromtimestamp(bars[0].began, UTC).isoformat(timespec="seconds")
    content = {"start": start, "bars": [asdict(bar) for bar in bars]}
    (folder / "timeline.json").write_text(json.dumps(content, indent=1) + "\n")
    return draw(bars, folder / "timeline.png")


def draw(bars: list[Bar], file: Path) -> Path:
    """Draw the bars on a time axis, one row per bar, and return the file.

    Args:
        bars: runs in the order in which they began, at least one.
        file: PNG file to write.
    """
    from matplotlib.figure import Figure  # not pyplot, which would open a display

    first, last = min(bar.began for bar in bars), max(bar.ended for bar in bars)
    figure = Figure(figsize=(10, 0.62 * len(bars) + 0.9), dpi=110, layout="constrained")
    axes = figure.subplots()
    for row, bar in enumerate(bars):
        left, width = (bar.began - first) / 60, (bar.ended - bar.began) / 60
        axes.barh(row, width, left=left, height=0.55, color=COLOURS[bar.state])
        late = left + width / 2 > (last - first) / 60 * 0.6
        text = f"{bar.title}\n{bar.state}{f': {bar.note}' if bar.note else ''}"
        place, align = (left - 0.08, "right") if late else (left + width + 0.08, "left")
        axes.text(place, row, text, ha=align, va="center", fontsize=8.5, linespacing=1.25)
    axes.set_yticks(range(len(bars)), [bar.lane for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, (last - first) / 60 * 1.02)
    axes.set_xlabel("minutes since the first batch arrived")
    axes.grid(axis="x", linewidth=0.5, alpha=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(file)
    return file
