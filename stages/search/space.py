"""Values that a search draws from the ranges in `tune.space`, and grids of them."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from stages.config.overlay import overlay
from stages.config.schema_base import Section
from stages.config.schema_search import Range, Tune
from stages.config.schema_training import Augment
from stages.config.search_grid import grid_combinations, grid_problem, is_integer
from stages.core.errors import UserError
from stages.dataset.pixel_store import PixelStore
from stages.training.training_plan import build_policy

Values = dict[str, Any]
"""Values of one trial by dotted params key."""


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """Return the search space as Optuna distributions."""
    return {key: _distribution(key, span) for key, span in space.items()}


def _distribution(key: str, span: Range) -> BaseDistribution:
    if span.choices is not None:
        return CategoricalDistribution(span.choices)
    assert span.low is not None and span.high is not None, "Range has either choices or both ends"
    if is_integer(key):
        return IntDistribution(int(span.low), int(span.high), log=span.log)
    return FloatDistribution(span.low, span.high, log=span.log)


def sampler(tune: Tune, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of trial `number`, with its own seed, so that a restarted search proposes the same values.

    For a grid it is a random sampler, which draws only the values that trial 0 lacks.
    """
    if tune.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=tune.seed + number)
    return optuna.samplers.RandomSampler(seed=tune.seed + number)


def shared_rate_warning(space: Mapping[str, Range]) -> str:
    """Return a warning if one range of learning rates is searched for several optimizers; empty if it is not.

    Usable rates differ between optimizers by a factor of up to 100 (docs/results/training-defaults.md). One range then
    selects the optimizer that it suits.
    """
    rate, optimizer = space.get("train.learning_rate"), space.get("train.optimizer")
    if rate is None or rate.choices == ("auto",) or optimizer is None or len(optimizer.choices or ()) < 2:
        return ""
    names = ", ".join(map(str, optimizer.choices or ()))
    return (
        f"tune.space: one range of train.learning_rate is searched for the optimizers {names}, whose usable "
        "rates differ by a factor of up to 100; search one optimizer at a time, or set train.learning_rate to "
        "{choices: [auto]}, which measures a rate for each"
    )


def grid(tune: Tune) -> list[Values]:
    """Return all combinations of a grid, in order.

    Raises:
        UserError: the grid and the trial with the values of params.yaml exceed `tune.trials`.
    """
    if problem := grid_problem(tune):
        raise UserError(problem)
    return grid_combinations(tune)


def params_values(sections: Mapping[str, Section], space: Mapping[str, Range], train_set: PixelStore) -> Values:
    """Return the values of params.yaml that lie within the search space.

    Args:
        sections: params sections.
        space: range by dotted key.
        train_set: training images, which determine the amounts of `augment.preset`.

    Raises:
        UserError: an augmentation is unknown, or cannot be applied to these images.
    """
    values = {name: section.model_dump() for name, section in sections.items()}
    augment = sections["augment"]
    assert isinstance(augment, Augment)
    _, chosen = build_policy(augment, train_set)
    values["augment"]["amounts"] = {one.name: one.amounts.model_dump() for one in chosen if one.amounts}
    current = {key: _value_at(values, key.split(".")) for key in space}
    return {key: value for key, value in current.items() if value is not None and space[key].holds(value)}


def _value_at(values: Any, path: list[str]) -> Any:
    """Return the value at a dotted key, or the first amount of an augmentation; None if the key is absent."""
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return next(iter(values.values()), None) if isinstance(values, dict) else values


def check_amounts(sections: dict[str, Section], space: Mapping[str, Range], train_set: PixelStore) -> None:
    """Check the ends (or choices) of the ranges of augmentation amounts, whose limits the augmentations define.

    Args:
        sections: params sections.
        space: range by dotted key.
        train_set: images that are augmented.

    Raises:
        UserError: an end or choice is invalid both with all other keys of `augment` at their lows (or first choices)
            and with all at their highs (or last choices).
    """
    ends = {key: span.choices or (span.low, span.high) for key, span in space.items() if key.startswith("augment.")}
    for key, ends_of_key in ends.items():
        for end in ends_of_key:
            corners = [{other: values[at] for other, values in ends.items()} | {key: end} for at in (0, -1)]
            problems = [_problem(overlay(sections, corner)["augment"], train_set) for corner in corners]
            if all(problems):
                raise UserError(f"tune.space: {problems[0]}")


def _problem(augment: Section, train_set: PixelStore) -> str:
    assert isinstance(augment, Augment)
    try:
        build_policy(augment, train_set)
    except UserError as error:
        return str(error)
    return ""
