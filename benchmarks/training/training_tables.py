"""Tables of `compare_training`."""

import math
import statistics
from itertools import pairwise
from typing import Any

from benchmarks.training.training_cases import AUTO, COMPETITORS, EQUAL
from stages.core.plurals import quantity

SCORE_STEP = 0.05
Run = dict[str, Any]
"""Epochs and times of a competitor with one seed."""
Race = dict[str, Run]


def table(case: str, cell: dict[str, Any]) -> str:
    """Return two tables in Markdown: rates, and times to a score.

    Rates are compared with Macula in 32 bits, times with Macula's automatic settings. If no competitor completed an
    epoch, a sentence that says so is returned instead.

    Args:
        case: name of the case.
        cell: results of the case.
    """
    images, races = cell["images"], list(cell["races"].values())
    scores = [best_score(run) for race in races for run in race.values() if run["epochs"]]
    if not scores:
        return f"**{case}**: no competitor completed an epoch\n"
    target = SCORE_STEP * math.floor(min(scores) / SCORE_STEP + 1e-9)
    rates = [
        f"**{case}**: {images} images, {cell['recipe']['epochs']} epochs, {quantity(len(races), 'seed')}",
        "",
        f"| | images/s | ratio to {EQUAL} | images per CPU second | ratio to {EQUAL} |",
        "|---|---|---|---|---|",
    ]
    times = [
        f"| CPU seconds | before the first epoch | per epoch with validation | ratio to {AUTO} | "
        f"to {target:.2f} | ratio to {AUTO} | wall-clock seconds | ratio to {AUTO} | best score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in COMPETITORS:
        mine = [(race[name], race) for race in races if race.get(name, {}).get("epochs")]
        if mine:
            rates.append(f"| {name} | {_rates(mine, images)} |")
            times.append(f"| {name} | {_times(mine, target)} | {_median([best_score(run) for run, _ in mine], 3)} |")
    return "\n".join([*rates, "", *times, ""])


def _rates(mine: list[tuple[Run, Race]], images: int) -> str:
    """Return the cells of a competitor: images per second of wall-clock and of processor time, each with its ratio.

    The first epoch is left out.
    """
    cells = []
    for clock in ("training", "training_processor"):
        rates = [images / epoch[clock] for run, _ in mine for epoch in run["epochs"][1:]]
        shares = [
            own[clock] / epoch[clock]
            for run, race in mine
            if EQUAL in race
            for epoch, own in zip(run["epochs"][1:], race[EQUAL]["epochs"][1:], strict=True)
        ]
        cells += [_median(rates, 0), _spread(shares)]
    return " | ".join(cells)


def _times(mine: list[tuple[Run, Race]], target: float) -> str:
    """Return the cells of a competitor: processor seconds before the first epoch and per epoch, and seconds to a score.

    The seconds to the score are given as processor and as wall-clock time. A ratio follows each cell but the first.
    """
    begins = [_seconds_before_training(run) for run, _ in mine]
    lasting = [seconds for run, _ in mine for seconds in _epochs(run)]
    ratios = [
        a / b for run, race in mine if AUTO in race for a, b in zip(_epochs(run), _epochs(race[AUTO]), strict=False)
    ]
    cells = [_median(begins, 0), _median(lasting, 1), _spread(ratios)]
    for clock in ("processor", "at"):
        times = [seconds_to(run, target, clock) for run, _ in mine]
        shares = [
            seconds_to(run, target, clock) / seconds_to(race[AUTO], target, clock) for run, race in mine if AUTO in race
        ]
        cells += [_median(times, 0), _spread(shares)]
    return " | ".join(cells)


def _epochs(run: Run) -> list[float]:
    """Return the processor seconds from one validation to the next."""
    return [after["processor"] - before["processor"] for before, after in pairwise(run["epochs"])]


def _seconds_before_training(run: Run) -> float:
    """Return the processor seconds before the first epoch: those to the first validation, less a median epoch."""
    return run["epochs"][0]["processor"] - statistics.median(_epochs(run))


def best_score(run: Run) -> float:
    """Return the highest validation score of a run."""
    return max(epoch["score"] for epoch in run["epochs"])


def seconds_to(run: Run, target: float, clock: str) -> float:
    """Return the seconds until a validation reached a score.

    Args:
        run: a competitor's run.
        target: the score.
        clock: `at` for wall-clock time, `processor` for processor time.

    Raises:
        StopIteration: no validation reached the score.
    """
    return next(epoch[clock] for epoch in run["epochs"] if epoch["score"] >= target)


def _median(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else ""


def _spread(values: list[float]) -> str:
    """Format the median, the lowest and the highest value; empty without values."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""
