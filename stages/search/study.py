"""A search that can be ended at any moment and goes on where it was: every trial is kept once it has ended.

Trials are proposed in rounds of `tune.together`, each by a sampler with a seed of its own that knows the rounds before.
So what is proposed hangs neither on the number of workers, nor on which of them is faster, nor on restarts: a trial
that was under way is proposed again with the same values.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import TrialState, create_trial

from stages.core.errors import UserError
from stages.frame.sections import Tune
from stages.search.space import Values, distributions, grid, sampler
from stages.search.trial import Outcome
from stages.search.workers import Run

SEARCHES = Path("work/tune")
STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "stopped": TrialState.PRUNED}
Make = Callable[[Values, int, list[list[float]]], Any]
"""A job out of values, how many seeds after the first one, and the scores of earlier trials."""


@dataclass(frozen=True)
class Ended:
    """A trial that has ended."""

    place: int
    values: Values
    outcome: Outcome


class Search:
    """The trials of one search, in their order."""

    def __init__(self, key: str, tune: Tune, higher: bool, first: Values) -> None:
        """`first` are the values of trial 0, as far as they are fixed; `key` stands for all that a trial depends on.

        Raises:
            UserError: the storage cannot be opened, or a grid has more sets than `tune.trials`.
        """
        self.tune, self.higher = tune, higher
        self.space = distributions(tune.space)
        self.fixed: list[Values] = [first, *(grid(tune) if tune.sampler == "grid" else [])]
        self.most = len(self.fixed) if tune.sampler == "grid" else tune.trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.direction: Literal["maximize", "minimize"] = "maximize" if higher else "minimize"
        try:
            self.study = optuna.create_study(
                storage=_storage(key), study_name=f"macula-{key}", direction=self.direction, load_if_exists=True
            )
        except Exception as error:  # whatever a database and its driver raise
            raise UserError(f"the storage of the search cannot be opened ({error}); mend OPTUNA_STORAGE") from error

    def ended(self) -> list[Ended]:
        """By place."""
        trials = {t.user_attrs["place"]: t for t in reversed(self.study.get_trials(deepcopy=False))}
        kept = sorted((place, t) for place, t in trials.items() if place < self.most)
        return [Ended(place, dict(t.params), Outcome(**t.user_attrs["outcome"])) for place, t in kept]

    def run(self, run: Run, make: Make, tell: Callable[[Ended], None]) -> None:
        """Propose and run trials until there are `tune.trials`, or `tune.minutes` are over behind a round."""
        began, known = time.monotonic(), {one.place: one for one in self.ended()}
        for begin in range(0, self.most, self.tune.together):
            places = range(begin, min(begin + self.tune.together, self.most))
            if all(place in known for place in places):
                continue
            if begin and self.tune.minutes is not None and time.monotonic() - began > 60 * self.tune.minutes:
                print(f"tune: {self.tune.minutes:g} minutes are over behind {begin} trials (tune.minutes)", flush=True)
                return
            before = [known[place] for place in range(begin)]
            values = {place: self._proposed(place, before) for place in places if place not in known}
            earlier = [one.outcome.scores for one in before] if self.tune.prune else []
            left = list(values)
            for i, outcome in run([make(values[place], 0, earlier) for place in left]):
                known[left[i]] = self._keep(Ended(left[i], values[left[i]], outcome))
                tell(known[left[i]])

    def finals(self, run: Run, make: Make) -> Iterator[tuple[Ended, list[float]]]:
        """The best trials, and params.yaml as it stands, each with its scores under several seeds."""
        ended = sorted((one for one in self.ended() if one.outcome.score is not None), key=self._order)
        chosen = ended[: self.tune.finalists]
        chosen += [one for one in ended[self.tune.finalists :] if one.place == 0]
        asked = [(one, repeat) for one in chosen for repeat in range(1, self.tune.repeats + 1)]
        left = [(one, repeat) for one, repeat in asked if _name(one, repeat) not in self.study.user_attrs]
        for i, outcome in run([make(one.values, repeat, []) for one, repeat in left]):
            self.study.set_user_attr(_name(*left[i]), vars(outcome))
        kept = self.study.user_attrs
        for one in chosen:
            repeats = [kept[_name(one, repeat)]["score"] for repeat in range(1, self.tune.repeats + 1)]
            yield one, [one.outcome.score, *(score for score in repeats if score is not None)]  # type: ignore[list-item]

    def _order(self, one: Ended) -> tuple[float, int]:
        assert one.outcome.score is not None
        return (-one.outcome.score if self.higher else one.outcome.score), one.place

    def _proposed(self, place: int, before: list[Ended]) -> Values:
        """By a study of its own, so that nothing is kept of a trial that does not end."""
        study = optuna.create_study(direction=self.direction)
        study.add_trials([self._trial(one) for one in before])
        study.sampler = sampler(self.tune, place)
        if place < len(self.fixed):
            study.enqueue_trial(self.fixed[place])
        return study.ask(self.space).params

    def _trial(self, one: Ended) -> optuna.trial.FrozenTrial:
        outcome = one.outcome
        return create_trial(
            state=STATES[outcome.state],
            params=one.values,
            distributions=self.space,
            value=outcome.score,
            user_attrs={"place": one.place, "outcome": vars(outcome)},
            intermediate_values=dict(enumerate(outcome.scores)),
        )

    def _keep(self, one: Ended) -> Ended:
        self.study.add_trial(self._trial(one))
        return one


def _name(one: Ended, repeat: int) -> str:
    return f"trial {one.place}, repeat {repeat}"


def _storage(key: str) -> str:
    """`OPTUNA_STORAGE`, a database that others can look at too; else a file in `work/tune`."""
    if url := os.environ.get("OPTUNA_STORAGE"):
        return url
    folder = SEARCHES / key
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'study.db'}"
