"""Tests of the losses: of each image alone, of smoothed and weighted classes, and of points."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE_INDEX
from stages.dataset.pixel_store import PixelStore, RaggedObjects
from stages.networks.heads import HEADS
from stages.tasks.instances import Instances
from stages.tasks.representations import loss_of
from stages.tasks.task_spec import TaskSpec
from stages.training.class_weights import class_weights
from stages.training.loss_context import LossContext
from stages.training.losses import CLASS_LOSSES, LOSSES
from stages.training.training_plan import TrainingData, load_training_data
from stages.training.validation import validate
from tests.conftest import digit_images, prepare_digits
from tests.digit_plans import digit_plan, state_of, train_on

Tensor = torch.Tensor
SIDE = 8
ALL = [(representation, name) for representation, losses in LOSSES.items() for name in losses]
ONE_CLASS = [
    ("class", "cross_entropy"),
    ("class", "focal"),
    ("cumulative", "cumulative_cross_entropy"),
    ("mask", "cross_entropy"),
]


def context(
    spec: TaskSpec, weights: list[float] | None = None, absence: list[float] | None = None, smoothing: float = 0.0
) -> LossContext:
    weights = weights or [1.0] * max(1, len(spec.labels))
    return LossContext(spec, torch.tensor(weights), torch.tensor(absence or [1.0] * len(weights)), smoothing)


def example(representation: str) -> tuple[TaskSpec, Tensor, Tensor]:
    """Return a task, raw outputs and targets of five images, in which pixels and points are missing."""
    rng = torch.Generator().manual_seed(0)
    labels, points, scalars = ("a", "b", "c"), ("p", "q", "r"), ("x", "y")
    options: dict[str, Any] = {"labels": labels, "points": points, "scalars": scalars, "size": SIDE, "radius": 1.5}
    spec = TaskSpec("any", representation, "any", mean=(1.0, 2.0), deviation=(0.5, 2.0), **options)

    def normal(*shape: int) -> Tensor:
        return 2 * torch.randn((5, *shape), generator=rng)

    index_B = torch.tensor([0, 0, 1, 0, 2])
    index_BHW = torch.randint(0, 3, (5, SIDE, SIDE), generator=rng)
    index_BHW[0, :6], index_BHW[1] = IGNORE_INDEX, IGNORE_INDEX
    xy_BP2 = torch.rand((5, 3, 2), generator=rng) * (SIDE - 1)
    xy_BP2[0, 1:], xy_BP2[1] = torch.nan, torch.nan
    cases = {
        "class": (normal(3), index_B),
        "classes": (normal(3), torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]]).float()),
        "cumulative": (normal(2), index_B),
        "scalar": (normal(2), normal(2)),
        "density": (normal(2, SIDE, SIDE), normal(2, SIDE, SIDE).abs()),
        "coordinates": (normal(9), xy_BP2),
        "heatmap": (normal(3, SIDE, SIDE), xy_BP2),
        "disc": (normal(3, SIDE, SIDE), xy_BP2),
        "mask": (normal(3, SIDE, SIDE), index_BHW),
        "image": (normal(1, SIDE, SIDE), normal(1, SIDE, SIDE)),
        "watershed": (normal(3, SIDE, SIDE), index_BHW % 3),
    }
    return spec, *cases[representation]


@pytest.mark.parametrize(("representation", "name"), ALL)
def test_the_loss_of_an_image_depends_on_no_other_image(representation: str, name: str) -> None:
    spec, raw, target = example(representation)
    loss = LOSSES[representation][name](context(spec, [0.3, 4.0, 9.0], [2.0, 1.0, 0.5], smoothing=0.1))
    together_B = loss(raw, target)
    alone_B = torch.cat([loss(raw[i : i + 1], target[i : i + 1]) for i in range(5)])
    assert together_B.shape == (5,) and torch.isfinite(together_B).all()
    assert torch.allclose(together_B, alone_B, rtol=1e-5)


@pytest.mark.parametrize(("representation", "name"), ALL)
def test_exactly_the_losses_of_classes_use_smoothing_and_class_weights(representation: str, name: str) -> None:
    spec, raw, target = example(representation)
    plain, smoothed, weighted = (
        LOSSES[representation][name](one)(raw, target)
        for one in (context(spec), context(spec, smoothing=0.2), context(spec, [0.3, 4.0, 9.0]))
    )
    used = [not torch.allclose(plain, other) for other in (smoothed, weighted)]
    assert used == [name in CLASS_LOSSES] * 2


@pytest.mark.parametrize(("representation", "name"), ONE_CLASS)
def test_the_weight_of_a_class_is_a_factor_of_its_smoothed_loss(representation: str, name: str) -> None:
    spec, raw, target = example(representation)
    first = torch.zeros_like(target)  # the class a everywhere
    plain, weighted = (
        LOSSES[representation][name](context(spec, weights, smoothing=0.05))(raw, first)
        for weights in ([1.0, 1.0, 1.0], [0.2, 5.0, 7.0])
    )
    assert torch.allclose(weighted, 0.2 * plain, rtol=1e-5)


@pytest.mark.parametrize("proportions", [False, True])
def test_a_rare_class_is_not_predicted_for_common_images_at_the_minimum(proportions: bool) -> None:
    """At 99:1 with smoothing .05, weighting the smoothed target gave p(rare | common image) = .717."""
    spec = TaskSpec("classification", "class", "label", labels=("common", "rare"))
    loss = LOSSES["class"]["cross_entropy"](context(spec, [100 / 198, 50.0], smoothing=0.05))
    target = torch.tensor([[1.0, 0.0]]) if proportions else torch.tensor([0])
    raw_BK = torch.tensor([[math.log(0.975), math.log(0.025)]], requires_grad=True)
    loss(raw_BK, target).sum().backward()  # type: ignore[no-untyped-call]
    assert raw_BK.grad is not None and raw_BK.grad.abs().max() < 1e-6


def test_an_absent_label_is_predicted_absent_whatever_the_weight_of_its_presence() -> None:
    spec = TaskSpec("multilabel", "classes", "labels", labels=("rare",))
    loss = LOSSES["classes"]["binary_cross_entropy"](context(spec, [50.0], [0.505], smoothing=0.05))
    raw_BK = torch.tensor([[math.log(0.025 / 0.975)]], requires_grad=True)
    loss(raw_BK, torch.zeros(1, 1)).sum().backward()  # type: ignore[no-untyped-call]
    assert raw_BK.grad is not None and raw_BK.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_the_weight_of_a_mixed_image_is_the_mean_over_its_classes(name: str) -> None:
    spec, raw_BK, _ = example("class")
    share_BK = torch.tensor([[0.75, 0.25, 0.0]]).repeat(5, 1)
    plain, weighted = (LOSSES["class"][name](context(spec, w, smoothing=0.1)) for w in (None, [1.0, 5.0, 7.0]))
    assert torch.allclose(weighted(raw_BK, share_BK), 2.0 * plain(raw_BK, share_BK))


def test_balanced_weights_give_every_class_the_same_total(params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=3)
    data = load_training_data(*prepare_digits(tmp_path, {"train": images[5:], "val": images[:5]}, size=16))
    counts = np.bincount(np.asarray(data.train_set.target))
    assert counts.tolist() == [3, 8, 8]
    weights, _ = class_weights(data.train_set.target, data.spec)
    assert np.allclose(weights * counts, counts.sum() / 3)


def test_balanced_labels_and_their_absence_have_the_same_total() -> None:
    target_NK = np.zeros((100, 3), np.uint8)
    target_NK[:10, 0] = target_NK[:50, 1] = target_NK[:95, 2] = 1
    presence_K, absence_K = class_weights(
        target_NK, TaskSpec("multilabel", "classes", "labels", labels=("a", "b", "c"))
    )
    assert np.allclose(presence_K * [10, 50, 95], 50) and np.allclose(absence_K * [90, 50, 5], 50)


def test_balanced_masks_give_every_class_the_same_total_in_the_loss() -> None:
    spec, raw_BKHW, index_BHW = example("mask")
    weights, _ = class_weights(index_BHW.numpy(), spec)
    loss = LOSSES["mask"]["cross_entropy"](context(spec, weights.tolist()))
    uniform_BKHW = torch.zeros_like(raw_BKHW).requires_grad_()
    loss(uniform_BKHW, index_BHW).sum().backward()  # type: ignore[no-untyped-call]
    assert uniform_BKHW.grad is not None
    assert torch.allclose(uniform_BKHW.grad.sum(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4), "no class is preferred"


def test_the_weight_of_a_class_is_limited() -> None:
    spec = TaskSpec("classification", "class", "label", labels=("common", "rare"))
    weights, _ = class_weights(np.repeat([0, 1], [99_999, 1]), spec)
    assert weights[1] / weights[0] == pytest.approx(1000)
    presence_K, absence_K = class_weights(
        np.repeat([0, 1], [99_999, 1])[:, None], TaskSpec("multilabel", "classes", "labels", labels=("rare",))
    )
    assert presence_K / absence_K == pytest.approx(1000)


def test_weights_without_classes_are_refused() -> None:
    with pytest.raises(UserError, match="balanced requires classes in the loss, which representation boxes"):
        class_weights(None, TaskSpec("instances", "boxes", "shapes", labels=("cell",)))


@pytest.mark.parametrize("balanced", ["none", "balanced"])
def test_batch_size_and_order_do_not_change_the_validation_loss(balanced: str, params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=3)
    data = load_training_data(*prepare_digits(tmp_path, {"train": images[5:], "val": images[:13]}, size=16))
    found = []
    for size, order in ((2, 1), (16, 1), (4, -1)):
        plan = digit_plan(data, params, tmp_path, batch_size=size, class_weights=balanced, label_smoothing=0.1)
        state, rows = state_of(plan), np.arange(len(data.val_set))[::order]
        torch.manual_seed(0)
        with state.validation_network() as network:
            truths = [data.val_truths[i] for i in rows]
            found.append(validate(plan, state, network, data.val_set.select(rows), truths)[1])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_the_validation_loss_of_boxes_depends_on_no_other_image(params: Params, tmp_path: Path) -> None:
    spec = TaskSpec("instances", "boxes", "shapes", labels=("a",), channels=1, size=32, fit="letterbox")
    boxes = np.array([[2, 2, 12, 12], [16, 16, 30, 30], [1, 20, 9, 30], [4, 4, 20, 28]], np.float32)
    rows = pd.DataFrame({"path": ["0", "1", "2"], "label": "", "group": "", "height": 32, "width": 32})
    about = {**spec.as_json(), "symmetry_auc": {}, "symmetry_score_drop": {}, "black_border_share": 0.0}
    image_NHWC = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 1)).astype(np.uint8)
    store = PixelStore(image_NHWC, RaggedObjects(boxes, np.zeros(4, int), None, np.array([0, 0, 3, 4])), rows, about)
    none = np.zeros(0)
    truth = Instances(none.reshape(0, 4), none.astype(int), none, None, none.astype(bool), 32, 32)
    data = TrainingData(spec, store, store, [truth] * 3, store, [truth] * 3)
    changes: dict[str, dict[str, Any]] = {
        "network": {"name": "mask_rcnn", "norm": "group", "stochastic_depth": 0.5, "normalize": "none"},
        "augment": {"preset": "none"},
    }
    changes["task"] = {"score": "average_precision"}
    found = []
    for size, order in ((2, [0, 1, 2]), (3, [0, 1, 2]), (2, [2, 0, 1])):
        plan = digit_plan(data, params, tmp_path, changes, batch_size=size)
        state = state_of(plan)
        with state.validation_network() as network:
            found.append(validate(plan, state, network, store.select(np.array(order)), [truth] * 3)[1])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_the_loss_of_a_training_is_lowest_at_the_smoothed_targets_whatever_the_weights(
    params: Params, tmp_path: Path
) -> None:
    images = digit_images(per_class=40, classes=2)
    data = load_training_data(*prepare_digits(tmp_path, {"train": images[:42], "val": images[38:42]}, size=16))
    options: dict[str, Any] = {"class_weights": "balanced", "label_smoothing": 0.05}
    loss = state_of(digit_plan(data, params, tmp_path, **options)).loss
    index_B = torch.tensor(np.array(data.train_set.target), dtype=torch.int64)
    raw_BK = (0.95 * torch.eye(2)[index_B] + 0.025).log().requires_grad_()
    assert loss is not None
    loss(raw_BK, index_B).sum().backward()  # type: ignore[no-untyped-call]
    assert raw_BK.grad is not None and raw_BK.grad.abs().max() < 1e-6


def test_accumulated_batches_of_weighted_classes_equal_one_large_batch(params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=3)
    data = load_training_data(*prepare_digits(tmp_path, {"train": images[5:], "val": images[:5]}, size=16))
    changes = {"network": {"norm": "group"}}
    options: dict[str, Any] = {"class_weights": "balanced", "optimizer": "sgd", "learning_rate": 0.1, "epochs": 2}
    large = train_on(digit_plan(data, params, tmp_path, changes, batch_size=16, **options)).weights
    small = train_on(
        digit_plan(data, params, tmp_path, changes, batch_size=4, gradient_accumulation=4, **options)
    ).weights
    assert large and max(float((large[name] - small[name]).abs().max()) for name in large) < 1e-4


def test_an_error_of_one_pixel_and_one_of_ten_pull_a_point_equally() -> None:
    spec = TaskSpec("landmarks", "coordinates", "points", points=("a",), size=224)
    loss = LOSSES["coordinates"]["coordinate_huber"](context(spec))
    pulls = []
    for pixels in (0.25, 1.0, 10.0):
        raw_BQ = torch.tensor([[(100.5 + pixels) / 224 * 2 - 1, 100.5 / 224 * 2 - 1, 9.0]], requires_grad=True)
        loss(raw_BQ, torch.tensor([[[100.0, 100.0]]])).sum().backward()  # type: ignore[no-untyped-call]
        assert raw_BQ.grad is not None
        pulls.append(float(raw_BQ.grad[0, 0]))
    assert pulls == pytest.approx([0.25, 1.0, 1.0], rel=1e-3)


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
    loss = LOSSES[name][loss_of(name, "auto")](context(spec))
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
    loss = LOSSES["heatmap"]["location_cross_entropy"](context(spec))
    loss(raw_BPHW, torch.full((1, 1, 2), torch.nan)).sum().backward()  # type: ignore[no-untyped-call]
    assert raw_BPHW.grad is not None and bool((raw_BPHW.grad > 0).all())
