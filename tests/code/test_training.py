"""Tests of training on a few digits: options of the section `train`, and errors before training starts."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.networks import NetworkConfig, build
from stages.networks.surgery import Network
from stages.tasks import TASKS
from stages.training import throughput_autotune
from stages.training.auto_params import resolve_auto
from stages.training.devices import single_process_fabric
from stages.training.ema import WeightAverage
from stages.training.loop import fit
from stages.training.model_file import load_model, save_model
from stages.training.network_inference import predict_store
from stages.training.optimizers import build_optimizer, uses_momentum
from stages.training.precision import compute_small_maps_in_float32
from stages.training.schedules import SCHEDULES, lr_factor
from stages.training.training_plan import TrainingData, TrainingPlan, build_plan, load_training_data
from stages.training.training_progress import EpochMetrics, TrainingProgress
from stages.training.unused_settings import unused_settings
from tests.conftest import digit_images, prepare_digits
from tests.digit_plans import TINY, digit_plan, ignore, state_of, train_on

CPU = torch.device("cpu")
MakePlan = Callable[..., TrainingPlan]


UNAUGMENTED = {"augment": {"preset": "none"}}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop", "lion", "timm/nadamw"])
def test_every_optimizer_lowers_the_loss(make_plan: MakePlan, name: str) -> None:
    rate = {"lion": 0.0003, "rmsprop": 0.0003, "timm/nadamw": 0.001}.get(name, 0.003)
    result = train_on(make_plan(UNAUGMENTED, epochs=4, optimizer=name, learning_rate=rate, label_smoothing=0.0))
    assert result.epochs[-1].train_loss < 0.8 * result.epochs[0].train_loss


@pytest.mark.parametrize(
    "name",
    ["adamw", "adam", "sgd", "rmsprop", "lion"]
    + [f"timm/{one}" for one in ("adafactor", "adagrad", "adan", "lamb", "madgrad", "muon", "nadamw", "novograd")],
)
def test_momentum_acts_on_every_optimizer_that_has_one(name: str) -> None:
    moved = []
    for momentum in (0.5, 0.9):
        weight_XX, rng = torch.nn.Parameter(torch.ones(4, 4)), torch.Generator().manual_seed(0)
        optimizer = build_optimizer(name, [{"params": [weight_XX], "lr": 0.01, "peak": 0.01}], momentum, 0.0)
        for _ in range(4):
            optimizer.zero_grad()
            (weight_XX * torch.randn((4, 4), generator=rng)).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        moved.append(weight_XX.detach())
    assert uses_momentum(name) == (not torch.equal(*moved)) == (name != "timm/adagrad")


def test_an_unknown_optimizer_is_reported_with_the_nearest_name(make_plan: MakePlan) -> None:
    with pytest.raises(UserError, match=r"train.optimizer: timm/nadamwx is unknown; did you mean `timm/nadamw`"):
        train_on(make_plan(optimizer="timm/nadamwx"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_rises_only_during_warm_up(name: str) -> None:
    factors = [lr_factor(name, 0.2, step, 100, [True] * (step // 10)) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 25) and max(factors) == pytest.approx(1.0, abs=0.01)
    assert all(a <= b for a, b in itertools.pairwise(factors[:20]))
    assert all(a >= b for a, b in itertools.pairwise(factors[20:]))
    assert all(0 <= factor <= 1 for factor in factors)


def test_the_learning_rate_drops_only_on_a_plateau() -> None:
    assert lr_factor("plateau", 0.0, 50, 100, [False, True, True, True]) == 1.0
    assert lr_factor("plateau", 0.0, 50, 100, [False] + [True] * 4) == pytest.approx(0.1)
    assert lr_factor("plateau", 0.0, 50, 100, [False] + [True] * 8) == pytest.approx(0.01)


def test_epochs_report_the_learning_rate_of_the_schedule(make_plan: MakePlan) -> None:
    result = train_on(make_plan(epochs=4, schedule="step", warmup=0.0, learning_rate=0.01))
    assert [epoch.learning_rate for epoch in result.epochs] == pytest.approx([0.01, 0.01, 0.001, 0.0001])


def test_l1_lowers_the_sum_of_absolute_weights(make_plan: MakePlan) -> None:
    results = [train_on(make_plan(l1=l1, weight_decay=0.0, epochs=4)).weights for l1 in (0.0, 0.05)]
    sums = [sum(float(w.abs().sum()) for n, w in weights.items() if n.endswith("fc.1.weight")) for weights in results]
    assert 0 < sums[1] < 0.99 * sums[0]


def test_one_sgd_step_has_the_norm_of_the_clipped_gradient(make_plan: MakePlan) -> None:
    one_step = {"epochs": 1, "batch_size": 64, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0}
    plan = make_plan(optimizer="sgd", momentum=0.0, gradient_clip=0.01, learning_rate=1.0, **one_step)
    torch.manual_seed(0)
    initial = build(plan.network_config)
    weights = train_on(plan).weights
    names = [name for name, _ in initial.named_parameters()]
    moved = torch.cat([(weights[name] - initial.state_dict()[name]).flatten() for name in names]).norm()
    assert float(moved) == pytest.approx(0.01, rel=1e-3)


def test_averaged_weights_are_validated_and_training_is_unchanged(make_plan: MakePlan) -> None:
    plain, averaged = train_on(make_plan()), train_on(make_plan(ema_decay=0.99))
    assert plain.epochs[0].train_loss == averaged.epochs[0].train_loss, "the average does not change training"
    assert plain.epochs[0].val_loss != averaged.epochs[0].val_loss
    layer, expected = torch.nn.Linear(1, 1, bias=False), 1.0
    torch.nn.init.constant_(layer.weight, 1.0)
    average = WeightAverage(layer, 0.5)
    for update, value in enumerate((2.0, 4.0), 1):
        torch.nn.init.constant_(layer.weight, value)
        average.update(layer)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    with average.applied_to(layer):
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 4.0


def test_training_stops_after_epochs_without_improvement(make_plan: MakePlan) -> None:
    result = train_on(make_plan(epochs=30, patience=2, learning_rate=1e-9))
    assert len(result.epochs) < 10 and "no better balanced_accuracy for 2 epochs since epoch" in result.stop_reason
    assert result.best.epoch == len(result.epochs) - 2


def test_progress_counts_epochs_since_the_best() -> None:
    progress = TrainingProgress(higher_is_better=True)
    for number, score in enumerate([0.5, 0.6, 0.6, float("nan"), 0.55], 1):
        progress.epochs.append(EpochMetrics(number, 0, 0, 0, score, 0, 0, 0, 0))
    assert progress.without_improvement == [False, False, True, True, True] and progress.epochs_since_best() == 3
    assert progress.best.epoch == 2
    progress.early_epochs = 3
    assert progress.without_improvement == [False, False, False, True, True] and progress.epochs_since_best() == 2


@pytest.mark.parametrize(
    ("scores", "losses", "best", "stalled"),
    [
        ([math.nan] * 4, [3.0, 2.0, math.nan, 2.5], 2, [False, False, True, True]),
        ([math.nan] * 2, [math.nan] * 2, 1, [False, True]),
        ([math.nan, 0.1, math.nan], [1.0, 9.0, 0.1], 2, [False, False, True]),
        ([0.5, 0.5, 0.5], [math.nan, 2.0, 1.0], 3, [False, True, True]),
    ],
)
def test_the_validation_loss_replaces_an_undefined_score(
    scores: list[float], losses: list[float], best: int, stalled: list[bool]
) -> None:
    progress = TrainingProgress(higher_is_better=True)
    for number, (score, loss) in enumerate(zip(scores, losses, strict=True), 1):
        progress.epochs.append(EpochMetrics(number, 0, loss, 0, score, 0, 0, 0, 0))
    assert progress.best.epoch == best and progress.without_improvement == stalled


def test_accumulated_batches_equal_one_large_batch(make_plan: MakePlan) -> None:
    changes = {"network": {"norm": "group"}}
    large = train_on(make_plan(changes, batch_size=12))
    accumulated = train_on(make_plan(changes, batch_size=4, gradient_accumulation=3))
    losses = [epoch.train_loss for epoch in large.epochs]
    assert [epoch.train_loss for epoch in accumulated.epochs] == pytest.approx(losses, rel=1e-3)
    difference = max(float((large.weights[n] - accumulated.weights[n]).abs().max()) for n in large.weights)
    assert difference < 0.01, "Adam turns rounding of small gradients into steps of up to the learning rate"


def test_more_batches_per_step_than_images_are_refused(make_plan: MakePlan) -> None:
    with pytest.raises(
        UserError, match="at least 200 training images are required .* there are 24; add images, or lower"
    ):
        train_on(make_plan(gradient_accumulation=100))


def test_caching_images_on_the_device_gives_the_same_weights(make_plan: MakePlan) -> None:
    resident, mapped = (train_on(make_plan(cache_on_device=value)).weights for value in ("yes", "no"))
    assert resident and all(torch.equal(resident[name], mapped[name]) for name in resident)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Return digits of 48 pixels, which can be reduced to the smallest early size."""
    images = digit_images(per_class=16, classes=3)
    folder = tmp_path_factory.mktemp("larger")
    return load_training_data(*prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=48))


