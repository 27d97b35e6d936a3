"""Grid of a search: all combinations of the values of each key."""

from itertools import product
from typing import Any

import numpy as np

from stages.config.schema_search import TUNABLE, Range, Tune
from stages.core.plurals import quantity

DEFAULT_GRID_STEPS = 3


def grid_combinations(tune: Tune) -> list[dict[str, Any]]:
    """Return all combinations of a grid, in order.

    A range has `steps` values (3 by default) from low to high, with equal differences, or equal ratios where `log` is
    set. Values of integer keys are rounded, and duplicates are dropped.
    """
    values = {key: _grid_values(key, span) for key, span in tune.space.items()}
    return [dict(zip(values, one, strict=True)) for one in product(*values.values())]


def grid_problem(tune: Tune) -> str:
    """Return why `tune.trials` is too small for the grid; empty if it is not, or without a grid."""
    if tune.sampler != "grid" or not tune.trials:
        return ""
    combinations = grid_combinations(tune)
    if len(combinations) < tune.trials:
        return ""
    counts = ", ".join(
        quantity(len(_grid_values(key, span)), f"value of {key}", f"values of {key}")
        for key, span in tune.space.items()
    )
    return (
        f"tune.trials: {tune.trials}, but the grid has {quantity(len(combinations), 'combination')} ({counts}), and "
        f"one trial uses the values of params.yaml; raise tune.trials to {len(combinations) + 1}, lower steps in "
        "tune.space, or use another tune.sampler"
    )


def is_integer(key: str) -> bool:
    """Return whether the values of a key are integers."""
    return key in TUNABLE and TUNABLE[key].annotation is int


def _grid_values(key: str, span: Range) -> list[Any]:
    if span.choices is not None:
        return list(span.choices)
    spaced = np.geomspace if span.log else np.linspace
    values = spaced(span.low, span.high, span.steps or DEFAULT_GRID_STEPS).tolist()  # type: ignore[arg-type]
    return sorted({round(value) for value in values}) if is_integer(key) else values
