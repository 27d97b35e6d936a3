"""Tests of trainings that are killed, run out of disk space or have a loss that is not finite."""

from __future__ import annotations

import copy
import errno
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import train as stage
from stages.augmentations.augmentation_interface import Augmentation, always
from stages.augmentations.similarity import Flip
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.runner.stage import call
from stages.training import checkpoints as checkpoints_module
from stages.training import loop, resume
from stages.training.auto_params import resolve_auto
from stages.training.checkpoints import Checkpoints, open_checkpoints
from stages.training.loop import TrainingResult, fit
from stages.training.model_file import load_model
from stages.training.trainer_state import build_state, launch
from stages.training.training_plan import TrainingData, TrainingPlan, load_training_data
from stages.training.training_progress import EpochMetrics
from tests.conftest import digit_images, prepare_digits
from tests.digit_plans import FIXED, TINY, digit_plan, ignore, load_digits, train_on

MakePlan = Callable[..., TrainingPlan]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ingested and prepared digits."""
    folder = tmp_path_factory.mktemp("digits")
    load_digits(folder)
    return folder


@pytest.fixture(scope="module")
def data(digits: Path) -> TrainingData:
    return load_training_data(digits / "ingested", digits / "prepared")


@pytest.fixture
def make_plan(data: TrainingData, params: Params, tmp_path: Path) -> MakePlan:
    """Return a function that creates plans without `auto`."""

    def make(changes: dict[str, Any] | None = None, **train: Any) -> TrainingPlan:
        tiny = {"network": {"name": TINY}}
        return resolve_auto(digit_plan(data, params, tmp_path, {**tiny, **(changes or {})}, **train)).plan

    return make


def equal(one: TrainingResult, other: TrainingResult) -> bool:
    assert one.weights and one.weights.keys() == other.weights.keys()
    times = ("seconds", "loading_share", "augmentation_share")
    curves = [[{k: v for k, v in vars(e).items() if k not in times} for e in result.epochs] for result in (one, other)]
    return curves[0] == curves[1] and all(torch.equal(one.weights[n], other.weights[n]) for n in one.weights)


class KilledError(Exception):
    pass


class KillingCheckpoints(Checkpoints):
    """Save a checkpoint after every step, and raise KilledError after the n-th."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder, seconds=0)
        self.at = at

    def save(self, state: dict[str, Any]) -> None:
        super().save(state)
        self.at -= 1
        if self.at == 0:
            raise KilledError

    def release(self) -> None:
        """Release the lock, as the end of the process does."""
        assert self._lock is not None
        self._lock.close()


RECIPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"augment": {"preset": "standard"}, "network": {"name": "resnet18", "dropout": 0.3, "feature_noise": 0.2}},
     {"optimizer": "adamw", "ema_decay": 0.9}),
    ({"network": {"name": TINY, "stochastic_depth": 0.3}},
     {"optimizer": "sgd", "schedule": "plateau", "precision": "bf16-mixed"}),
    ({}, {"optimizer": "lion", "schedule": "cosine", "learning_rate": 0.0003, "gradient_clip": 1.0, "l1": 1e-5,
          "gradient_accumulation": 2,
          "class_weights": "sampled", "nonfinite_loss": "roll_back"}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "train"), RECIPES, ids=[train["optimizer"] for _, train in RECIPES])
def test_a_training_killed_at_every_step_ends_with_the_same_weights(
    make_plan: MakePlan, changes: dict[str, Any], train: dict[str, Any], tmp_path: Path
) -> None:
    whole, kills = fit(make_plan(changes, **train), ignore), 0
    while kills < 50:
        checkpoints = KillingCheckpoints(tmp_path / "training", at=2)
        reported: list[EpochMetrics] = []
        try:
            resumed = fit(make_plan(changes, **train), reported.append, checkpoints)
            break
        except KilledError:
            kills += 1
            checkpoints.release()
    assert kills >= 2 and equal(whole, resumed)
    assert reported == resumed.epochs, "epochs before the last kill are reported too"


