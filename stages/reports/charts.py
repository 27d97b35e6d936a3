"""Charts as inline SVG without a background, in colours that the style sheet adapts to light and dark mode."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from stages.core.plurals import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED = "#3f83c4", "#d0771f", "#2f9a6e", "#d14b5a"  # mid-tones: 3:1 against white and near-black
INK = "#010203"
ROLES = {INK: "currentColor", BLUE: "var(--bar)", ORANGE: "var(--bar-2)", GREEN: "var(--bar-3)", RED: "var(--bar-4)"}
"""CSS colour by colour of the chart; the style sheet defines a shade for light and for dark mode."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text remains text, in the font of the page: searchable and accessible
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def _chart(draw: Any, alt: str, width: float = 4.4, height: float = 3.0) -> Markup:
    """Return what `draw(axes)` plots, as SVG with an alternative text.

    Args:
        draw: plots on matplotlib axes.
        alt: alternative text.
        width: width of the figure, inches.
        height: height of the figure, inches.
    """
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which would open a display

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), alt)


def _inline(svg: str, alt: str) -> Markup:
    """Adapt an SVG for embedding: no metadata, colours and font of the page, ids that are unique in the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    for colour, role in ROLES.items():
        svg = svg.replace(colour, role)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    mark = "c" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\1{mark}-", svg)
    size = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    assert size, "matplotlib's SVG has a viewBox"
    head = f'<svg class="chart" role="img" style="max-width: {float(size[1]) * 4 / 3:.0f}px" aria-label="{escape(alt)}"'
    svg = re.sub(r'^<svg width="[^"]*" height="[^"]*"', lambda _: head, svg)
    return Markup(svg)  # noqa: S704 matplotlib escapes its texts


def curves(
    lines: dict[str, Sequence[float]], x: Sequence[float], xlabel: str, ylabel: str, mark: float | None
) -> Markup:
    """Plot named lines over x, each labelled at its end; undefined values are gaps.

    Args:
        lines: values by name, at most four lines.
        x: positions of the values.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        mark: x of a dashed vertical line; None: no line.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes") -> None:
        ends = []
        for colour, (name, values) in zip((BLUE, ORANGE, GREEN, RED), lines.items(), strict=False):
            axes.plot(x, values, color=colour, marker="o" if len(x) < 3 else None, markersize=4)
            if defined := [float(value) for value in values if np.isfinite(value)]:
                ends.append((defined[-1], name, colour))
        if mark is not None:
            axes.axvline(mark, color=INK, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.6)
        low, high = axes.get_ylim()
        line = (high - low) * 0.075
        places = np.array(_apart([value for value, _, _ in ends], line))
        places += max(0.0, low + line - places.min(initial=np.inf))  # not on the axis
        for place, (_, name, colour) in zip(places, ends, strict=True):
            axes.annotate(name, (x[-1], place), (5, 0), textcoords="offset points", color=colour, va="center")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    summary = "; ".join(f"{name} from {v[0]:.3g} to {v[-1]:.3g}" for name, v in lines.items())
    return _chart(draw, f"{ylabel} by {xlabel}: {summary}")


def loss_by_rate(rates: Sequence[float], losses: Sequence[float], chosen: float) -> Markup:
    """Plot the loss of a learning-rate range test by the rate, with the chosen rate.

    Args:
        rates: learning rates of the test.
        losses: smoothed loss at each rate.
        chosen: chosen rate.
    """

    def draw(axes: "Axes") -> None:
        axes.plot(rates, losses, color=BLUE)
        axes.axvline(chosen, color=INK, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.6)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")

    return _chart(draw, f"Loss by learning rate, lowest {min(losses):.3g}; {chosen:.3g} was chosen")


def _apart(values: list[float], gap: float) -> list[float]:
    """Return positions close to the values, of which neighbours closer than `gap` are moved apart in ascending order.

    Two labels never overlap; among more, moving one pair may bring the lower one closer to its other neighbour.
    """
    places = np.array(values)
    order = np.argsort(places)
    for before, after in pairwise(order):
        short = gap - (places[after] - places[before])
        if short > 0:
            places[before] -= short / 2
            places[after] += short / 2
    return [float(p) for p in places]


def reliability(confidence: Sequence[float], accuracy: Sequence[float], count: Sequence[int]) -> Markup:
    """Plot a reliability diagram: accuracy by confidence, with dots sized by the number of images.

    Args:
        confidence: mean confidence of each bin, 0 to 1.
        accuracy: share of correct predictions of each bin, 0 to 1.
        count: number of images in each bin.
    """

    def draw(axes: "Axes") -> None:
        size = 20 + 160 * np.sqrt(np.array(count) / max([1, *count]))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.6)
        axes.plot(confidence, accuracy, color=BLUE, linewidth=1, alpha=0.6)
        axes.scatter(confidence, accuracy, s=size, color=BLUE, alpha=0.8)
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.04, 1.06))
        axes.set(xlabel="confidence of the prediction", ylabel="share of correct predictions")

    pairs = ", ".join(f"{a:.2f} at {c:.2f}" for c, a in zip(confidence, accuracy, strict=True))
    return _chart(draw, f"Share of correct predictions by confidence: {pairs}", 4.4, 3.8)


