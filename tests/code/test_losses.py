"""Tests of the losses for points and classes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.config.schema import Params
from stages.networks.heads import HEADS
from stages.tasks.representations import loss_of
from stages.tasks.task_spec import TaskSpec
from stages.training.loss_context import LossContext
from stages.training.losses import LOSSES
from stages.training.trainer_state import class_weights
from stages.training.training_plan import load_training_data
from tests.conftest import digit_images, prepare_digits
from tests.digit_plans import digit_plan


def test_balanced_weights_give_every_class_the_same_total(params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=3)
    data = load_training_data(*prepare_digits(tmp_path, {"train": images[5:], "val": images[:5]}, size=16))
    counts = np.bincount(np.asarray(data.train_set.target))
    assert counts.tolist() == [3, 8, 8]
    weights = class_weights(digit_plan(data, params, tmp_path, class_weights="balanced"))
    assert np.allclose(weights.numpy() * counts, counts.sum() / 3)


@pytest.mark.parametrize("name", ["heatmap", "disc"])
def test_a_weaker_similar_peak_does_not_move_the_point(name: str) -> None:
    raw_BPHW = torch.full((1, 1, 32, 32), -6.0)
    raw_BPHW[0, 0, 6:11, 4:9], raw_BPHW[0, 0, 20:23, 26:29] = 4.0, 4.1
    raw_BPHW[0, 0, 8, 6] = 4.2
    spec = TaskSpec("landmarks", name, "points", points=("a",), size=32, radius=2.0)
    assert HEADS[name](raw_BPHW, 32, 32, spec)[0, 0, :2].tolist() == pytest.approx([6, 8], abs=0.1)


@pytest.mark.parametrize("name", ["heatmap", "disc"])
def test_a_misplaced_peak_costs_more_than_an_empty_map(name: str) -> None:
    spec = TaskSpec("landmarks", name, "points", points=("a", "b"), radius=2.0)
    loss = LOSSES[name][loss_of(name, "auto")](LossContext(spec, torch.ones(1), 0.0))
    xy_BP2 = torch.tensor([[[8.0, 8.0], [24.0, 24.0]]])

    def cost(positions: list[tuple[int, int]]) -> float:
        raw_BPHW = torch.full((1, 2, 32, 32), -4.0)
        for point, (x, y) in enumerate(positions):
            raw_BPHW[0, point, y - 2 : y + 3, x - 2 : x + 3] = 4.0
        return float(loss(raw_BPHW, xy_BP2))

    right, both_at_one, swapped = cost([(8, 8), (24, 24)]), cost([(8, 8), (8, 8)]), cost([(24, 24), (8, 8)])
    empty = float(loss(torch.full((1, 2, 32, 32), -4.0), xy_BP2))
    assert right < min(empty, both_at_one) and max(empty, both_at_one) < swapped
    assert name == "disc" or empty < both_at_one


def test_the_target_of_an_invisible_point_is_an_empty_map() -> None:
    spec = TaskSpec("landmarks", "heatmap", "points", points=("a",), radius=2.0)
    raw_BPHW = torch.zeros((1, 1, 16, 16), requires_grad=True)
    loss = LOSSES["heatmap"]["location_cross_entropy"](LossContext(spec, torch.ones(1), 0.0))
    loss(raw_BPHW, torch.full((1, 1, 2), torch.nan)).backward()  # type: ignore[no-untyped-call]
    assert raw_BPHW.grad is not None and bool((raw_BPHW.grad > 0).all())
