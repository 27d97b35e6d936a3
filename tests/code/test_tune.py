"""The search: begins with params.yaml as it stands, keeps within its space, and outlives a bad trial."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import tune as stage
from stages.frame import UserError
from stages.frame.sections import Params, Range
from stages.frame.stage import call
from tests.conftest import digit_images, prepare_digits

Search = Callable[..., tuple[dict[str, Any], pd.DataFrame]]


@pytest.fixture
def search(tmp_path: Path, params: Params) -> Search:
    images = digit_images(per_class=8, classes=2)
    ingested, prepared = prepare_digits(tmp_path, {"train": images[::2], "val": images[1::2]}, size=16)

    def run(space: dict[str, Range], trials: int = 3, **train: Any) -> tuple[dict[str, Any], pd.DataFrame]:
        sections = {
            "task": params.task,
            "augment": params.augment,
            "network": params.network,
            "train": params.train.model_copy(update={"device": "cpu", "batch_size": 8} | train),
            "tune": params.tune.model_copy(update={"trials": trials, "epochs": 1, "space": space}),
        }
        (tmp_path / "weights").mkdir(exist_ok=True)
        call(stage.main, [ingested, prepared, tmp_path / "weights", tmp_path / "tuned"], sections)
        return json.loads((tmp_path / "tuned/best.json").read_text()), pd.read_csv(tmp_path / "tuned/trials.csv")

    return run


RATE = {"train.learning_rate": Range(low=1e-4, high=1e-2, log=True)}


def test_the_first_trial_is_the_params_as_they_stand_and_the_best_is_kept(search: Search, params: Params) -> None:
    best, trials = search(RATE)
    assert trials["train.learning_rate"][0] == pytest.approx(params.train.learning_rate)
    assert trials["train.learning_rate"].between(1e-4, 1e-2).all() and trials["train.learning_rate"].nunique() == 3
    assert best["train.learning_rate"] == pytest.approx(trials.loc[trials["score"].idxmax(), "train.learning_rate"])


def test_the_same_seed_gives_the_same_trials(search: Search) -> None:
    one, other = search(RATE)[1], search(RATE)[1]
    assert one.drop(columns="seconds").equals(other.drop(columns="seconds"))


def test_without_trials_nothing_is_replaced(search: Search) -> None:
    best, trials = search(RATE, trials=0)
    assert best == {} and len(trials) == 0


def test_a_value_outside_the_space_is_not_tried(search: Search) -> None:
    _, trials = search({"train.optimizer": Range(choices=("sgd",))}, trials=1)
    assert trials["train.optimizer"].tolist() == ["sgd"]


def test_one_bad_trial_is_passed_over_and_nothing_but_bad_ones_is_an_error(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = stage.fit, []

    def diverges(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 1 or all_bad:
            raise UserError("epoch 1: the training loss is nan")
        return real(*arguments, **more)

    all_bad = False
    monkeypatch.setattr(stage, "fit", diverges)
    best, trials = search(RATE, trials=2)
    assert pd.isna(trials["score"][0]) and best["train.learning_rate"] == trials["train.learning_rate"][1]
    all_bad = True
    with pytest.raises(UserError, match="all 2 trials failed"):
        search(RATE, trials=2)


def test_amounts_of_augmentations_are_searched_and_their_ranges_checked_first(search: Search) -> None:
    best, trials = search({"augment.amounts.rotation": Range(low=5, high=30),
                           "augment.amounts.elastic.amplitude": Range(low=0.2, high=1)}, trials=2)  # fmt: skip
    assert trials["augment.amounts.rotation"][0] == 10, "as the preset has it"
    assert trials["augment.amounts.rotation"].between(5, 30).all() and len(best) == 2
    with pytest.raises(UserError, match=r"tune.space: augment.amounts.hue: 3.0: .* 1 channel\(s\), not 3"):
        search({"augment.amounts.hue": Range(low=3, high=9)})
    with pytest.raises(UserError, match="tune.space: augment.amounts.rotatoin: .* did you mean `rotation`"):
        search({"augment.amounts.rotatoin": Range(low=3, high=9)})


def test_a_trial_that_cannot_be_is_a_failed_one_and_the_search_goes_on(search: Search) -> None:
    space = {"augment.amounts.elastic.amplitude": Range(low=1, high=4),
             "augment.amounts.elastic.wavelength": Range(low=8, high=32)}  # fmt: skip
    _, trials = search(space, trials=6)
    torn = trials["augment.amounts.elastic.amplitude"] > trials["augment.amounts.elastic.wavelength"] / 8
    assert len(trials) == 6 and torn.any() and trials.loc[torn, "score"].isna().all()
    assert trials.loc[~torn, "score"].notna().all()