def test_only_early_epochs_train_on_smaller_images(
    larger: TrainingData, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    forward = Network.forward

    def record(network: Network, image_BCHW: torch.Tensor, *targets: Any) -> Any:
        seen.append((network.training, image_BCHW.shape[2]))
        return forward(network, image_BCHW, *targets)

    monkeypatch.setattr(Network, "forward", record)
    changes = {"network": {"name": TINY}}
    result = train_on(digit_plan(larger, params, tmp_path, changes, epochs=3, early_size=32, early_epochs=2))
    assert len(result.epochs) == 3
    assert [size for training, size in seen if training] == [32] * 6 + [48] * 3
    assert {size for training, size in seen[1:] if not training} == {48}, "validation is at prepare.size"


def test_patience_begins_after_the_early_epochs(larger: TrainingData, params: Params, tmp_path: Path) -> None:
    early = {"early_size": 32, "early_epochs": 4, "patience": 1, "learning_rate": 1e-9, "epochs": 30}
    result = train_on(digit_plan(larger, params, tmp_path, {"network": {"name": TINY}}, **early))
    assert 5 <= len(result.epochs) < 15 and "no better balanced_accuracy for 1 epoch" in result.stop_reason


def test_auto_is_measured_at_the_working_size(
    larger: TrainingData, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measured = []
    for early in ({}, {"early_size": 32, "early_epochs": 1}):
        plan = digit_plan(larger, params, tmp_path, {"network": {"name": TINY}}, learning_rate="auto", **early)
        measured.append(resolve_auto(plan).range_test)
    assert measured[0] == measured[1] is not None


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/test_vit_relpos", "timm/mixer_s32_224"])
def test_networks_with_a_fixed_size_refuse_smaller_images(
    larger: TrainingData, params: Params, tmp_path: Path, name: str
) -> None:
    plan = digit_plan(larger, params, tmp_path, {"network": {"name": name}}, early_size=32, early_epochs=1)
    with pytest.raises(UserError, match=rf"train.early_size: 32: {name} does not accept images of 32 pixels"):
        state_of(plan)


def test_an_early_size_that_contradicts_other_params_is_refused(make_plan: MakePlan) -> None:
    with pytest.raises(UserError, match="train.early_size: 32 must be at least 32 and smaller than prepare.size: 16"):
        make_plan(early_size=32, early_epochs=1)


def test_feature_noise_and_stochastic_depth_act_in_training_only() -> None:
    config = NetworkConfig("resnet18", "plain", 1, 3, "batch", 0.0, 16, feature_noise=0.5, stochastic_depth=0.5)
    torch.manual_seed(0)
    network, plain = build(config), build(NetworkConfig("resnet18", "plain", 1, 3, "batch", 0.0, 16))
    plain.load_state_dict(network.state_dict())
    x_BCHW = torch.rand(4, 1, 16, 16)
    assert torch.equal(network.eval()(x_BCHW), plain.eval()(x_BCHW))
    network.train()
    assert not torch.equal(network(x_BCHW), network(x_BCHW))


@pytest.mark.parametrize(
    ("norm", "synchronized"), [("batch", False), ("group", False), ("none", False), ("batch", True)]
)
def test_stochastic_depth_acts_with_every_norm(norm: str, synchronized: bool) -> None:
    network = build(NetworkConfig("resnet18", "plain", 1, 3, norm, 0.0, 16, stochastic_depth=0.5), synchronized)
    x_BCHW = torch.rand(4, 1, 16, 16)
    assert not torch.equal(network.train()(x_BCHW), network(x_BCHW))
    assert torch.equal(network.eval()(x_BCHW), network(x_BCHW))


def test_synchronized_batch_norm_keeps_the_activations_of_timm() -> None:
    config = NetworkConfig("timm/efficientnet_lite0", "plain", 1, 3, "batch", 0.0, 32)
    network, synchronized = build(config), build(config, synchronized=True)
    synchronized.load_state_dict(network.state_dict())
    x_BCHW = torch.rand(2, 1, 32, 32)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in synchronized.modules())
    assert torch.allclose(network.eval()(x_BCHW), synchronized.eval()(x_BCHW), atol=1e-6)


def test_stochastic_depth_requires_residual_blocks() -> None:
    with pytest.raises(UserError, match="network.stochastic_depth: 0.5, but vgg11 has no residual blocks"):
        build(NetworkConfig("vgg11", "plain", 1, 3, "batch", 0.0, 32, stochastic_depth=0.5))
    with pytest.raises(UserError, match="network.feature_noise: .*, but mask_rcnn does not support it; use 0"):
        build(NetworkConfig("mask_rcnn", "resnet18", 1, 3, "batch", 0.0, 32, feature_noise=0.5))


def test_the_learning_rate_of_the_range_test_lowers_the_loss(make_plan: MakePlan) -> None:
    resolution = resolve_auto(make_plan(UNAUGMENTED, learning_rate="auto", epochs=3, label_smoothing=0.0))
    (rate,) = [param.value for param in resolution.params if param.key == "train.learning_rate"]
    test = resolution.range_test
    assert test is not None and 1e-5 < rate < 1
    assert rate == pytest.approx(test.rates[int(np.argmin(test.losses))] / 5, rel=0.05)
    result = fit(resolution.plan, ignore)
    assert result.epochs[-1].train_loss < 0.8 * result.epochs[0].train_loss


def test_class_weights_are_chosen_from_the_data(make_plan: MakePlan) -> None:
    resolution = resolve_auto(make_plan(class_weights="auto"))
    (chosen,) = [param for param in resolution.params if param.key == "train.class_weights"]
    assert chosen.value == "none" and "8 training images of" in chosen.why
    assert resolution.plan.train.class_weights == "none"


@pytest.mark.parametrize(
    ("section", "key", "value", "off", "other"),
    [
        ("train", "momentum", 0.9, 0.0, {"optimizer": "timm/adagrad"}),
        ("train", "patience", 2, 0, {"epochs": 2}),
        ("network", "encoder", "vgg11", "resnet18", {}),
        ("network", "frozen_epochs", 3, 0, {}),
        ("network", "pretrained_lr_factor", 0.5, 0.1, {}),
        ("network", "first_layer_lr_factor", 0.5, 1.0, {}),
        ("network", "pretrained_norms", "frozen", "trained", {}),
    ],
)
def test_settings_without_effect_are_named_and_switched_off(
    make_plan: MakePlan, section: str, key: str, value: Any, off: Any, other: dict[str, Any]
) -> None:
    train = {**other, key: value} if section == "train" else other
    resolution = resolve_auto(make_plan({section: {key: value}} if section == "network" else None, **train))
    (param,) = [one for one in resolution.params if one.key == f"{section}.{key}"]
    assert param.value == off and param.why.startswith("without effect: ")
    used = resolution.plan.train if section == "train" else resolution.plan.network
    assert getattr(used, key) == off


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        ("cross_entropy_dice", []),
        ("dice", ["train.label_smoothing", "train.class_weights"]),
        ("huber", ["train.label_smoothing"]),
    ],
)
def test_settings_of_classes_are_named_where_the_loss_ignores_them(
    make_plan: MakePlan, loss: str, named: list[str]
) -> None:
    plan = replace(make_plan(class_weights="balanced" if loss != "huber" else "none"), loss=loss)
    assert [param.key for param in unused_settings(plan)] == named


