"""A search that stores every completed trial, so that it can be killed at any moment and resumed.

Trials are proposed in rounds of `tune.parallel_trials`, each by its own sampler and seed, from the results of earlier
rounds. The proposed values therefore do not depend on the number of workers, on which worker is faster, or on restarts:
a trial that was running when the search was killed is proposed again with the same values.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import TrialState, create_trial

from stages.config.schema_search import Tune
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.search.finals import Finalist
from stages.search.space import Values, distributions, grid, sampler
from stages.search.trial import TrialOutcome
from stages.search.workers import RunJobs

FOLDER = Path("work/tune")
STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "stopped": TrialState.PRUNED}
MakeJob = Callable[[Values, int, list[list[float]]], Any]
"""Function that builds a job from values, an offset of the seed, and the scores of earlier trials."""


@dataclass(frozen=True)
class CompletedTrial:
    """Values and outcome of a trial."""

    number: int
    values: Values
    outcome: TrialOutcome


class Search:
    """Trials of one search, stored by Optuna."""

    def __init__(self, key: str, tune: Tune, higher_is_better: bool, first: Values) -> None:
        """Open the stored trials of a search, or begin a new one.

        Args:
            key: digest of everything that a trial depends on.
            tune: params of the search.
            higher_is_better: whether a higher score is better.
            first: values of trial 0; those that are missing are sampled.

        Raises:
            UserError: the storage cannot be opened, or the combinations of a grid and trial 0 exceed `tune.trials`.
        """
        self.tune, self.higher_is_better = tune, higher_is_better
        self.space = distributions(tune.space)
        self.fixed: list[Values] = [first, *(grid(tune) if tune.sampler == "grid" else [])]
        self.trial_count = len(self.fixed) if tune.sampler == "grid" else tune.trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.direction: Literal["maximize", "minimize"] = "maximize" if higher_is_better else "minimize"
        try:
            self.study = optuna.create_study(
                storage=_storage(key), study_name=f"macula-{key}", direction=self.direction, load_if_exists=True
            )
        except Exception as error:  # databases and their drivers raise many types
            reason = " ".join(str(error).split())
            raise UserError(
                f"the storage of the search cannot be opened ({reason}); check OPTUNA_STORAGE or, if it is not set, "
                f"the folder {FOLDER}"
            ) from error

    def completed(self) -> list[CompletedTrial]:
        """Return the stored trials below `trial_count` in order, including those that failed or were stopped."""
        trials = {t.user_attrs["number"]: t for t in reversed(self.study.get_trials(deepcopy=False))}
        kept = sorted((number, t) for number, t in trials.items() if number < self.trial_count)
        return [CompletedTrial(number, dict(t.params), TrialOutcome(**t.user_attrs["outcome"])) for number, t in kept]

    def run(self, run_jobs: RunJobs, make_job: MakeJob, report: Callable[[CompletedTrial], None]) -> None:
        """Propose and run the trials that are not stored, round by round, until all are completed or the time is over.

        The limit of `tune.minutes` counts from this call. It is checked before each round except the first; a round
        that has begun is completed.

        Args:
            run_jobs: runs a round.
            make_job: builds the job of a trial.
            report: called after each trial that this call runs.
        """
        began, known = time.monotonic(), {trial.number: trial for trial in self.completed()}
        for begin in range(0, self.trial_count, self.tune.parallel_trials):
            numbers = range(begin, min(begin + self.tune.parallel_trials, self.trial_count))
            if all(number in known for number in numbers):
                continue
            if begin and self.tune.minutes is not None and time.monotonic() - began > 60 * self.tune.minutes:
                print(
                    f"tune: stopped after {quantity(begin, 'trial')}, at the limit tune.minutes {self.tune.minutes:g}",
                    flush=True,
                )
                return
            before = [known[number] for number in range(begin)]
            values = {number: self._propose(number, before) for number in numbers if number not in known}
            earlier_scores = [trial.outcome.scores for trial in before] if self.tune.prune else []
            open_numbers = list(values)
            for i, outcome in run_jobs([make_job(values[number], 0, earlier_scores) for number in open_numbers]):
                number = open_numbers[i]
                known[number] = self._store(CompletedTrial(number, values[number], outcome))
                report(known[number])

    def finals(self, run_jobs: RunJobs, make_job: MakeJob) -> Iterator[tuple[CompletedTrial, Finalist]]:
        """Yield the best trials, and trial 0 if it has a score, each with its scores with further seeds."""
        ranked = sorted((trial for trial in self.completed() if trial.outcome.score is not None), key=self._order)
        finalists = ranked[: self.tune.finalists]
        finalists += [trial for trial in ranked[self.tune.finalists :] if trial.number == 0]
        repeats = range(1, self.tune.repeats + 1)
        runs = [(trial, repeat) for trial in finalists for repeat in repeats]
        open_runs = [run for run in runs if _name(*run) not in self.study.user_attrs]
        for i, outcome in run_jobs([make_job(trial.values, repeat, []) for trial, repeat in open_runs]):
            self.study.set_user_attr(_name(*open_runs[i]), vars(outcome))
        stored = self.study.user_attrs
        for trial in finalists:
            assert trial.outcome.score is not None, "finalists have a score"
            scores = tuple(stored[_name(trial, repeat)]["score"] for repeat in repeats)
            yield trial, Finalist(trial.number, trial.outcome.score, scores)

    def _order(self, trial: CompletedTrial) -> tuple[float, int]:
        assert trial.outcome.score is not None
        return (-trial.outcome.score if self.higher_is_better else trial.outcome.score), trial.number

    def _propose(self, number: int, before: list[CompletedTrial]) -> Values:
        """Return the values of a trial, from a temporary study, so that trials that do not complete leave no trace."""
        study = optuna.create_study(direction=self.direction)
        study.add_trials([self._frozen(trial) for trial in before])
        study.sampler = sampler(self.tune, number)
        if number < len(self.fixed):
            study.enqueue_trial(self.fixed[number])
        return study.ask(self.space).params

    def _frozen(self, trial: CompletedTrial) -> optuna.trial.FrozenTrial:
        outcome = trial.outcome
        return create_trial(
            state=STATES[outcome.state],
            params=trial.values,
            distributions=self.space,
            value=outcome.score,
            user_attrs={"number": trial.number, "outcome": vars(outcome)},
            intermediate_values=dict(enumerate(outcome.scores)),
        )

    def _store(self, trial: CompletedTrial) -> CompletedTrial:
        self.study.add_trial(self._frozen(trial))
        return trial


def _name(trial: CompletedTrial, repeat: int) -> str:
    return f"trial {trial.number}, repeat {repeat}"


def _storage(key: str) -> str:
    """Return the URL of the database: `OPTUNA_STORAGE`, which several users can read, or a file in `work/tune`."""
    if url := os.environ.get("OPTUNA_STORAGE"):
        return url
    folder = FOLDER / key
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'study.db'}"
