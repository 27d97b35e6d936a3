"""The recipe of a training, each part of it; and that a training ends the same, however often it was ended."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.augmentations.augmentation_interface import Augmentation, always
from stages.augmentations.similarity import Flip
from stages.core.errors import UserError
from stages.frame.sections import Params
from stages.networks import NetworkConfig, build
from stages.training import checkpoints, resume
from stages.training.batch_loader import Batch
from stages.training.checkpoints import Restarts
from stages.training.ema import Average
from stages.training.loop import Fit, fit
from stages.training.precision import in_full_where_small
from stages.training.schedules import BEHIND, rate_share
from stages.training.training_plan import Material, Plan, material, plan
from stages.training.training_progress import Epoch, Progress
from tests.conftest import digit_images, prepare_digits

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Material:
    images = digit_images(per_class=16, classes=3)
    folder = tmp_path_factory.mktemp("digits")
    return material(*prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16))


@pytest.fixture
def planned(given: Material, params: Params, tmp_path: Path) -> Callable[..., Plan]:
    def make(network: dict[str, Any] | None = None, augment: str = "light", **train: Any) -> Plan:
        fixed = {"precision": "32-true", "layout": "channels_first", "compile": "no", "resident": "no"}
        settings = {"epochs": 2, "batch_size": 8, "device": "cpu", **fixed, **train}
        sections = {
            "task": params.task,
            "augment": params.augment.model_copy(update={"preset": augment}),
            "network": params.network.model_copy(update=network or {}),
            "train": params.train.model_copy(update=settings),
        }
        return plan(given, sections, tmp_path)

    return make


def silent(epoch: Epoch) -> None:
    pass


def same(one: Fit, other: Fit) -> bool:
    assert one.weights and one.weights.keys() == other.weights.keys()
    timed = ("seconds", "reading", "changing")
    curves = [[{k: v for k, v in vars(e).items() if k not in timed} for e in fitted.epochs] for fitted in (one, other)]
    return curves[0] == curves[1] and all(torch.equal(one.weights[n], other.weights[n]) for n in one.weights)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop", "lion", "timm/nadamw"])
def test_every_optimizer_lowers_the_loss(planned: Callable[..., Plan], name: str) -> None:
    rate = {"lion": 0.0003, "rmsprop": 0.0003, "sgd": 0.003}.get(name, 0.003)
    fitted = fit(planned(epochs=4, optimizer=name, learning_rate=rate, label_smoothing=0.0, augment="none"), silent)
    assert fitted.epochs[-1].train_loss < 0.8 * fitted.epochs[0].train_loss


def test_an_unknown_optimizer_is_named_with_the_nearest(planned: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match=r"train.optimizer: timm/nadamwx: did you mean `timm/nadamw`"):
        fit(planned(optimizer="timm/nadamwx"), silent)


@pytest.mark.parametrize("name", BEHIND)
def test_every_schedule_rises_in_the_warm_up_and_never_after(name: str) -> None:
    rates = [rate_share(name, 0.2, step, 100, [True] * (step // 10)) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25) and max(rates) == pytest.approx(1.0, abs=0.01)
    assert all(a <= b for a, b in itertools.pairwise(rates[:20]))
    assert all(a >= b for a, b in itertools.pairwise(rates[20:]))
    assert all(0 <= rate <= 1 for rate in rates)


def test_the_rate_drops_on_a_plateau_and_not_before() -> None:
    assert rate_share("plateau", 0.0, 50, 100, [False, True, True, True]) == 1.0
    assert rate_share("plateau", 0.0, 50, 100, [False] + [True] * 4) == pytest.approx(0.1)
    assert rate_share("plateau", 0.0, 50, 100, [False] + [True] * 8) == pytest.approx(0.01)


def test_the_schedule_is_what_the_epochs_report(planned: Callable[..., Plan]) -> None:
    fitted = fit(planned(epochs=4, schedule="step", warmup=0.0, learning_rate=0.01), silent)
    assert [epoch.learning_rate for epoch in fitted.epochs] == pytest.approx([0.01, 0.01, 0.001, 0.0001])


def test_l1_makes_weights_smaller_in_sum(planned: Callable[..., Plan]) -> None:
    plain, pulled = (fit(planned(l1=l1, weight_decay=0.0, epochs=4), silent).weights for l1 in (0.0, 0.05))
    sums = [sum(float(w.abs().sum()) for n, w in one.items() if n.endswith("fc.1.weight")) for one in (plain, pulled)]
    assert sums[1] < 0.99 * sums[0]


def test_a_clipped_gradient_moves_sgd_no_further_than_its_length(planned: Callable[..., Plan]) -> None:
    one = {"epochs": 1, "batch_size": 64, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0}
    torch.manual_seed(0)
    start = build(planned().network_config)
    weights = fit(planned(optimizer="sgd", momentum=0.0, clip=0.01, learning_rate=1.0, **one), silent).weights
    names = [name for name, _ in start.named_parameters()]
    moved = torch.cat([(weights[name] - start.state_dict()[name]).flatten() for name in names]).norm()
    assert float(moved) == pytest.approx(0.01, rel=1e-3), "one step of rate 1"


def test_the_average_of_the_weights_is_what_is_judged_and_kept(planned: Callable[..., Plan]) -> None:
    plain, averaged = fit(planned(), silent), fit(planned(average=0.99), silent)
    assert plain.epochs[0].train_loss == averaged.epochs[0].train_loss, "the average does not change how it learns"
    assert plain.epochs[0].val_loss != averaged.epochs[0].val_loss
    layer, average = torch.nn.Linear(1, 1, bias=False), 1.0
    torch.nn.init.constant_(layer.weight, 1.0)
    moving = Average(layer, 0.5)
    for value in (2.0, 4.0):
        torch.nn.init.constant_(layer.weight, value)
        moving.update(layer)
    for update, value in enumerate((2.0, 4.0), 1):
        decay = min(0.5, (1 + update) / (10 + update))
        average = decay * average + (1 - decay) * value
    with moving.in_place(layer):
        assert layer.weight.item() == pytest.approx(average)
    assert layer.weight.item() == 4.0


def test_training_stops_when_no_epoch_is_better(planned: Callable[..., Plan]) -> None:
    fitted = fit(planned(epochs=30, patience=2, learning_rate=1e-9), silent)
    assert len(fitted.epochs) < 10 and "2 epochs brought no better balanced_accuracy" in fitted.stopped
    assert fitted.best.epoch == len(fitted.epochs) - 2


def test_progress_counts_epochs_since_the_best() -> None:
    progress = Progress(higher=True)
    for number, score in enumerate([0.5, 0.6, 0.6, float("nan"), 0.55], 1):
        progress.epochs.append(Epoch(number, 0, 0, 0, score, 0, 0, 0, 0))
    assert progress.worse == [False, False, True, True, True] and progress.idle() == 3
    assert progress.best.epoch == 2


def test_accumulated_batches_are_one_large_batch(planned: Callable[..., Plan]) -> None:
    network = {"norm": "group"}
    large = fit(planned(network, batch_size=12), silent)
    parts = fit(planned(network, batch_size=4, accumulate=3), silent)
    assert [e.train_loss for e in parts.epochs] == pytest.approx([e.train_loss for e in large.epochs], rel=1e-3)
    far = max(float((large.weights[n] - parts.weights[n]).abs().max()) for n in large.weights)
    assert far < 0.01, "Adam turns rounding of small gradients into steps of up to the learning rate"


def test_more_batches_a_step_than_images_are_refused(planned: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match="need at least 200 training images, of which there are 24"):
        fit(planned(accumulate=100), silent)


def test_images_in_the_device_s_memory_train_the_same(planned: Callable[..., Plan]) -> None:
    assert same(fit(planned(resident="yes"), silent), fit(planned(resident="no"), silent))


def test_noise_on_features_and_skipped_blocks_act_in_training_only() -> None:
    network_config = NetworkConfig("resnet18", "plain", 1, 3, "batch", 0.0, 16, feature_noise=0.5, stochastic_depth=0.5)
    torch.manual_seed(0)
    network, plain = build(network_config), build(NetworkConfig("resnet18", "plain", 1, 3, "batch", 0.0, 16))
    plain.load_state_dict(network.state_dict())
    x_BCHW = torch.rand(4, 1, 16, 16)
    assert torch.equal(network.eval()(x_BCHW), plain.eval()(x_BCHW))
    network.train()
    assert not torch.equal(network(x_BCHW), network(x_BCHW))


def test_stochastic_depth_needs_blocks_to_skip() -> None:
    with pytest.raises(UserError, match="network.stochastic_depth: 0.5, but vgg11 has no residual blocks"):
        build(NetworkConfig("vgg11", "plain", 1, 3, "batch", 0.0, 32, stochastic_depth=0.5))
    with pytest.raises(UserError, match="network.feature_noise: mask_rcnn has no place for it"):
        build(NetworkConfig("mask_rcnn", "resnet18", 1, 3, "batch", 0.0, 32, feature_noise=0.5))


def test_a_rate_that_is_found_lowers_the_loss_and_is_told(planned: Callable[..., Plan]) -> None:
    fitted = fit(planned(learning_rate="auto", epochs=3, label_smoothing=0.0, augment="none"), silent)
    (rate,) = [one.value for one in fitted.resolved if one.key == "train.learning_rate"]
    assert fitted.tested is not None and 1e-5 < rate < 1
    assert rate == pytest.approx(fitted.tested.rates[int(np.argmin(fitted.tested.losses))] / 5, rel=0.05)
    assert fitted.epochs[-1].train_loss < 0.8 * fitted.epochs[0].train_loss


def test_weights_of_classes_follow_from_the_data(planned: Callable[..., Plan], given: Material) -> None:
    fitted = fit(planned(class_weights="auto", epochs=1), silent)
    (chosen,) = [one for one in fitted.resolved if one.key == "train.class_weights"]
    assert chosen.value == "none" and "there are 8 training images" in chosen.why


class _Ended(Exception):
    pass


class _Killed(Restarts):
    """Ends a training at the k-th checkpoint, before or behind it."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder, seconds=0)
        self.at = at

    def save(self, state: dict[str, Any]) -> None:
        super().save(state)
        self.at -= 1
        if self.at == 0:
            raise _Ended


