"""Gradient checkpointing and fp16: the same training with less memory."""

from collections.abc import Callable

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from stages.core.errors import UserError
from stages.networks import NetworkConfig, build
from stages.training.auto_params import resolve_auto
from stages.training.devices import loss_scale, single_process_fabric
from stages.training.gradient_checkpointing import checkpoint_blocks
from stages.training.loop import fit
from stages.training.throughput_autotune import _candidates
from stages.training.trainer_state import build_state
from stages.training.training_plan import TrainingPlan
from tests.digit_plans import ignore, train_on

MakePlan = Callable[..., TrainingPlan]


def test_checkpointing_changes_no_weight_and_no_running_statistic(make_plan: MakePlan) -> None:
    network = {"network": {"dropout": 0.3, "stochastic_depth": 0.4}}
    plain, checkpointed = (train_on(make_plan(network, gradient_checkpointing=on)).weights for on in (False, True))
    assert plain.keys() == checkpointed.keys()
    assert [name for name in plain if not torch.equal(plain[name], checkpointed[name])] == []


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("resnet18", ""), ("efficientnet_lite0", ""), ("googlenet", ""), ("unet", "resnet18"), ("unet", "plain")],
)
def test_checkpointing_keeps_fewer_features(name: str, encoder: str) -> None:
    def kept_bytes(checkpointed: bool) -> int:
        network = build(NetworkConfig(name, encoder, 3, 2, "batch", 0.0, 64)).train()
        if checkpointed:
            checkpoint_blocks(network, name)
        known = {values.data_ptr() for values in network.state_dict().values()}
        sizes: dict[int, int] = {}

        def keep(values: torch.Tensor) -> torch.Tensor:
            if values.data_ptr() not in known:
                sizes[values.data_ptr()] = values.nbytes
            return values

        with saved_tensors_hooks(keep, lambda values: values):
            out = network(torch.rand(4, 3, 64, 64))
        assert out.requires_grad
        return sum(sizes.values())

    assert kept_bytes(True) < 0.8 * kept_bytes(False)


def test_networks_without_blocks_are_refused() -> None:
    network = build(NetworkConfig("vgg11", "", 1, 2, "batch", 0.2, 32))
    with pytest.raises(UserError, match="gradient_checkpointing: true, but vgg11 does not consist of blocks"):
        checkpoint_blocks(network, "vgg11")


def test_fp16_trains_with_scaled_losses_and_resumes_with_the_same_scale(make_plan: MakePlan) -> None:
    plan = resolve_auto(make_plan(precision="16-mixed", gradient_clip=1.0, epochs=3, learning_rate=0.01)).plan
    result = fit(plan, ignore)
    assert result.epochs[-1].train_loss < 0.9 * result.epochs[0].train_loss
    fabric = single_process_fabric("cpu", "16-mixed")
    state = build_state(plan, fabric)
    scaler = fabric.strategy.precision.scaler  # type: ignore[attr-defined]
    scaler.scale(torch.zeros(()))
    scaler.update(new_scale=8.0)
    other = single_process_fabric("cpu", "16-mixed")
    resumed = build_state(plan, other)
    resumed.load_state_dict(state.state_dict())
    assert loss_scale(other) == 8.0 and loss_scale(single_process_fabric("cpu", "32-true")) == 1.0


def test_fp16_is_tried_on_a_gpu_without_bf16(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.training import throughput_autotune

    monkeypatch.setattr(throughput_autotune, "torch_device", lambda name: torch.device("cuda"))
    plan = make_plan(precision="auto", device="cuda", compile="no")
    for supported, expected in ((True, "bf16-mixed"), (False, "16-mixed")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, known=supported: known)
        assert {precision for precision, _, _ in _candidates(plan)} == {"32-true", expected}
