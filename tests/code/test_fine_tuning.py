"""Fine-tuning: learning rates by depth, weight decay, running statistics, the first last layer, and normalization."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.core.errors import UserError
from stages.dataset.channel_statistics import channel_statistics
from stages.networks import NetworkConfig, build
from stages.networks.surgery import Network
from stages.networks.weight_loading import load_weights
from stages.preprocessing.resize import scale
from stages.probes.ridge import ridge
from stages.tasks.task_spec import TaskSpec
from stages.training.auto_params import resolve_auto
from stages.training.batch_loader import unaugmented_batches
from stages.training.linear_head import _fit, last_linear_layer
from stages.training.model_file import save_model
from stages.training.optimizers import RATE_LEVELS, ParameterGroups, build_optimizer, parameters_without_decay
from stages.training.training_plan import TrainingData, TrainingPlan
from tests.digit_plans import state_of, train_on

CPU = torch.device("cpu")
MakePlan = Callable[..., TrainingPlan]


@pytest.fixture
def make_pretrained(make_plan: MakePlan, data: TrainingData, tmp_path: Path) -> MakePlan:
    """Return a function that makes plans that begin with the weights of a trained network, `first.pt`."""
    first = make_plan({"network": {"normalize": "none"}})
    save_model(tmp_path / "first.pt", first.network_config, train_on(first).weights, data.spec.as_json())

    def make(network: dict[str, Any] | None = None, **train: Any) -> TrainingPlan:
        return make_plan({"network": {"weights": "first.pt", **(network or {})}}, **train)

    return make


def test_rates_fall_geometrically_from_the_last_to_the_first_pretrained_layer() -> None:
    pretrained = [nn.Parameter(torch.ones(2, 2)) for _ in range(20)]
    new = [nn.Parameter(torch.ones(2, 2))]
    groups = ParameterGroups(pretrained, new, 0.5, 0.01).with_rate(0.1)
    rates = [group["lr"] for group in groups]
    assert rates == pytest.approx([*np.geomspace(0.0005, 0.05, RATE_LEVELS), 0.1])
    assert [len(group["params"]) for group in groups] == [2] * RATE_LEVELS + [1]


def test_a_last_layer_by_ridge_regression_has_the_rate_of_pretrained_layers(make_pretrained: MakePlan) -> None:
    def rates(**network: Any) -> set[float]:
        groups = state_of(make_pretrained(network, learning_rate=0.01)).optimizer.param_groups
        return {round(group["peak"], 9) for group in groups}

    assert rates(head="linear") == {0.001} and rates() == {0.001, 0.01}


def test_only_weights_of_two_or_more_axes_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 1))
    bare = parameters_without_decay(network)
    groups = ParameterGroups([], list(network.parameters()), without_decay=bare).with_rate(0.1)
    optimizer = build_optimizer("adamw", groups, 0.9, 0.5)
    before = {name: values.detach().clone() for name, values in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {name for name, values in network.named_parameters() if not torch.equal(values, before[name])}
    assert changed == {"0.weight", "3.weight"}


def test_position_embeddings_do_not_decay() -> None:
    config = NetworkConfig("timm/vit_tiny_patch16_224", "", 3, 2, "batch", 0.0, 32)
    network = build(config)
    names = {name for name, values in network.named_parameters() if id(values) in parameters_without_decay(network)}
    assert {"body.pos_embed", "body.cls_token", "body.norm.bias"} <= names
    assert not {"body.head.weight", "body.blocks.0.attn.qkv.weight"} & names


def test_decay_on_all_parameters_is_possible(make_plan: MakePlan) -> None:
    def decays(where: str) -> set[float]:
        return {group["weight_decay"] for group in state_of(make_plan(weight_decay_on=where)).optimizer.param_groups}

    assert decays("weights") == {0.0, 0.01} and decays("all") == {0.01}


def test_pretrained_running_statistics_change_only_on_request(make_pretrained: MakePlan, tmp_path: Path) -> None:
    initial = torch.load(tmp_path / "first.pt", weights_only=True)["weights"]
    statistics = [name for name in initial if name.endswith(("running_mean", "running_var"))]

    def unchanged(**network: Any) -> bool:
        weights = train_on(make_pretrained(network, epochs=1)).weights
        return all(torch.equal(weights[name], initial[name]) for name in statistics)

    assert unchanged() and not unchanged(pretrained_norms="trained")


def test_the_last_layer_is_initialized_by_ridge_regression(make_pretrained: MakePlan, data: TrainingData) -> None:
    state = state_of(make_pretrained({"head": "linear"}))
    network = state.network.eval()
    assert isinstance(network, Network)
    last = last_linear_layer(network, 3)
    assert last is not None
    features: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.inference_mode():
        raw = torch.cat([network(b.image_BCHW) for b in unaugmented_batches(data.train_set, data.spec, 32, CPU)])
    x_NF, codes_N = torch.cat(features).numpy(), np.asarray(data.train_set.target)
    expected = ridge(x_NF, np.eye(3)[codes_N])(x_NF)
    factor = float(raw.std()) / expected.std()
    assert factor > 1 and np.allclose(raw.numpy(), factor * expected, atol=0.01 * factor)
    random = state_of(make_pretrained()).network
    assert isinstance(random, Network)
    assert not torch.allclose(last_linear_layer(random, 3).weight, last.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("representation", ["cumulative", "classes", "scalar"])
def test_the_last_layer_predicts_grades_classes_and_numbers(representation: str) -> None:
    rng = np.random.default_rng(0)
    x_NF = rng.normal(size=(400, 5)).astype(np.float32)
    sum_N = x_NF @ [1.0, 2.0, 0.0, 0.0, -1.0]
    spec = TaskSpec("", representation, "", labels=("a", "b", "c"), scalars=("s",), mean=(10.0,), deviation=(4.0,))
    target: Any = {
        "cumulative": np.digitize(sum_N, [-1, 1]),
        "classes": np.stack([sum_N > 0, x_NF[:, 2] > 0], axis=1),
        "scalar": 10 + 4 * sum_N[:, None],
    }[representation]
    weight_DF, bias_D = _fit(x_NF, target, np.arange(400), spec)
    raw_ND = x_NF @ weight_DF.T + bias_D
    if representation == "scalar":
        assert np.allclose(raw_ND[:, 0], sum_N, atol=0.05)
    else:
        truth = target if representation == "classes" else target[:, None] > np.arange(2)
        assert ((raw_ND > 0) == truth).mean() > 0.9 and np.abs(raw_ND).mean() > 2  # confident where it is right


def test_weights_of_a_file_keep_the_normalization_of_the_architecture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = NetworkConfig("resnet18", "", 3, 4, "batch", 0.0, 32)
    torch.save(build(config).body.state_dict(), tmp_path / "w.pth")
    network = build(config)
    load_weights(network, config, str(tmp_path / "w.pth"))
    assert network.mean_C11.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert network.deviation_C11.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert "w.pth does not state the normalization of its images; that of the published" in capsys.readouterr().out


def test_pixels_are_normalized_by_the_training_images_from_scratch(make_plan: MakePlan, data: TrainingData) -> None:
    network = state_of(make_plan()).network
    pixels = np.asarray(data.train_set.image_NHWC) / 255
    assert float(network.mean_C11) == pytest.approx(pixels.mean(), abs=1e-5)  # type: ignore[arg-type]
    assert float(network.deviation_C11) == pytest.approx(pixels.std(), abs=1e-5)  # type: ignore[arg-type]
    plain = state_of(make_plan({"network": {"normalize": "none"}})).network
    assert (float(plain.mean_C11), float(plain.deviation_C11)) == (0, 1)  # type: ignore[arg-type]


def test_images_of_12_bits_reach_the_network_with_mean_0_and_deviation_1(data: TrainingData) -> None:
    levels = np.asarray(data.train_set.image_NHWC).astype(np.uint16) * 16  # 0..4080 of 65535
    mean, deviation = channel_statistics(replace(data.train_set, image_NHWC=levels), 4095)
    network = Network(nn.Identity(), 1)
    network.normalize(mean, deviation)
    seen = network(scale(torch.from_numpy(levels), 4095))
    assert float(seen.mean()) == pytest.approx(0, abs=0.01) and float(seen.std()) == pytest.approx(1, abs=0.01)


def test_padding_does_not_count_for_the_normalization(data: TrainingData) -> None:
    store = data.train_set
    rows = store.rows.assign(inner_height=4, inner_width=4)
    levels = np.zeros_like(store.image_NHWC)
    levels[:, :4, :4] = 51
    assert channel_statistics(replace(store, rows=rows, image_NHWC=levels), 255)[0] == pytest.approx([0.2])


def test_a_normalization_of_weights_requires_weights(make_plan: MakePlan) -> None:
    message = "network.normalize: weights, but network.weights is none; use auto, data or none"
    with pytest.raises(UserError, match=re.escape(message)):
        resolve_auto(make_plan({"network": {"normalize": "weights"}}))


def test_a_linear_head_requires_a_linear_last_layer(make_plan: MakePlan) -> None:
    plan = make_plan({"network": {"head": "linear"}})
    maps = replace(plan, data=replace(plan.data, spec=replace(plan.data.spec, representation="mask")))
    message = "network.head: linear, but the representation mask has other outputs than one number per class or value"
    with pytest.raises(UserError, match=re.escape(message)):
        resolve_auto(maps)