def heat_map(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Markup:
    """Plot the confusion matrix of many classes, as shares of each true class; correct is blue, wrong is red."""
    counts = np.array(confusion, float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(counts), dtype=bool)
    colour = np.where(right[:, :, None], _rgb(BLUE), _rgb(RED))
    # Square root, so that a confusion of a tenth of a class is visible.
    cells = np.concatenate([colour, np.sqrt(share)[:, :, None]], axis=2)

    def draw(axes: "Axes") -> None:
        axes.imshow(cells, interpolation="none", aspect="equal")
        axes.grid(False)
        axes.set(xlabel="prediction", ylabel="truth")
        axes.spines[["top", "right"]].set_visible(True)
        ticks = range(len(labels)) if len(labels) <= 45 else []
        axes.set_xticks(ticks, [_cut(labels[i]) for i in ticks], rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(ticks, [_cut(labels[i]) for i in ticks], fontsize=7, parse_math=False)

    correct = int(np.trace(counts))
    alt = f"Confusion matrix of {len(labels)} classes: {correct} of {int(counts.sum())} predictions are on the diagonal"
    return _chart(draw, alt, 7.5, 7.2)


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _cut(label: str) -> str:
    return label if len(label) <= 18 else label[:17] + "\N{HORIZONTAL ELLIPSIS}"


def prediction_scatter(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str) -> Markup:
    """Plot predictions y against truths x, with the line of equality.

    Args:
        x: values of the horizontal axis.
        y: values of the vertical axis, one per value of `x`.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
    """

    def draw(axes: "Axes") -> None:
        low, high = min(*x, *y), max(*x, *y)
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.6)
        axes.scatter(x, y, s=18, color=BLUE, alpha=0.6)
        axes.set(xlabel=xlabel, ylabel=ylabel)

    return _chart(draw, f"{ylabel} against {xlabel}: {quantity(len(x), 'image')}", 3.8, 3.4)


def trend(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str) -> Markup:
    """Plot y against x, with the medians of the fifths along x.

    Args:
        x: values of the horizontal axis.
        y: values of the vertical axis, one per value of `x`.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
    """

    def draw(axes: "Axes") -> None:
        axes.scatter(x, y, s=14, color=BLUE, alpha=0.45)
        order = np.argsort(x)
        fifths = [part for part in np.array_split(order, 5) if len(part)]
        middles = [(float(np.median(np.array(x)[part])), float(np.median(np.array(y)[part]))) for part in fifths]
        axes.plot(*zip(*middles, strict=True), color=ORANGE, marker="o", markersize=4)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.locator_params(axis="x", nbins=5)

    return _chart(draw, f"{ylabel} by {xlabel}: {quantity(len(x), 'image')}, medians of fifths", 3.8, 2.9)


def scatter(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str, best: int, log: bool) -> Markup:
    """Plot y against x and mark one point.

    Args:
        x: values of a params key, one per trial.
        y: scores of the trials.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        best: index of the point to mark.
        log: use a logarithmic x axis.
    """

    def draw(axes: "Axes") -> None:
        axes.scatter(x, y, s=28, color=BLUE, alpha=0.75)
        axes.scatter([x[best]], [y[best]], s=70, color=ORANGE)
        axes.annotate("best", (x[best], y[best]), (8, 0), textcoords="offset points", color=ORANGE, va="center")
        if log:
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=4)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.margins(0.12)

    return _chart(draw, f"{ylabel} by {xlabel}; best {y[best]:.3g} at {x[best]:.3g}", 3.6, 2.7)


