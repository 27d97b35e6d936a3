"""Tests of the batches for training, and of the contact sheet of them that the stage `augment` writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.augmentations import BatchRandom, Policy
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE_INDEX
from stages.dataset.pixel_store import PixelStore, open_split
from stages.images.contact_sheet import contact_sheet
from stages.preprocessing.resize import scale
from stages.runner.stage import call
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Batch, BatchLoader, flipped_points, unaugmented_batches
from stages.training.batch_preview import DrawnLevels, draw_example
from stages.training.loss_context import LossContext
from stages.training.losses import LOSSES
from stages.training.training_plan import TrainingData, build_policy, load_training_data, sampling_probabilities
from tests.conftest import digit_images, prepare_digits
from tests.digit_plans import digit_plan

CPU = torch.device("cpu")
CHANGES = {"rotation": 20, "elastic": {"amplitude": 1, "wavelength": 16}, "brightness": 0.1, "noise": 0.05}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    images = digit_images(per_class=20, classes=4)
    folder = tmp_path_factory.mktemp("digits")
    return prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16)


@pytest.fixture(scope="module")
def data(folders: tuple[Path, Path]) -> TrainingData:
    return load_training_data(*folders)


def loader_of(data: TrainingData, batch_size: int, **amounts: Any) -> BatchLoader:
    return BatchLoader(data.train_set, data.spec, Policy(amounts, size=16, channels=1), batch_size, seed=0)


def examples_of(loader: BatchLoader, first_step: int = 0) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Return the images and targets of an epoch by row of the store."""
    examples: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for batch in loader.batches(1, CPU, first_step):
        examples |= {int(row): (batch.image_BCHW[i], batch.target[i]) for i, row in enumerate(batch.index_B)}
    return examples


def test_an_epoch_has_every_image_once_in_a_new_order(data: TrainingData) -> None:
    loader = loader_of(data, 7)
    epochs = [torch.cat([b.image_BCHW.flatten(1) for b in loader.batches(epoch, CPU)]) for epoch in (1, 2)]
    unaugmented = unaugmented_batches(data.train_set, data.spec, 7, CPU)
    all_images = torch.cat([b.image_BCHW.flatten(1) for b in unaugmented])
    assert not torch.equal(epochs[0], epochs[1])
    for images in epochs:
        assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, all_images.tolist()))


def test_sampling_draws_all_classes_equally_often(data: TrainingData, params: Params, tmp_path: Path) -> None:
    target = np.array(data.train_set.target)
    rare = np.flatnonzero(target == 0)[2:]  # two images of class 0 remain, ten of each other class
    imbalanced = replace(data, train_set=data.train_set.select(np.setdiff1d(np.arange(len(target)), rare)))
    probability_N = digit_plan(imbalanced, params, tmp_path, class_weights="sampled").loader.probability_N
    assert probability_N is not None and probability_N.sum() == pytest.approx(1)
    by_class = np.bincount(np.asarray(imbalanced.train_set.target), probability_N)
    assert len(by_class) == 4 and np.allclose(by_class, 1 / 4)


def mask_loader(share: float, rarer: dict[int, list[int]], params: Params, tiles: int = 60) -> BatchLoader:
    """Return a loader of empty tiles, of which some contain a pixel of a label.

    Args:
        share: `train.foreground_share`.
        rarer: tiles that contain each label other than 0.
        params: the project's params.
        tiles: number of tiles.
    """
    spec = TaskSpec("segmentation", "mask", "mask", labels=("ground", "cell", "debris", "unused"), size=16, channels=1)
    target_NSS = np.full((tiles, 16, 16), 0, np.uint8)
    target_NSS[:, :, :4] = IGNORE_INDEX
    for label, place in rarer.items():
        target_NSS[place, 8, 4 + label] = label
    rows = pd.DataFrame({"path": [f"{number}.png" for number in range(tiles)]})
    store = PixelStore(np.zeros((tiles, 16, 16, 1), np.uint8), target_NSS, rows, spec.as_json())
    train = params.train.model_copy(update={"foreground_share": share})
    return BatchLoader(store, spec, Policy({}, size=16, channels=1), 8, 0, sampling_probabilities(store, train))


def drawn(loader: BatchLoader, epochs: int = 40) -> np.ndarray:
    """Return how often each row is drawn in some epochs."""
    rows = [batch.index_B for epoch in range(1, epochs + 1) for batch in loader.batches(epoch, CPU)]
    return np.bincount(np.concatenate(rows), minlength=len(loader.store))