def test_a_training_killed_in_early_epochs_ends_with_the_same_weights(params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=16, classes=2)
    splits = {"train": images[::2], "val": images[1::2]}
    data = load_training_data(*prepare_digits(tmp_path / "digits", splits, size=48))

    def plan() -> TrainingPlan:
        changes = {"network": {"name": TINY}}
        return resolve_auto(digit_plan(data, params, tmp_path, changes, epochs=3, early_size=32, early_epochs=1)).plan

    whole = fit(plan(), ignore)
    for at in (1, 3):  # within the early epoch, and within the first epoch at the working size
        killing = KillingCheckpoints(tmp_path / "training", at)
        with pytest.raises(KilledError):
            fit(plan(), ignore, killing)
        killing.release()
    assert equal(whole, fit(plan(), ignore, Checkpoints(tmp_path / "training", seconds=100)))


def test_auto_is_resolved_to_the_same_rate_after_a_kill(data: TrainingData, params: Params, tmp_path: Path) -> None:
    def plan() -> TrainingPlan:
        changes = {"network": {"name": TINY}}
        return resolve_auto(digit_plan(data, params, tmp_path, changes, learning_rate="auto")).plan

    whole = fit(plan(), ignore)
    killing = KillingCheckpoints(tmp_path / "training", at=3)
    with pytest.raises(KilledError):
        fit(plan(), ignore, killing)
    killing.release()
    assert equal(whole, fit(plan(), ignore, Checkpoints(tmp_path / "training", seconds=100)))


