"""Params of the hyperparameter search."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from stages.config.schema_base import Section, Unit
from stages.config.schema_training import Augment, Network, Train
from stages.core.errors import did_you_mean


class Range(Section):
    """One dimension of the search: either low and high, or choices."""

    low: float | None = None
    """Smallest value."""
    high: float | None = None
    """Largest value."""
    log: bool = False
    """Whether to search the logarithm."""
    steps: Annotated[int, Field(ge=2)] | None = None
    """Number of values that a grid tries; 3 by default."""
    choices: tuple[bool | int | float | str, ...] | None = None
    """Values to choose from."""

    def holds(self, value: Any) -> bool:
        """Return whether a value lies within the range."""
        if self.choices is not None:
            return value in self.choices
        return self.low is not None and self.high is not None and self.low <= value <= self.high

    @model_validator(mode="after")
    def _is_either(self) -> "Range":
        if self.choices is not None:
            if not self.choices:
                raise ValueError("choices is empty; list at least one value, or give low and high")
            if self.low is not None or self.high is not None:
                raise ValueError("choices is given together with low or high; give either choices, or low and high")
        elif self.low is None or self.high is None:
            raise ValueError(
                f"low is {_or_null(self.low)} and high is {_or_null(self.high)}; give both, or a non-empty list of "
                "choices"
            )
        elif self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        elif self.log and self.low <= 0:
            raise ValueError(f"log requires low above 0, not {self.low}")
        return self


def _or_null(value: float | None) -> str:
    """Return a number as text, or the word `null`."""
    return "null" if value is None else f"{value:g}"


_TUNABLE: dict[str, type[Section]] = {"train": Train, "network": Network, "augment": Augment}
_FIXED = (  # set by the search, without effect on the score, or a mapping with keys of its own
    "train.epochs",
    "train.seed",
    "train.device",
    "train.devices",
    "train.checkpoint_seconds",
    "train.folds",
    "train.members",
    "train.nonfinite_loss",
    "augment.amounts",
)
_AMOUNTS = "augment.amounts."
TUNABLE = {
    f"{name}.{key}": field
    for name, section in _TUNABLE.items()
    for key, field in section.model_fields.items()
    if f"{name}.{key}" not in _FIXED
}
"""Dotted keys that `tune` may search over, in addition to `augment.amounts.NAME` and `augment.amounts.NAME.AMOUNT`."""


def _problems(key: str, span: Range) -> list[str]:
    """Return the problems of searching `key` over `span`: an unknown key, or ends or choices that it does not allow."""
    if key.startswith(_AMOUNTS):
        return []  # `check_amounts` of stages/search/space.py checks them, because it knows the augmentations
    if key not in TUNABLE:
        return [f"{key}: unknown key; {did_you_mean(key, TUNABLE)}"]
    section, _, name = key.partition(".")
    problems = []
    for end in span.choices or (span.low, span.high):
        try:
            _TUNABLE[section].model_validate({name: end})
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {end!r}: {message[0].lower()}{message[1:]}")
    return problems


class Tune(Section):
    """Search for better params of `train`, `network` and `augment`."""

    trials: Annotated[int, Field(ge=0)] = 3
    """Number of trials; with the sampler grid, their maximum number; 0: no search."""
    epochs: Annotated[int, Field(ge=1), Unit("epochs")] = 3
    """Passes over the training images per trial."""
    minutes: Annotated[float, Field(gt=0), Unit("minutes")] | None = None
    """Time after which no further round begins; the result then depends on the machine's speed. null: no limit."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """tpe (Bergstra et al. 2011), random, or grid: every combination of choices and steps."""
    parallel_trials: Annotated[int, Field(ge=1), Unit("trials")] = 2
    """Trials per round, all proposed before the first has ended, so that as many workers can run in parallel."""
    prune: bool = True
    """Whether to stop a trial that is worse than half of those of earlier rounds after the same number of epochs."""
    finalists: Annotated[int, Field(ge=1), Unit("trials")] = 1
    """Number of best trials that are trained with further seeds, in addition to params.yaml itself."""
    repeats: Annotated[int, Field(ge=0), Unit("seeds")] = 1
    """Number of further seeds per finalist, which alone decide: params.yaml is replaced only by a trial that is better
    by more than the standard error. 0: the best single score wins, which is often a lucky one."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Random seed. The same seed gives the same trials."""
    space: dict[str, Range] = Field(
        default_factory=lambda: {
            "train.learning_rate": Range(low=0.0005, high=0.01, log=True),
            "train.weight_decay": Range(low=0.001, high=0.1, log=True),
        }
    )
    """Range of each dotted key of `train`, `network` or `augment`: {low, high, log, steps} or {choices}."""

    @field_validator("space")
    @classmethod
    def _can_be_tuned(cls, space: dict[str, Range]) -> dict[str, Range]:
        problems = [problem for key, span in space.items() for problem in _problems(key, span)]
        if problems:
            raise ValueError(problems[0] if len(problems) == 1 else "".join(f"\n    {problem}" for problem in problems))
        return space