RECIPES: list[dict[str, Any]] = [
    {"optimizer": "adamw", "average": 0.9, "augment": "standard", "network": {"dropout": 0.3, "feature_noise": 0.2}},
    {"optimizer": "sgd", "schedule": "plateau", "precision": "bf16-mixed", "network": {"stochastic_depth": 0.3}},
    {"optimizer": "lion", "schedule": "cosine", "learning_rate": 0.0003, "clip": 1.0, "l1": 1e-5, "accumulate": 2,
     "class_weights": "sampled", "not_finite": "roll_back"},
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe["optimizer"])
def test_a_training_that_was_ended_at_every_step_ends_with_the_same_weights(
    planned: Callable[..., Plan], recipe: dict[str, Any], tmp_path: Path
) -> None:
    whole, ends = fit(planned(**recipe), silent), 0
    while ends < 50:
        again = _Killed(tmp_path / "training", at=2)
        heard: list[Epoch] = []
        try:
            parts = fit(planned(**recipe), heard.append, again)
            break
        except _Ended:
            ends += 1
            again._lock.close()  # type: ignore[union-attr]
    assert ends >= 2 and same(whole, parts)
    assert heard == parts.epochs, "of epochs before the restart is reported as well"


def test_a_half_written_checkpoint_is_never_read(planned: Callable[..., Plan], tmp_path: Path) -> None:
    kept = Restarts(tmp_path / "training", seconds=0)
    kept.save({"kept": 1})
    (tmp_path / "training/checkpoint.part").write_bytes(b"PK\x03\x04 half of one")
    assert kept.load() == {"kept": 1}
    whole = (tmp_path / "training/checkpoint.pt").read_bytes()
    (tmp_path / "training/checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    assert kept.load() is None
    assert same(fit(planned(), silent, kept), fit(planned(), silent))


def test_a_full_disk_is_told_and_the_last_checkpoint_kept(
    planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, written = Restarts(tmp_path / "training", seconds=0), []
    plain = torch.save

    def full(state: Any, file: Any) -> None:
        if len(written) == 3:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                raise RuntimeError("unexpected pos 704 vs 598")  # as torch does
        plain(state, file)
        written.append(state["progress"]["step"])

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"checkpoint.pt cannot be written: the disk is full .* the one before is kept"):
        fit(planned(), silent, kept)
    monkeypatch.setattr(torch, "save", plain)
    assert not list((tmp_path / "training").glob("*.part"))
    state = kept.load()
    assert state is not None and state["progress"]["step"] == written[-1]
    assert same(fit(planned(), silent, kept), fit(planned(), silent))


def test_the_same_training_is_not_run_twice_at_once(tmp_path: Path) -> None:
    first = Restarts(tmp_path / "training", seconds=0)
    with pytest.raises(UserError, match="the same training runs already"):
        Restarts(tmp_path / "training", seconds=0)
    first.finish()
    Restarts(tmp_path / "training", seconds=0).finish()


def test_only_the_newest_unfinished_trainings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    held = []
    for number in range(checkpoints.KEPT + 3):
        (tmp_path / "file").write_bytes(str(number).encode())
        held.append(checkpoints.restarts({}, [tmp_path / "file"], 0))
        if number:
            held[-1]._lock.close()  # type: ignore[union-attr]
    names = {folder.name for folder in (tmp_path / "work/train").iterdir()}
    assert held[0].folder.name in names, "it runs still"
    assert held[1].folder.name not in names and held[-1].folder.name in names


def test_weights_that_meet_padding_alone_have_no_gradient_in_16_bits() -> None:
    layer, x_BCHW = torch.nn.Conv2d(256, 512, 3, stride=2, padding=1, bias=False), torch.randn(8, 256, 1, 1)
    in_full_where_small(torch.nn.Sequential(layer))
    edge = torch.ones(3, 3, dtype=torch.bool)
    edge[1, 1] = False
    for _ in range(10):
        litter = [torch.full((3000, 300), 1e8) for _ in range(3)]  # what freed memory holds
        del litter
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = layer(x_BCHW)
        answer.float().pow(2).sum().backward()
        assert layer.weight.grad is not None and not layer.weight.grad[:, :, edge].any()
        assert layer.weight.grad[:, :, 1, 1].any()


@pytest.fixture
def spoilt() -> Callable[..., Plan]:
    """A plan with images of NaN in one batch, as many times as it is told."""

    def spoil(one: Plan, times: int, at: int = 2) -> Plan:
        calls: Iterator[int] = iter(range(1_000))
        left = [times]

        def pixels(amounts: Any, stream: Any, image: torch.Tensor) -> torch.Tensor:
            if next(calls) >= at and left[0]:
                left[0] -= 1
                return image * torch.nan
            return image

        one.feed.policy.amounts["spoilt"] = Flip()
        one.feed.policy.members.append(("spoilt", Augmentation(Flip, always(Flip()), pixels=pixels)))
        return one

    return spoil


def test_a_loss_that_is_no_number_stops_with_its_images_kept(
    planned: Callable[..., Plan], spoilt: Callable[..., Plan], tmp_path: Path
) -> None:
    kept = Restarts(tmp_path / "training", seconds=100)
    with pytest.raises(UserError, match=r"epoch 1, step 3: the training loss is nan; its images are kept in"):
        fit(spoilt(planned(), times=100), silent, kept)
    assert (tmp_path / "training/not-finite-epoch-1-step-3.png").stat().st_size > 500
    assert len((tmp_path / "training/not-finite-epoch-1-step-3.txt").read_text().splitlines()) == 8


def test_a_loss_that_is_no_number_is_rolled_back_with_half_the_rate(
    planned: Callable[..., Plan], spoilt: Callable[..., Plan]
) -> None:
    plain = fit(planned(epochs=3), silent)
    fitted = fit(spoilt(planned(epochs=3, not_finite="roll_back"), times=1, at=4), silent)
    assert all(bool(one.isfinite().all()) for one in fitted.weights.values())
    rates = [(a.learning_rate, b.learning_rate) for a, b in zip(plain.epochs, fitted.epochs, strict=True)]
    assert rates[0][0] == rates[0][1] and all(b == pytest.approx(a / 2) for a, b in rates[1:])


def test_rolling_back_ends(planned: Callable[..., Plan], spoilt: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match=r"0.03125 of it left"):
        fit(spoilt(planned(not_finite="roll_back"), times=1000), silent)


def test_losses_are_looked_at_seldom_where_a_look_waits(
    planned: Callable[..., Plan], spoilt: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "LOOKED", {})
    with pytest.raises(UserError, match="epoch 1, step 3: the training loss is nan"):
        fit(spoilt(planned(), times=100), silent)


def test_shares_of_the_seconds_are_shares(planned: Callable[..., Plan]) -> None:
    fitted = fit(planned(), silent)
    assert all(0 < e.reading < 1 and 0 < e.changing < 1 and e.reading + e.changing < 1 for e in fitted.epochs)


def test_steps_split_into_pieces_hold_every_image_once(planned: Callable[..., Plan]) -> None:
    from dataclasses import replace

    feed = replace(planned(batch_size=3).feed, pieces=2)
    shares: list[list[Batch]] = [list(feed.batches(1, CPU, 0, slice(rank, None, 2))) for rank in (0, 1)]
    assert [len(share) for share in shares] == [feed.steps, feed.steps] == [4, 4]
    seen = np.concatenate([batch.index_B for share in shares for batch in share])
    assert sorted(seen) == list(range(24))