def test_tiles_with_rare_labels_are_drawn_for_the_foreground_share(params: Params) -> None:
    rarer = {1: [3, 4, 5], 2: [5, 6]}
    count_N = drawn(mask_loader(0.5, rarer, params))
    assert count_N.sum() == 40 * 60
    without_N = np.ones(60, bool)
    without_N[3:7] = False
    assert count_N[without_N].sum() / 2400 == pytest.approx(0.5 * 56 / 60, abs=0.04)
    of_label = [count_N[rarer[label]].sum() / 2400 for label in (1, 2)]
    assert of_label == pytest.approx([0.25 + 0.25 / 2 + 0.5 * 3 / 60, 0.25 + 0.25 / 3 + 0.5 * 2 / 60], abs=0.04)
    assert drawn(mask_loader(0.0, rarer, params)).tolist() == [40] * 60, "without it, every tile once per epoch"
    assert drawn(mask_loader(1.0, rarer, params))[without_N].sum() == 0


def test_a_foreground_share_requires_tiles_with_a_second_label(params: Params) -> None:
    with pytest.raises(UserError, match=r"foreground_share: 0.5, but all 60 training tiles contain one label only"):
        mask_loader(0.5, {}, params)


def test_a_foreground_share_requires_masks(data: TrainingData, params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"foreground_share: 0.5 requires a label for each pixel, which representation"):
        digit_plan(data, params, tmp_path, foreground_share=0.5)


def test_paired_points_swap_in_a_mirrored_image() -> None:
    spec = TaskSpec("landmarks", "heatmap", "points", points=("a", "nose", "b"), flip_pairs=(("a", "b"),))
    assert flipped_points(spec) == [2, 1, 0]


@pytest.mark.parametrize("mixes", [{}, {"mixup": 0.4, "cutmix": 1.0}], ids=["alone", "mixed"])
def test_early_epochs_have_the_same_images_reduced(data: TrainingData, mixes: dict[str, Any]) -> None:
    whole = loader_of(data, 7, **CHANGES, **mixes)
    early = replace(whole, early_size=8, early_epochs=2)
    for epoch, size in ((1, 8), (2, 8), (3, 16)):
        pairs = list(zip(early.batches(epoch, CPU), whole.batches(epoch, CPU), strict=True))
        assert len(pairs) > 3
        for small, large in pairs:
            assert small.image_BCHW.shape == (len(large.index_B), 1, size, size)
            assert np.array_equal(small.index_B, large.index_B) and torch.equal(small.target, large.target)
            mean_B, expected_B = (batch.image_BCHW.mean(dim=(1, 2, 3)) for batch in (small, large))
            assert torch.allclose(mean_B, expected_B, atol=0.02), "the same image"
            assert size == 8 or torch.equal(small.image_BCHW, large.image_BCHW)
    (again, *_) = early.batches(2, CPU, first_step=3)
    assert torch.equal(again.image_BCHW, list(early.batches(2, CPU))[3].image_BCHW)
    assert torch.equal(next(early.at_full_size().batches(1, CPU)).image_BCHW, next(whole.batches(1, CPU)).image_BCHW)


@pytest.mark.parametrize("mixes", [{}, {"mixup": 0.4, "cutmix": 1.0}], ids=["alone", "mixed"])
def test_an_epoch_does_not_depend_on_the_batch_size(data: TrainingData, mixes: dict[str, Any]) -> None:
    small, large = (examples_of(loader_of(data, size, **CHANGES, **mixes)) for size in (3, 16))
    assert len(small) == len(data.train_set) and small.keys() == large.keys()
    for row, (image_CHW, target) in small.items():
        assert (image_CHW - large[row][0]).abs().max() < 1e-4
        assert torch.allclose(target.float(), large[row][1].float(), atol=1e-5)


def test_an_epoch_can_resume_at_any_step(data: TrainingData) -> None:
    loader = loader_of(data, 8, **CHANGES)
    whole, rest = list(loader.batches(1, CPU)), list(loader.batches(1, CPU, first_step=2))
    assert len(rest) == len(whole) - 2 > 0
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.image_BCHW, other.image_BCHW) and np.array_equal(one.index_B, other.index_B)