def history(number: Sequence[int], score: Sequence[float], so_far: Sequence[float]) -> Markup:
    """Plot the score of each trial, and the best score so far.

    Args:
        number: numbers of the trials.
        score: score of each trial.
        so_far: best score up to each trial.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes") -> None:
        axes.scatter(number, score, s=22, color=BLUE, alpha=0.75)
        axes.step(number, so_far, where="post", color=ORANGE, linewidth=1.2)
        axes.annotate("best so far", (number[-1], so_far[-1]), (-4, 4), textcoords="offset points", color=ORANGE,
                      ha="right")  # fmt: skip
        axes.set(xlabel="trial", ylabel="score")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _chart(draw, f"Score by trial; the best is {so_far[-1]:.3g}", 3.6, 2.7)


def parallel_coordinates(columns: Mapping[str, Sequence[Any]], score: Sequence[float], higher: bool) -> Markup:
    """Plot one line per trial across the searched keys, each scaled to its range; better trials are more opaque.

    Args:
        columns: values of the trials, by key.
        score: scores of the trials.
        higher: True if a higher score is better.
    """
    places, ticks = [], []
    for values in columns.values():
        words = sorted({str(v) for v in values}) if not all(isinstance(v, int | float) for v in values) else []
        numbers = np.array([words.index(str(v)) for v in values] if words else values, float)
        log = not words and numbers.min() > 0 and numbers.max() / numbers.min() > 8
        scaled = np.log(numbers) if log else numbers
        places.append((scaled - scaled.min()) / max(float(np.ptp(scaled)), 1e-12))
        ticks.append((words[0], words[-1]) if words else (f"{numbers.min():.2g}", f"{numbers.max():.2g}"))
    rank = np.argsort(np.argsort(np.array(score) * (1 if higher else -1))) / max(1, len(score) - 1)

    def draw(axes: "Axes") -> None:
        for i in np.argsort(rank):
            best = rank[i] == 1
            axes.plot(range(len(places)), [p[i] for p in places], color=ORANGE if best else BLUE,
                      alpha=0.15 + 0.75 * float(rank[i]), linewidth=2.2 if best else 1)  # fmt: skip
        for x, (low, high) in enumerate(ticks):
            axes.annotate(low, (x, 0), (0, -10), textcoords="offset points", ha="center", fontsize=7)
            axes.annotate(high, (x, 1), (0, 4), textcoords="offset points", ha="center", fontsize=7)
        axes.set_xticks(range(len(places)), [key.rpartition(".")[2] for key in columns])
        axes.tick_params(axis="x", pad=12)
        axes.set(yticks=[], ylim=(-0.05, 1.1))

    return _chart(draw, f"{len(score)} trials across {', '.join(columns)}; the best is highlighted", 4.4, 2.7)


def histogram(values: Mapping[str, Sequence[float]], xlabel: str) -> Markup:
    """Plot histograms of at most two sets, each as shares of its set, so that sets of different size are comparable."""
    together = np.concatenate([np.asarray(numbers, float) for numbers in values.values()])
    edges = np.histogram_bin_edges(together, bins=24)

    def draw(axes: "Axes") -> None:
        for colour, (name, numbers) in zip((BLUE, ORANGE), values.items(), strict=False):
            share = np.histogram(numbers, edges)[0] / max(1, len(numbers))
            axes.stairs(share, edges, color=colour, linewidth=1.4, label=name)
        axes.set(xlabel=xlabel, ylabel="share of the images")
        axes.legend(frameon=False, fontsize=8)
        axes.locator_params(axis="x", nbins=4)

    medians = ", ".join(f"{name} {np.median(numbers):.3g}" for name, numbers in values.items() if len(numbers))
    return _chart(draw, f"Distribution of {xlabel}, medians: {medians}", 3.0, 2.3)


def position_map(x: Sequence[float], y: Sequence[float], name: str) -> Markup:
    """Plot a 2D histogram of the positions of objects.

    Args:
        x: horizontal positions, shares of the width.
        y: vertical positions, shares of the height.
        name: name of the objects.
    """
    counts, _, _ = np.histogram2d(y, x, bins=16, range=((0, 1), (0, 1)))
    cells = np.concatenate(
        [np.broadcast_to(_rgb(BLUE), (16, 16, 3)), np.sqrt(counts / max(1, counts.max()))[:, :, None]], axis=2
    )

    def draw(axes: "Axes") -> None:
        axes.imshow(cells, interpolation="none", aspect="equal", extent=(0, 1, 1, 0))
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_xticks([])
        axes.set_yticks([])

    middle = f"{np.median(x):.2f} across, {np.median(y):.2f} down"
    return _chart(draw, f"Position of {name} in the image: median {middle}", 1.1, 1.1)


def interval_band(
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    dots: Sequence[tuple[float, float]],
    mark: float,
    xlabel: str,
    ylabel: str,
) -> Markup:
    """Plot a line with its interval over a logarithmic x axis, measured points, and the current x.

    Args:
        x: positions of the line.
        y: values of the line.
        low: lower ends of the interval.
        high: upper ends of the interval.
        dots: measured (x, y).
        mark: current x.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    def draw(axes: "Axes") -> None:
        axes.fill_between(x, low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(x, y, color=BLUE)
        axes.scatter([n for n, _ in dots], [v for _, v in dots], s=22, color=ORANGE, zorder=3)
        axes.set_xscale("log")
        axes.axvline(mark, color=INK, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.6)
        axes.annotate("now", (mark, axes.get_ylim()[1]), (4, -4), textcoords="offset points", va="top")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=xlabel, ylabel=ylabel)

    measured = ", ".join(f"{v:.3g} at {n:,.0f}" for n, v in dots)
    ahead = f"{y[-1]:.3g} ({low[-1]:.3g} to {high[-1]:.3g}) at {x[-1]:,.0f}"
    return _chart(draw, f"{ylabel} by {xlabel}: measured {measured}; predicted {ahead}", 4.4, 2.9)
