"""Tests of the hyperparameter search: search space, samplers, pruning and resuming after a kill."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages import tune as stage
from stages.config.combinations import early_size_problem
from stages.config.schema import Params
from stages.config.schema_search import Range
from stages.core.errors import UserError
from stages.runner.stage import call
from stages.search import trial
from stages.search.finals import Finalist, decide
from stages.search.pruning import should_stop
from stages.search.space import shared_rate_warning
from stages.training.loop import fit
from tests.conftest import digit_images, prepare_digits
from tests.digit_plans import TINY

Search = Callable[..., tuple[dict[str, Any], pd.DataFrame]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    images = digit_images(per_class=8, classes=2)
    return prepare_digits(tmp_path_factory.mktemp("digits"), {"train": images[::2], "val": images[1::2]}, size=16)


@pytest.fixture
def search(tmp_path: Path, params: Params, digits: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.chdir(tmp_path)

    def run(space: dict[str, Range], trials: int = 3, **more: Any) -> tuple[dict[str, Any], pd.DataFrame]:
        settings = {"trials": trials, "epochs": 1, "repeats": 0, "prune": False, **more}
        fixed = {"device": "cpu", "batch_size": 8, "precision": "32-true", "memory_format": "channels_first"}
        sections = {
            "task": params.task,
            "augment": params.augment,
            "network": params.network.model_copy(update={"name": TINY}),
            "train": params.train.model_copy(update=fixed),
            "tune": params.tune.model_copy(update={**settings, "space": space}),
        }
        (tmp_path / "weights").mkdir(exist_ok=True)
        call(stage.main, [*digits, tmp_path / "weights", tmp_path / "tuned"], sections)
        return json.loads((tmp_path / "tuned/best.json").read_text()), pd.read_csv(tmp_path / "tuned/trials.csv")

    return run


RATE = {"train.learning_rate": Range(low=1e-4, high=1e-2, log=True)}


def test_the_first_trial_uses_params_and_the_best_is_returned(search: Search, params: Params) -> None:
    best, trials = search(RATE)
    assert trials["train.learning_rate"][0] == pytest.approx(params.train.learning_rate)
    assert trials["train.learning_rate"].between(1e-4, 1e-2).all() and trials["train.learning_rate"].nunique() == 3
    assert best["train.learning_rate"] == pytest.approx(trials.loc[trials["score"].idxmax(), "train.learning_rate"])


def delete_search() -> None:
    shutil.rmtree("work/tune")


def test_trials_are_not_compared_in_epochs_with_smaller_images(params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=2)
    folders = prepare_digits(tmp_path, {"train": images[::2], "val": images[1::2]}, size=48)
    fixed = {"device": "cpu", "batch_size": 8, "precision": "32-true", "memory_format": "channels_first"}
    sections = {name: getattr(params, name) for name in ("task", "augment", "network", "train")}
    sections["network"] = params.network.model_copy(update={"name": TINY})
    stopped = []
    for early in ({}, {"early_size": 32, "early_epochs": 6}):
        sections["train"] = params.train.model_copy(update={"epochs": 12, **fixed, **early})
        ahead = [[2.0, 2.0]] * 4  # scores that no trial reaches
        job = trial.TrialJob(*folders, tmp_path, sections, {}, 2, 0, True, ahead)
        stopped.append((trial.run(job).state, len(trial.run(job).scores)))
    assert stopped == [("stopped", 1), ("complete", 2)]


def test_trials_have_the_same_share_of_epochs_with_smaller_images(params: Params) -> None:
    train = params.train.model_copy(update={"epochs": 12, "early_size": 32, "early_epochs": 8})
    found = {epochs: trial.shortened(train, epochs) for epochs in (1, 2, 3, 6)}
    assert {epochs: (one.epochs, one.early_epochs, one.early_size) for epochs, one in found.items()} == {
        1: (1, 0, 0), 2: (2, 1, 32), 3: (3, 2, 32), 6: (6, 4, 32),
    }  # fmt: skip
    assert not any(early_size_problem(one, "class", 64) for one in found.values())


def test_the_same_seed_gives_the_same_trials(search: Search) -> None:
    one = search(RATE)[1]
    delete_search()
    assert one.drop(columns="seconds").equals(search(RATE)[1].drop(columns="seconds"))


def test_without_trials_no_value_is_replaced(search: Search) -> None:
    best, trials = search(RATE, trials=0)
    assert best == {} and len(trials) == 0


def test_a_value_of_params_outside_the_space_is_not_tried(search: Search) -> None:
    _, trials = search({"train.optimizer": Range(choices=("sgd",))}, trials=1)
    assert trials["train.optimizer"].tolist() == ["sgd"]


def test_failed_trials_are_skipped_unless_all_trials_fail(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = fit, list[int]()

    def diverge(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 1 or all_fail:
            raise UserError("epoch 1: the training loss is nan")
        return real(*arguments, **more)

    all_fail = False
    monkeypatch.setattr(trial, "fit", diverge)
    best, trials = search(RATE, trials=2)
    assert pd.isna(trials["score"][0]) and best["train.learning_rate"] == trials["train.learning_rate"][1]
    all_fail = True
    delete_search()
    with pytest.raises(UserError, match="all trials failed"):
        search(RATE, trials=2)


def test_augmentation_amounts_are_searched_and_their_ranges_checked_first(search: Search) -> None:
    best, trials = search({"augment.amounts.rotation": Range(low=5, high=30),
                           "augment.amounts.elastic.amplitude": Range(low=0.2, high=1)}, trials=2)  # fmt: skip
    assert trials["augment.amounts.rotation"][0] == 10, "the amount of the preset"
    assert trials["augment.amounts.rotation"].between(5, 30).all() and len(best) == 2
    with pytest.raises(UserError, match=r"tune.space: augment.amounts.hue: 3.0: .* 1 channel, not 3"):
        search({"augment.amounts.hue": Range(low=3, high=9)})
    with pytest.raises(UserError, match="tune.space: augment.amounts.rotatoin: .* did you mean `rotation`"):
        search({"augment.amounts.rotatoin": Range(low=3, high=9)})


def test_a_trial_with_contradictory_values_fails_and_the_search_continues(search: Search) -> None:
    space = {"augment.amounts.elastic.amplitude": Range(low=1, high=4),
             "augment.amounts.elastic.wavelength": Range(low=8, high=32)}  # fmt: skip
    _, trials = search(space, trials=6)
    invalid = trials["augment.amounts.elastic.amplitude"] > trials["augment.amounts.elastic.wavelength"] / 8
    assert len(trials) == 6 and invalid.any() and trials.loc[invalid, "score"].isna().all()
    assert trials.loc[~invalid, "score"].notna().all()


class SearchKilledError(Exception):
    pass


def test_a_killed_search_loses_and_repeats_no_trial(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, trials = search(RATE, trials=5, repeats=1)
    finals = pd.read_csv("tuned/finals.csv")
    delete_search()
    real, ran = trial.run, list[Any]()

    def kill(job: Any) -> Any:
        if len(ran) % 2:  # every second start of a trial kills the search
            ran.append(None)
            raise SearchKilledError
        ran.append((*tuple(job.values.values()), job.seed))
        return real(job)

    monkeypatch.setattr(trial, "run", kill)
    kills = 0
    while kills < 30:
        try:
            best, again = search(RATE, trials=5, repeats=1)
            break
        except SearchKilledError:
            kills += 1
    assert kills >= 5 and best == whole
    assert again.drop(columns="seconds").equals(trials.drop(columns="seconds"))
    assert pd.read_csv("tuned/finals.csv").equals(finals)
    done = [one for one in ran if one]
    assert len(done) == len(set(done)), "no completed trial ran again"


def test_two_workers_give_the_same_result_as_one(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the number of threads changes rounding
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone, trials = search(RATE, trials=4, parallel_trials=2, prune=True)
    finally:
        torch.set_num_threads(threads)
    delete_search()
    monkeypatch.setenv("TUNE_WORKERS", "2")
    together, others = search(RATE, trials=4, parallel_trials=2, prune=True)
    assert alone == together and trials.drop(columns="seconds").equals(others.drop(columns="seconds"))


@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_an_invalid_number_of_workers_is_reported(search: Search, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TUNE_WORKERS", value)
    with pytest.raises(UserError, match=f"TUNE_WORKERS: '{value}' is not a number of processes"):
        search(RATE)


def test_more_trials_continue_the_same_search(search: Search) -> None:
    few = search(RATE, trials=2)[1]
    more = search(RATE, trials=4)[1]
    assert more[:2].equals(few), "equal seconds show that they were not run again"
    assert search(RATE, trials=2)[1].equals(few)


def test_a_grid_has_every_combination_after_the_values_of_params(search: Search) -> None:
    space = {"train.learning_rate": Range(low=1e-4, high=1e-2, log=True, steps=3),
             "train.optimizer": Range(choices=("sgd", "adamw"))}  # fmt: skip
    _, trials = search(space, trials=7, sampler="grid")
    assert trials["train.learning_rate"][0] == 0.003 and len(trials) == 7
    rest = trials[1:]
    assert rest["train.learning_rate"].round(6).tolist() == [1e-4, 1e-4, 1e-3, 1e-3, 1e-2, 1e-2]
    assert rest["train.optimizer"].tolist() == ["sgd", "adamw"] * 3
    with pytest.raises(
        UserError, match=r"tune.trials: 4, but the grid has 6 combinations \(3 values of train.learning_rate, 2 "
    ):
        search(space, trials=4, sampler="grid")


AUTO = Range(choices=("auto",))


@pytest.mark.parametrize(
    ("optimizers", "rate", "warned"),
    [(("sgd", "lion"), RATE["train.learning_rate"], True), (("lion",), RATE["train.learning_rate"], False),
     (("sgd", "lion"), AUTO, False)],
)  # fmt: skip
def test_one_range_of_learning_rates_for_several_optimizers_is_reported(
    optimizers: tuple[str, ...], rate: Range, warned: bool
) -> None:
    space = {"train.optimizer": Range(choices=optimizers), "train.learning_rate": rate}
    warning = shared_rate_warning(space)
    assert bool(warning) == warned and (not warned or f"the optimizers {', '.join(optimizers)}, whose" in warning)


def test_the_rate_of_each_optimizer_can_be_measured_in_a_search(search: Search) -> None:
    space = {"train.optimizer": Range(choices=("sgd", "lion")), "train.learning_rate": AUTO}
    best, trials = search(space, trials=2)
    assert best["train.learning_rate"] == "auto" and trials["score"].notna().all()


def test_no_round_starts_after_the_time_limit(search: Search, capsys: pytest.CaptureFixture[str]) -> None:
    _, trials = search(RATE, trials=6, parallel_trials=2, minutes=1e-4)
    assert (
        len(trials) == 2 and "tune: stopped after 2 trials, at the limit tune.minutes 0.0001" in capsys.readouterr().out
    )


def test_further_seeds_alone_decide_between_the_best_trials_and_params(
    search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {0: [0.80, 0.81], 1: [0.95, 0.60], 2: [0.90, 0.88], 3: [0.1, 0.1]}
    seen: list[float] = []

    def run(job: Any) -> trial.TrialOutcome:
        rate = job.values["train.learning_rate"]
        if rate not in seen:
            seen.append(rate)
        score = scores[seen.index(rate)][job.seed]
        return trial.TrialOutcome(score, [score], 0.0)

    monkeypatch.setattr(trial, "run", run)
    best, trials = search(RATE, trials=4, finalists=2, repeats=1)
    assert best["train.learning_rate"] == trials["train.learning_rate"][2]
    finals = pd.read_csv("tuned/finals.csv").groupby("number")["score"].apply(list).to_dict()
    assert finals == {0: [0.80, 0.81], 1: [0.95, 0.60], 2: [0.90, 0.88]}, (
        "trial 0, with the values of params, is among them"
    )
    assert json.loads(Path("tuned/metrics.json").read_text())["best_score"] == 0.88, "without the score of the search"
    printed = capsys.readouterr().out
    assert "finalist trial 2: mean 0.6000 over 1 further seed (0.6000), 0.9500 in the search" in printed
    assert "tune: trial 3 is selected: the difference of the means is 0.0700, its standard error 0.0100" in printed


FAILED = None
DECISIONS: dict[str, tuple[list[Finalist], int]] = {
    "the score of the search is not counted": (
        [Finalist(0, 0.5, (0.90, 0.91)), Finalist(1, 0.99, (0.80, 0.81))],
        0,
    ),
    "a failed seed is a loss": (
        [Finalist(0, 0.90, (0.90, 0.90, 0.90)), Finalist(1, 0.91, (0.99, FAILED, FAILED))],
        0,
    ),
    "fewer failed seeds win": (
        [Finalist(0, 0.90, (0.90, FAILED, 0.90)), Finalist(1, 0.91, (0.80, 0.80, 0.80))],
        1,
    ),
    "a difference within the standard error is none": (
        [Finalist(0, 0.90, (0.88, 0.92)), Finalist(1, 0.92, (0.895, 0.915))],
        0,
    ),
    "a clear difference wins": ([Finalist(0, 0.90, (0.88, 0.92)), Finalist(1, 0.99, (0.94, 0.98))], 1),
    "equal seeds that all failed": ([Finalist(0, 0.90, (FAILED,)), Finalist(1, 0.91, (FAILED,))], 0),
    "equal scores": ([Finalist(0, 0.90, (0.90,)), Finalist(1, 0.90, (0.90,))], 0),
    "without further seeds the best score wins": ([Finalist(0, 0.90, ()), Finalist(1, 0.91, ())], 1),
    "params failed in the search": ([Finalist(3, 0.91, (0.8,)), Finalist(1, 0.90, (0.9,))], 1),
}


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("case", DECISIONS)
def test_params_are_replaced_only_by_a_clearly_better_finalist(case: str, higher: bool) -> None:
    finalists, winner = DECISIONS[case]
    sign = 1 if higher else -1

    def signed(finalist: Finalist) -> Finalist:
        further = tuple(None if score is None else sign * score for score in finalist.further_scores)
        return Finalist(finalist.number, sign * finalist.search_score, further)

    assert decide([signed(finalist) for finalist in finalists], higher).winner.number == winner


def test_a_search_whose_finalists_all_fail_without_params_ends_with_an_error() -> None:
    with pytest.raises(UserError, match="every finalist failed with every further seed; narrow tune.space"):
        decide([Finalist(1, 0.9, (None,)), Finalist(2, 0.9, (None,))], higher_is_better=True)


@pytest.mark.parametrize(
    ("difference", "repeats", "low", "high"),
    [(-0.5, 1, 0.10, 0.20), (-0.5, 3, 0.03, 0.10), (2.0, 3, 0.88, 0.96)],  # the search score counted: 0.66, 0.66, 1.0
)
def test_truly_worse_params_rarely_win_and_clearly_better_ones_do(
    difference: float, repeats: int, low: float, high: float
) -> None:
    rng, searches, replaced = np.random.default_rng(0), 2000, 0
    for _ in range(searches):
        truth = np.full(24, difference)
        truth[0] = 0
        found = truth + rng.normal(size=24)  # in standard deviations between seeds
        numbers = {int(found.argmax()), 0}
        finalists = [Finalist(n, found[n], tuple(truth[n] + rng.normal(size=repeats))) for n in numbers]
        replaced += decide(finalists, higher_is_better=True).winner.number != 0
    assert low < replaced / searches < high


def test_a_trial_worse_than_half_of_the_earlier_ones_is_stopped(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = [[0.5, 0.6, 0.7], [0.6, 0.7, 0.8], [0.7, 0.8, 0.9], [0.8, 0.9, 1.0]]
    assert should_stop(0.69, earlier, 2, higher_is_better=True) and not should_stop(
        0.76, earlier, 2, higher_is_better=True
    )
    assert should_stop(0.76, earlier, 1, higher_is_better=False) and not should_stop(
        0.5, earlier, 1, higher_is_better=False
    )
    assert not should_stop(0.0, earlier[:3], 2, higher_is_better=True), "too few earlier trials"
    space = {"train.learning_rate": Range(choices=(0.003, 1e-9))}
    _, trials = search(space, trials=8, epochs=2, parallel_trials=4, prune=True)
    assert (trials["state"] != "stopped").head(4).all()
    assert trials.loc[trials["state"] == "stopped", "score"].isna().all()