def test_dropout_is_named_where_the_network_has_none(make_plan: MakePlan) -> None:
    plan = make_plan()
    config = replace(plan.network_config, name="mask_rcnn", dropout=0.3)
    assert "network.dropout" in [param.key for param in unused_settings(replace(plan, network_config=config))]


def test_limited_class_weights_are_named(make_plan: MakePlan) -> None:
    plan = make_plan(class_weights="balanced")
    many = plan.data.train_set.select(np.zeros(2501, int))
    train_set = replace(many, target=np.repeat([0, 1, 2], [2000, 1, 500]))
    plan = replace(plan, data=replace(plan.data, train_set=train_set))
    (param,) = [one for one in resolve_auto(plan).params if one.key == "train.class_weights"]
    assert param.value == "balanced" and "limited to 1000 times the smallest for: 1" in param.why


@pytest.mark.parametrize(("given", "used"), [(None, ":4096:8"), (":16:8", ":16:8"), (":0:0", ":4096:8")])
def test_cublas_is_deterministic_before_its_first_use(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, given: str | None, used: str
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    state_of(make_plan())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == used and torch.are_deterministic_algorithms_enabled()


def test_the_training_loop_refuses_auto_values(make_plan: MakePlan) -> None:
    plan = make_plan(
        precision="auto", memory_format="auto", cache_on_device="auto", device="auto", learning_rate="auto"
    )
    automatic = ("cache_on_device", "device", "learning_rate", "loss", "memory_format", "precision")
    assert sorted(plan.unresolved()) == [
        "network.normalize",
        "network.pretrained_norms",
        *(f"train.{key}" for key in automatic),
    ]
    with pytest.raises(AssertionError, match="resolve_auto replaces auto"):
        fit(plan, ignore)
    assert resolve_auto(plan).plan.unresolved() == []


def test_weights_that_see_only_padding_have_zero_gradient_in_bfloat16() -> None:
    layer, x_BCHW = torch.nn.Conv2d(256, 512, 3, stride=2, padding=1, bias=False), torch.randn(8, 256, 1, 1)
    compute_small_maps_in_float32(torch.nn.Sequential(layer))
    edge = torch.ones(3, 3, dtype=torch.bool)
    edge[1, 1] = False
    for _ in range(10):
        garbage = [torch.full((3000, 300), 1e8) for _ in range(3)]  # freed memory full of large values
        del garbage
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(x_BCHW)
        output.float().pow(2).sum().backward()
        assert layer.weight.grad is not None and not layer.weight.grad[:, :, edge].any()
        assert layer.weight.grad[:, :, 1, 1].any()


@pytest.mark.parametrize("name", ["timm/tf_efficientnet_b0", "efficientnet_lite0"])
def test_16_bit_training_keeps_paddings_that_depend_on_the_size(name: str) -> None:
    config = NetworkConfig(name, "plain", channels=3, outputs=4, norm="batch", dropout=0.0, size=64)
    network, image_BCHW = build(config).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = network(image_BCHW)
        compute_small_maps_in_float32(network)
        assert torch.equal(network(image_BCHW), before)


def test_loading_and_augmentation_times_are_reported_as_shares(make_plan: MakePlan) -> None:
    epochs = train_on(make_plan()).epochs
    assert epochs
    for epoch in epochs:
        assert epoch.loading_share > 0 and epoch.augmentation_share > 0
        assert epoch.loading_share + epoch.augmentation_share < 1


def test_the_seed_determines_the_weights(make_plan: MakePlan) -> None:
    first, again, other = (train_on(make_plan(seed=seed)).weights for seed in (0, 0, 1))
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_weights_of_the_best_epoch_are_returned(make_plan: MakePlan, data: TrainingData, tmp_path: Path) -> None:
    plan = resolve_auto(make_plan(epochs=4, learning_rate=0.01)).plan
    reported: list[EpochMetrics] = []
    result = fit(plan, reported.append)
    assert reported == result.epochs and len(reported) == 4
    assert result.best.val_score == max(epoch.val_score for epoch in reported)
    save_model(tmp_path / "m.pt", plan.network_config, result.weights, {**data.spec.as_json(), "note": "x"})
    network, spec, about = load_model(tmp_path / "m.pt")
    assert spec == data.spec and about["note"] == "x"
    predictions = predict_store(network, data.val_set, spec, 16, CPU)
    scores = TASKS[spec.task].scores(data.val_truths, predictions, np.ones((1, len(predictions))), spec)
    assert scores[plan.score][0] == pytest.approx(result.best.val_score)


def test_a_network_can_overfit_a_tiny_set(make_plan: MakePlan) -> None:
    result = train_on(make_plan(epochs=20, label_smoothing=0.0, learning_rate=0.003))
    assert result.epochs[-1].train_loss < 0.5 * result.epochs[0].train_loss
    assert result.epochs[-1].train_score > 0.9


def test_mixed_precision_does_not_round_the_network_input() -> None:
    layer = torch.nn.Conv2d(1, 1, 1)
    model = single_process_fabric("cpu", "bf16-mixed").setup(layer)
    inputs: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda _, arguments, output: outputs.append(output))
    grey = 40_000 / 65_535
    model(torch.full((1, 1, 4, 4), grey))
    assert float(inputs[0][0, 0, 0, 0]) == pytest.approx(grey, rel=1e-7)
    assert outputs[0].dtype == torch.bfloat16


