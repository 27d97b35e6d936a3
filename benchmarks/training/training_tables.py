"""The tables of `benchmarks.training.compare_training`."""

import math
import statistics
from itertools import pairwise
from typing import Any

from benchmarks.training.training_cases import AUTO, CONTESTANTS, EQUAL

STEP = 0.05  # of a score
Run = dict[str, Any]
"""What was seen of a contestant."""
Race = dict[str, Run]


def table(case: str, cell: dict[str, Any]) -> str:
    """Markdown: rates, with ratios to Macula in 32 bits, and times to a score, with ratios to Macula as it is."""
    images, races = cell["images"], list(cell["races"].values())
    least = min(best(run) for race in races for run in race.values() if run["epochs"])
    target = STEP * math.floor(least / STEP + 1e-9)
    rates = [
        f"**{case}**: {images} images, {cell['recipe']['epochs']} epochs, {len(races)} seeds",
        "",
        f"| | images/s | times {EQUAL} | images a CPU second | times {EQUAL} |",
        "|---|---|---|---|---|",
    ]
    times = [
        f"| CPU seconds unless said | until the first epoch | of an epoch with its score | times {AUTO} | "
        f"to {target:.2f} | times {AUTO} | by the clock | times {AUTO} | best score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in CONTESTANTS:
        mine = [(race[name], race) for race in races if race.get(name, {}).get("epochs")]
        if mine:
            rates.append(f"| {name} | {_rates(mine, images)} |")
            times.append(f"| {name} | {_times(mine, target)} | {_middle([best(run) for run, _ in mine], 3)} |")
    return "\n".join([*rates, "", *times, ""])


def _rates(mine: list[tuple[Run, Race]], images: int) -> str:
    """Columns of a contestant: images a second by the clock and of the processor."""
    cells = []
    for clock in ("training", "training_processor"):
        rates = [images / epoch[clock] for run, _ in mine for epoch in run["epochs"][1:]]
        shares = [
            own[clock] / epoch[clock]
            for run, race in mine
            if EQUAL in race
            for epoch, own in zip(run["epochs"][1:], race[EQUAL]["epochs"][1:], strict=True)
        ]
        cells += [_middle(rates, 0), _spread(shares)]
    return " | ".join(cells)


def _times(mine: list[tuple[Run, Race]], target: float) -> str:
    """Columns of a contestant: what it takes to begin, an epoch, and to reach the score."""
    begins = [_begun(run) for run, _ in mine]
    lasting = [seconds for run, _ in mine for seconds in _epochs(run)]
    ratios = [
        a / b for run, race in mine if AUTO in race for a, b in zip(_epochs(run), _epochs(race[AUTO]), strict=False)
    ]
    cells = [_middle(begins, 0), _middle(lasting, 1), _spread(ratios)]
    for clock in ("processor", "at"):
        times = [when(run, target, clock) for run, _ in mine]
        shares = [when(run, target, clock) / when(race[AUTO], target, clock) for run, race in mine if AUTO in race]
        cells += [_middle(times, 0), _spread(shares)]
    return " | ".join(cells)


def _epochs(run: Run) -> list[float]:
    """CPU seconds from score to score."""
    return [after["processor"] - before["processor"] for before, after in pairwise(run["epochs"])]


def _begun(run: Run) -> float:
    """CPU seconds until an epoch's worth before the first score."""
    return run["epochs"][0]["processor"] - statistics.median(_epochs(run))


def best(run: Run) -> float:
    """The highest score of a validation."""
    return max(epoch["score"] for epoch in run["epochs"])


def when(run: Run, target: float, clock: str) -> float:
    """Seconds until a validation said the score."""
    return next(epoch[clock] for epoch in run["epochs"] if epoch["score"] >= target)


def _middle(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else ""


def _spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""
