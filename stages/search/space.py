"""What a search may try: the values of one trial after the other."""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from stages.core.errors import UserError
from stages.dataset.pixel_store import Store
from stages.frame.params import overlay
from stages.frame.sections import TUNABLE, Augment, Range, Section, Tune
from stages.training.training_plan import policy_of

Values = dict[str, Any]
GRID_STEPS = 3  # of a range for which none are given


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """The space as Optuna has it."""
    return {key: _distribution(key, span) for key, span in space.items()}


def _distribution(key: str, span: Range) -> BaseDistribution:
    if span.choices is not None:
        return CategoricalDistribution(span.choices)
    assert span.low is not None and span.high is not None, "Range holds either choices or both ends"
    if _whole(key):
        return IntDistribution(int(span.low), int(span.high), log=span.log)
    return FloatDistribution(span.low, span.high, log=span.log)


def _whole(key: str) -> bool:
    return key in TUNABLE and TUNABLE[key].annotation is int


def sampler(tune: Tune, number: int) -> optuna.samplers.BaseSampler:
    """What proposes trial `number`: a seed of its own makes it the same after a restart."""
    if tune.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=tune.seed + number)
    return optuna.samplers.RandomSampler(seed=tune.seed + number)


def grid(tune: Tune) -> list[Values]:
    """All sets of a grid, in order; a range gives `steps` values from low to high, evenly, of `log` in ratio.

    Raises:
        UserError: they are more than `tune.trials` beside params.yaml as it stands.
    """
    values = {key: _steps(key, span) for key, span in tune.space.items()}
    sets = [dict(zip(values, one, strict=True)) for one in product(*values.values())]
    if len(sets) > tune.trials - 1:
        counts = ", ".join(f"{len(of_key)} of {key}" for key, of_key in values.items())
        raise UserError(
            f"tune.trials: {tune.trials}, but the grid has {len(sets)} sets ({counts}) beside params.yaml as it "
            "stands; raise tune.trials, lower steps in tune.space, or use another tune.sampler"
        )
    return sets


def _steps(key: str, span: Range) -> list[Any]:
    if span.choices is not None:
        return list(span.choices)
    spaced = np.geomspace if span.log else np.linspace
    values = spaced(span.low, span.high, span.steps or GRID_STEPS).tolist()  # type: ignore[arg-type]
    return sorted({round(value) for value in values}) if _whole(key) else values


def as_it_stands(sections: Mapping[str, Section], space: Mapping[str, Range], train_set: Store) -> Values:
    """The values of params.yaml, where they lie within the search; amounts as the preset and params.yaml have them."""
    values = {name: section.model_dump() for name, section in sections.items()}
    augment = sections["augment"]
    assert isinstance(augment, Augment)
    chosen = policy_of(augment, train_set)[1]
    values["augment"]["amounts"] = {one.name: one.amounts.model_dump() for one in chosen if one.amounts}
    now = {key: _at(values, key.split(".")) for key in space}
    return {key: value for key, value in now.items() if value is not None and space[key].holds(value)}


def _at(values: Any, path: list[str]) -> Any:
    """The value at a dotted key, the first amount of an augmentation; None where there is none."""
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return next(iter(values.values()), None) if isinstance(values, dict) else values


def check_amounts(sections: dict[str, Section], space: Mapping[str, Range], train_set: Store) -> None:
    """Amounts of augmentations are known to them alone: ends of their ranges are asked before the first trial.

    Raises:
        UserError: an end is not possible with all other keys at their lows, nor with all at their highs.
    """
    ends = {key: span.choices or (span.low, span.high) for key, span in space.items() if key.startswith("augment.")}
    for key, of_key in ends.items():
        for end in of_key:
            corners = [{other: values[at] for other, values in ends.items()} | {key: end} for at in (0, -1)]
            problems = [_problem(overlay(sections, corner)["augment"], train_set) for corner in corners]
            if all(problems):
                raise UserError(f"tune.space: {key}: {end!r}: {problems[0]}")


def _problem(augment: Section, train_set: Store) -> str:
    assert isinstance(augment, Augment)
    try:
        policy_of(augment, train_set)
    except UserError as error:
        return str(error)
    return ""


def behind(best_so_far: float, earlier: list[list[float]], epoch: int, higher: bool) -> bool:
    """Whether a trial is worse than half of the earlier ones were after as many epochs.

    The median stopping rule (Golovin et al. 2017). `earlier` holds the scores of each epoch of trials of earlier
    rounds, so that it does not hang on which trial of this round is faster; with fewer than four nothing is stopped.
    """
    bests = [max(s[:epoch]) if higher else min(s[:epoch]) for s in earlier if len(s) >= epoch]
    bests = [best for best in bests if math.isfinite(best)]
    if len(bests) < 4:
        return False
    middle = float(np.median(bests))
    return best_so_far < middle if higher else best_so_far > middle