def test_micro_batches_of_all_processes_have_every_image_once(data: TrainingData) -> None:
    loader = replace(loader_of(data, 3), micro_batches=2)
    shares: list[list[Batch]] = [list(loader.batches(1, CPU, 0, slice(rank, None, 2))) for rank in (0, 1)]
    assert [len(share) for share in shares] == [loader.steps, loader.steps] == [7, 7]
    rows = np.concatenate([batch.index_B for share in shares for batch in share])
    assert sorted(rows) == list(range(len(data.train_set)))


def test_targets_of_mixed_images_are_class_proportions(data: TrainingData) -> None:
    (batch, *_) = loader_of(data, 40, mixup={"alpha": 1.0, "chance": 1.0}).batches(1, CPU)
    unmixed = examples_of(loader_of(data, 40))
    share_BK = batch.target
    assert torch.allclose(share_BK.sum(dim=1), torch.ones(len(share_BK)))
    own_B = torch.tensor([unmixed[int(row)][1] for row in batch.index_B])
    own_share_B = share_BK.gather(1, own_B[:, None])[:, 0]
    assert own_share_B.min() >= 0.5 and (own_share_B < 0.95).any()
    image_BCHW = torch.stack([unmixed[int(row)][0] for row in batch.index_B])
    assert ((image_BCHW - batch.image_BCHW).abs().flatten(1).amax(1) > 0).float().mean() > 0.8
    context = LossContext(data.spec, torch.tensor([3.0, 0.2, 1.0, 0.5]), torch.ones(4), 0.1)
    raw_BK = torch.randn((len(share_BK), 4), generator=torch.Generator().manual_seed(0))
    one_hot_BK = torch.nn.functional.one_hot(own_B, 4).float()
    for name in ("cross_entropy", "focal"):
        loss = LOSSES["class"][name](context)
        assert torch.allclose(loss(raw_BK, one_hot_BK), loss(raw_BK, own_B), rtol=1e-5)
        assert torch.isfinite(loss(raw_BK, share_BK)).all()


def test_augmenting_a_batch_allocates_at_most_a_few_copies() -> None:
    from torch.profiler import profile

    policy = Policy({**CHANGES, "saturation": 0.2, "hue": 10, "flip_horizontal": True}, size=96, channels=3)
    image_BHWC = torch.zeros((32, 96, 96, 3), dtype=torch.uint8)
    draws = BatchRandom(0, 0, np.arange(32))
    policy(scale(image_BHWC, 255), draws)  # allocates the noise bank, which later calls reuse
    with profile(profile_memory=True) as profiled:
        policy(scale(image_BHWC, 255), draws)
    allocated = peak = 0
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events
    for event in events:
        allocated += event.nbytes()
        peak = max(peak, allocated)
    assert peak < 4.5 * 4 * image_BHWC.numel(), "copies of the batch as floats"


@pytest.mark.parametrize("weights", ["none", "sampled"])
def test_the_contact_sheet_shows_the_first_images_of_training(
    folders: tuple[Path, Path], data: TrainingData, params: Params, tmp_path: Path, weights: str
) -> None:
    from stages.augment import SHEET_IMAGES, main

    train = params.train.model_copy(update={"batch_size": 16, "device": "cpu", "class_weights": weights})
    call(main, [folders[1], tmp_path / "out"], {"augment": params.augment, "train": train})
    store = open_split(folders[1], "train")
    policy_of_params, probability_N = build_policy(params.augment, store)[0], sampling_probabilities(store, train)
    assert (probability_N is None) == (weights == "none")
    loader = BatchLoader(store, data.spec, policy_of_params, 16, train.seed, probability_N)
    batches = list(loader.batches(1, CPU))
    assert len(batches[0].index_B) < SHEET_IMAGES < len(data.train_set)
    images = [draw_example(batch, i, data.spec, DrawnLevels()) for batch in batches for i in range(len(batch.index_B))]
    labels = data.train_set.rows["label"].iloc[np.concatenate([batch.index_B for batch in batches])]
    expected = contact_sheet(images[:SHEET_IMAGES], labels.tolist()[:SHEET_IMAGES])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sheet.png")), np.asarray(expected))
    policy = json.loads((tmp_path / "out" / "policy.json").read_text())
    assert policy["done"]["rotation"] == {"degrees": 10.0} and policy["outside"] == "zeros"
    assert (
        policy["why"]["flip_horizontal"] == "the class names are single characters, as of images of digits or letters"
    )
    variants = np.asarray(Image.open(tmp_path / "out" / "variants.png"))
    assert variants.shape[1] == np.asarray(expected).shape[1] and len(np.unique(variants)) > 50