def test_a_half_written_checkpoint_is_never_read(make_plan: MakePlan, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "training", seconds=0)
    checkpoints.save({"kept": 1})
    (tmp_path / "training/checkpoint.part").write_bytes(b"PK\x03\x04 half of one")
    assert checkpoints.load() == {"kept": 1}
    content = (tmp_path / "training/checkpoint.pt").read_bytes()
    (tmp_path / "training/checkpoint.pt").write_bytes(content[: len(content) // 2])
    assert checkpoints.load() is None
    assert equal(fit(make_plan(), ignore, checkpoints), fit(make_plan(), ignore))


def test_a_full_disk_is_reported_and_the_last_checkpoint_kept(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path / "training", seconds=0)
    written: list[Any] = []
    torch_save = torch.save

    def save_until_full(state: Any, file: Any) -> None:
        if len(written) == 3:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                raise RuntimeError("unexpected pos 704 vs 598")  # torch raises this instead
        torch_save(state, file)
        written.append(state["progress"]["step"])

    monkeypatch.setattr(torch, "save", save_until_full)
    message = r"checkpoint.pt was not written: the disk is full .* the previous checkpoint is kept"
    with pytest.raises(UserError, match=message):
        fit(make_plan(), ignore, checkpoints)
    monkeypatch.setattr(torch, "save", torch_save)
    assert not list((tmp_path / "training").glob("*.part"))
    state = checkpoints.load()
    assert state is not None and state["progress"]["step"] == written[-1]
    assert equal(fit(make_plan(), ignore, checkpoints), fit(make_plan(), ignore))


def test_the_same_training_cannot_run_twice_at_once(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path / "training", seconds=0)
    with pytest.raises(UserError, match="the same training is already running"):
        Checkpoints(tmp_path / "training", seconds=0)
    first.delete()
    Checkpoints(tmp_path / "training", seconds=0).delete()


def test_only_the_newest_unfinished_trainings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = []
    for number in range(checkpoints_module.KEPT_FOLDERS + 3):
        (tmp_path / "file").write_bytes(str(number).encode())
        opened.append(open_checkpoints("train", {}, [tmp_path / "file"], 0))
        if number:
            opened[-1]._lock.close()  # type: ignore[union-attr]
    names = {folder.name for folder in (tmp_path / "work/train").iterdir()}
    assert opened[0].folder.name in names, "it is still running"
    assert opened[1].folder.name not in names and opened[-1].folder.name in names


@pytest.fixture
def with_nan() -> Callable[..., TrainingPlan]:
    """Return a function that makes the augmentation of a plan return NaN for some batches."""

    def add_nan(plan: TrainingPlan, times: int, at: int = 2) -> TrainingPlan:
        calls: Iterator[int] = iter(range(1_000))
        remaining = [times]

        def pixels(amounts: Any, stream: Any, image: torch.Tensor) -> torch.Tensor:
            if next(calls) >= at and remaining[0]:
                remaining[0] -= 1
                return image * torch.nan
            return image

        plan.loader.policy.amounts["nan"] = Flip()
        plan.loader.policy.members.append(("nan", Augmentation(Flip, always(Flip()), pixels=pixels)))
        return plan

    return add_nan


def test_a_nonfinite_loss_stops_training_and_saves_the_images(
    make_plan: MakePlan, with_nan: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "training", seconds=100)
    message = r"epoch 1, step 3: the training loss is nan; the images of the step are in .*; lower train.learning_rate"
    with pytest.raises(UserError, match=message):
        fit(with_nan(make_plan(), times=100), ignore, checkpoints)
    assert (tmp_path / "training/not-finite-epoch-1-step-3.png").stat().st_size > 500
    assert len((tmp_path / "training/not-finite-epoch-1-step-3.txt").read_text().splitlines()) == 8


def test_a_nonfinite_loss_is_rolled_back_with_half_the_rate(
    make_plan: MakePlan, with_nan: Callable[..., TrainingPlan]
) -> None:
    undisturbed = fit(make_plan(epochs=3), ignore)
    result = fit(with_nan(make_plan(epochs=3, nonfinite_loss="roll_back"), times=1, at=4), ignore)
    assert all(bool(weights.isfinite().all()) for weights in result.weights.values())
    rates = [(a.learning_rate, b.learning_rate) for a, b in zip(undisturbed.epochs, result.epochs, strict=True)]
    assert rates[0][0] == rates[0][1] and all(b == pytest.approx(a / 2) for a, b in rates[1:])


def test_rolling_back_stops_after_five_attempts(make_plan: MakePlan, with_nan: Callable[..., TrainingPlan]) -> None:
    with pytest.raises(UserError, match=r"reduced to 0.03125 of it"):
        fit(with_nan(make_plan(nonfinite_loss="roll_back"), times=1000), ignore)


def test_losses_are_checked_at_the_end_of_an_epoch_at_the_latest(
    make_plan: MakePlan, with_nan: Callable[..., TrainingPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "STEPS_PER_CHECK", {})
    with pytest.raises(UserError, match="epoch 1, step 3: the training loss is nan"):
        train_on(with_nan(make_plan(), times=100))


OPTIMIZERS = ("adamw", "sgd", "lion", "timm/adafactor")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_saved_state_can_be_restored_any_number_of_times(make_plan: MakePlan, optimizer: str) -> None:
    plan = make_plan(optimizer=optimizer, ema_decay=0.9)
    state = build_state(plan, launch(plan))
    batch = next(state.loader.batches(1, state.device))

    def update(scale: float) -> None:
        state.optimizer.zero_grad(set_to_none=True)
        state.fabric.backward(scale * state.batch_loss(state.model, batch))
        state.optimizer.step()
        state.average.update(state.network)

    update(1.0)
    saved = copy.deepcopy(state.state_dict())
    expected = copy.deepcopy(saved)
    for _ in range(2):
        state.load_state_dict(saved)
        update(math.nan)
    state.load_state_dict(saved)
    torch.testing.assert_close(state.state_dict(), expected, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_twice_in_one_epoch_is_rolled_back_twice(
    make_plan: MakePlan, with_nan: Callable[..., TrainingPlan]
) -> None:
    result = fit(with_nan(make_plan(epochs=3, nonfinite_loss="roll_back"), times=2, at=4), ignore)
    assert len(result.epochs) == 3 and all(bool(weights.isfinite().all()) for weights in result.weights.values())


@pytest.mark.parametrize("nonfinite_loss", ["stop", "roll_back"])
def test_weights_that_are_not_finite_after_the_last_step_of_an_epoch_are_detected(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, nonfinite_loss: str
) -> None:
    plan = make_plan(epochs=3, nonfinite_loss=nonfinite_loss)
    updates: list[int] = []

    def gradient_of(gradient: torch.Tensor) -> torch.Tensor:
        updates.append(1)
        return gradient * math.nan if len(updates) == plan.loader.steps else gradient

    def build(*arguments: Any) -> Any:
        state = build_state(*arguments)
        weights: Any = next(state.network.parameters())
        weights.register_hook(gradient_of)
        return state

    monkeypatch.setattr(loop, "build_state", build)
    if nonfinite_loss == "stop":
        with pytest.raises(UserError, match=r"epoch 1, step 3: weights are not finite after the update; lower train"):
            fit(plan, ignore)
        return
    result = fit(plan, ignore)
    assert len(result.epochs) == 3 and all(bool(weights.isfinite().all()) for weights in result.weights.values())


def test_the_best_weights_are_kept_when_the_loss_is_not_finite(
    make_plan: MakePlan, with_nan: Callable[..., TrainingPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = {"schedule": "constant", "warmup": 0.0}
    whole = fit(with_nan(make_plan(epochs=1, **constant), times=0), ignore)
    with pytest.raises(UserError, match="epoch 2, step 2: the training loss is nan"):
        checkpoints = Checkpoints(tmp_path / "training", seconds=100)
        fit(with_nan(make_plan(epochs=2, **constant), times=100, at=4), ignore, checkpoints)
    network, _, _ = load_model(tmp_path / "training/best-epoch-1.pt")
    assert all(torch.equal(values, whole.weights[name]) for name, values in network.state_dict().items())
    assert "the weights of epoch 1, the best of 1 completed epoch, are in" in capsys.readouterr().out


class EditedCode:
    """Code that is edited while the stage runs."""

    def __init__(self) -> None:
        self.comparisons = 0

    def compare(self) -> None:
        self.comparisons += 1
        if self.comparisons == 2:
            raise UserError("the code has changed")

    def check_imports(self) -> None:
        pass


@pytest.fixture
def run_stage(
    digits: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the stage `train` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("tuned", "weights"):
        Path(name).mkdir()
    Path("tuned/best.json").write_text("{}")

    def run(check: Any = None, **train: Any) -> dict[str, Any]:
        changed = params.train.model_copy(update={"epochs": 2, "batch_size": 8, **FIXED, **train})
        sections = {name: getattr(params, name) for name in ("task", "augment", "tracking")}
        sections["network"] = params.network.model_copy(update={"name": TINY})
        paths = [digits / "ingested", digits / "prepared", *(Path(name) for name in ("tuned", "weights", "trained"))]
        return call(stage.main, paths, {**sections, "train": changed}, check)

    return run


def test_a_completed_training_whose_results_are_lost_is_not_repeated(
    run_stage: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="the code has changed"):
        run_stage(EditedCode())
    assert not Path("trained").exists()

    def train_epoch(*_: Any) -> None:
        raise AssertionError("the training is repeated")

    monkeypatch.setattr(loop, "_train_epoch", train_epoch)
    assert run_stage()["best_epoch"] in (1, 2)
    assert Path("trained/model.pt").exists() and not list(Path("work/train").glob("*/checkpoint.pt"))


def test_a_score_undefined_in_every_epoch_is_replaced_by_the_validation_loss(
    run_stage: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = iter([3.0, math.nan, 1.0, 2.0, 2.5])
    validations: list[int] = []

    def validate(*_: Any) -> tuple[float, float]:
        validations.append(1)
        return math.nan, next(losses) if len(validations) % 2 == 0 else 1.0  # after the training images

    monkeypatch.setattr(loop, "validate", validate)
    metrics = run_stage(epochs=9, patience=2)
    message = "is undefined on the validation images in every epoch; epoch 3 was selected, which has the lowest"
    assert message in capsys.readouterr().out
    assert metrics["best_epoch"] == 3 and "2 epochs since epoch 3" in metrics["stopped"]
    assert json.loads(Path("trained/metrics.json").read_text())["val_score"] is None
    assert Path("trained/model.pt").exists()