@pytest.mark.parametrize(("unit", "timed"), [("AVX2", ["32-true"]), ("AVX512", ["32-true", "bf16-mixed"])])
def test_bf16_is_timed_only_on_processors_that_do_not_emulate_it(
    unit: str, timed: list[str], make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: unit)
    candidates = throughput_autotune._candidates(make_plan(precision="auto"))
    assert [precision for precision, _, _ in candidates] == timed


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that must be missing")
def test_a_missing_device_is_reported(make_plan: MakePlan) -> None:
    with pytest.raises(UserError, match="train.device: device cuda is not available on this machine; use auto or cpu"):
        train_on(make_plan(device="cuda"))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (
            "network",
            {"name": "unet"},
            "unet has one output per pixel, but representation class of task classification requires",
        ),
        ("network", {"name": "resnet81"}, "did you mean `resnet18`"),
        (
            "train",
            {"loss": "huber"},
            "train.loss: huber is not a loss of representation class; known: cross_entropy, focal",
        ),
        ("network", {"weights": "/elsewhere/w.pth"}, "network.weights: '/elsewhere/w.pth' is not a file in"),
        ("augment", {"amounts": {"hue": 10}}, "augment.amounts.hue: 10: the images have 1 channel, not 3; use off"),
        ("task", {"score": "psnr"}, "task.score: psnr is not a score of task classification; known: balanced_accuracy"),
    ],
)
def test_contradicting_params_are_reported(
    data: TrainingData, params: Params, tmp_path: Path, section: str, change: dict[str, Any], message: str
) -> None:
    sections = {name: getattr(params, name) for name in ("task", "augment", "network", "train")}
    sections[section] = sections[section].model_copy(update=change)
    with pytest.raises(UserError, match=re.escape(message)):
        build_plan(data, sections, tmp_path)


def test_pretrained_weights_are_frozen_first_and_have_their_own_rate(
    make_plan: MakePlan, data: TrainingData, tmp_path: Path
) -> None:
    first = make_plan(epochs=1)
    save_model(tmp_path / "first.pt", first.network_config, train_on(first).weights, data.spec.as_json())
    initial = torch.load(tmp_path / "first.pt", weights_only=True)["weights"]

    def largest_change(ends: tuple[str, ...], **network: Any) -> float:
        weights = train_on(make_plan({"network": {"weights": "first.pt", **network}}, epochs=1)).weights
        names = [name for name in initial if name.endswith(ends) and ".fc." not in name]
        return max(float((weights[name] - initial[name]).abs().max()) for name in names)

    assert largest_change(("weight", "running_mean", "running_var"), frozen_epochs=1) == 0
    slow, fast = (largest_change(("weight",), pretrained_lr_factor=factor) for factor in (0.01, 1.0))
    assert 0 < slow < fast / 5
