"""What training sees and does, before anything long is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.augmentations import Policy
from stages.frame import UserError
from stages.frame.sections import Params
from stages.images.sheet import contact_sheet
from stages.images.store import Store, open_split, write_split
from stages.learning.batches import training_batches, validation_batches
from stages.learning.checkpoints import load, save
from stages.learning.loop import Epoch, fit, predict
from stages.learning.plan import Plan, plan
from stages.networks import NETWORKS
from stages.networks.preprocessing import resize, scale
from tests.conftest import digit_images

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    import pandas as pd

    folder = tmp_path_factory.mktemp("prepared")
    images = digit_images(per_class=20, classes=4)
    about = {"name": "d", "version": "v", "labels": ["0", "1", "2", "3"], "size": 16, "channels": 1}
    for split, part in {"train": images[::2], "val": images[1::2]}.items():
        rows = pd.DataFrame({"path": [f"{split}/{i}" for i in range(len(part))], "label": [p[0] for p in part]})
        pixels = (resize(torch.from_numpy(image)[None, :, :, None], 16)[0].numpy() for _, image in part)
        write_split(folder, split, pixels, rows.assign(group=rows["path"]), about)
    return open_split(folder, "train"), open_split(folder, "val")


@pytest.fixture
def planned(stores: tuple[Store, Store], params: Params) -> Callable[..., Plan]:
    def make(**train: Any) -> Plan:
        settings = params.train.model_copy(update={"epochs": 2, "batch_size": 16, "device": "cpu"} | train)
        sections = {"task": params.task, "augment": params.augment, "network": params.network, "train": settings}
        return plan(*stores, sections)

    return make


def silent(epoch: Epoch) -> None:
    pass


@pytest.mark.parametrize("shape", [(8, 8, 1), (31, 57, 3), (200, 150, 3), (90, 400, 1)])
def test_resize_is_pillow_s_antialiased_bilinear_within_one_grey_level(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ours = resize(torch.from_numpy(image)[None], 32)[0].numpy()
    pillow = Image.fromarray(image.squeeze()).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(ours.squeeze().astype(int) - np.asarray(pillow).astype(int)).max() <= 1


@pytest.mark.parametrize("side", [8, 14, 28, 45])
def test_the_exported_resize_rounds_as_torch_does(side: int, tmp_path: Path) -> None:
    import onnxruntime

    from stages.export import to_onnx

    class Resize(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return resize(image, 64)

    to_onnx(Resize(), 1, tmp_path / "resize.onnx")
    image = np.random.default_rng(0).integers(0, 256, (20, side, side, 1), dtype=np.uint8)
    (by_onnx,) = onnxruntime.InferenceSession(tmp_path / "resize.onnx").run(None, {"image": image})
    by_torch = resize(torch.from_numpy(image), 64).numpy()
    assert (by_onnx != by_torch).mean() < 5e-5  # 1e-3 of 28 pixels when exact halves are left to chance


def test_an_image_of_the_working_size_is_not_touched() -> None:
    image = torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8)
    assert torch.equal(resize(image, 24), image)


def test_divide_by_255_is_all_there_is() -> None:
    image = torch.tensor([[[[0], [51]], [[102], [255]]]], dtype=torch.uint8)
    assert torch.allclose(scale(image), torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]]))


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own(stores: tuple[Store, Store]) -> None:
    nothing = Policy(
        rotation=0, translation=0, scale=0, outside="zeros", flip_horizontal=False, flip_vertical=False,
        brightness=0, contrast=0, noise=0,
    )  # fmt: skip
    seen = [
        torch.cat([image.flatten(1) for image, _ in training_batches(stores[0], 7, nothing, 0, epoch, CPU)])
        for epoch in (1, 2)
    ]
    everything = torch.cat([image.flatten(1) for image, _ in validation_batches(stores[0], 7, CPU)])
    assert not torch.equal(seen[0], seen[1])
    for epoch in seen:
        assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, everything.tolist()))


def test_augmentation_depends_on_the_seed_alone_and_leaves_the_generators(params: Params) -> None:
    policy = Policy(**params.augment.model_dump())
    image = torch.rand(4, 1, 16, 16)
    torch.manual_seed(1)
    first = policy(image, seed=5)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn), "the global generator went on as if nothing had been drawn"
    torch.manual_seed(99)
    assert torch.equal(policy(image, seed=5), first)
    assert not torch.equal(policy(image, seed=6), first)
    assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "change",
    ["rotation", "translation", "scale", "flip_horizontal", "flip_vertical", "brightness", "contrast", "noise"],
)
def test_every_augmentation_changes_the_images_of_any_channels(params: Params, change: str, channels: int) -> None:
    amounts = dict.fromkeys(params.augment.model_dump(), 0) | {"outside": "zeros"}
    image = torch.rand(8, channels, 16, 16) * 0.5 + 0.25
    assert torch.equal(Policy(**amounts)(image, 0), image)
    amounts[change] = 30 if change == "rotation" else True if change.startswith("flip") else 0.2
    changed = Policy(**amounts)(image, 0)
    assert changed.shape == image.shape and not torch.equal(changed, image)


def test_the_contact_sheet_shows_the_first_batch_of_training(
    stores: tuple[Store, Store], params: Params, tmp_path: Path
) -> None:
    from stages.augment import main
    from stages.frame.stage import call

    train = params.train.model_copy(update={"batch_size": 16, "device": "cpu"})
    call(
        main,
        [Path(stores[0].image_NHWC.filename).parent, tmp_path / "out"],
        {"augment": params.augment, "train": train},
    )
    policy = Policy(**params.augment.model_dump())
    image_BCHW, label_B = next(training_batches(stores[0], 16, policy, train.seed, 1, CPU))
    images = list((image_BCHW.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy())
    expected = contact_sheet(images, [stores[0].labels[label] for label in label_B.tolist()])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sheet.png")), np.asarray(expected))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_gives_one_logit_per_class(name: str, channels: int) -> None:
    network = NETWORKS[name](channels, 7, 0.5)
    assert network(torch.rand(2, channels, 32, 40)).shape == (2, 7)


def test_same_seed_same_weights_and_another_seed_others(planned: Callable[..., Plan]) -> None:
    first, again, other = (fit(planned(seed=seed), silent).weights for seed in (0, 0, 1))
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_best_epoch_is_kept(planned: Callable[..., Plan], tmp_path: Path) -> None:
    one = planned(epochs=4, learning_rate=0.01)
    heard: list[Epoch] = []
    fitted = fit(one, heard.append)
    assert heard == fitted.epochs and len(heard) == 4
    assert fitted.best.val_score == max(epoch.val_score for epoch in heard)
    save(tmp_path / "m.pt", one.recipe, fitted.weights, {"note": "x"})
    network, about = load(tmp_path / "m.pt")
    probability_NK = predict(network, one.val_set, 16, CPU)
    from stages.tasks.classification import score

    assert score(one.task.score, one.val_set.label_N, probability_NK) == pytest.approx(fitted.best.val_score)
    assert about == {"note": "x"}


def test_a_network_can_learn_a_few_images_by_heart(planned: Callable[..., Plan]) -> None:
    fitted = fit(planned(epochs=12, label_smoothing=0.0, learning_rate=0.003), silent)
    assert fitted.epochs[-1].train_loss < 0.5 * fitted.epochs[0].train_loss
    assert fitted.epochs[-1].train_score > 0.9


def test_balanced_weights_count_every_class_the_same(planned: Callable[..., Plan]) -> None:
    from stages.learning.loop import _class_weights

    one = planned(class_weights="balanced")
    counts = np.bincount(one.train_set.label_N)
    assert np.allclose(_class_weights(one).numpy() * counts, len(one.train_set) / len(counts))


def test_a_loss_that_is_no_number_stops_with_what_to_turn(planned: Callable[..., Plan]) -> None:
    broken = planned()
    broken.policy.chain = torch.nn.Sequential(torch.nn.Hardshrink(), _NotANumber())
    with pytest.raises(UserError, match=r"epoch 1: the training loss is nan; lower train.learning_rate"):
        fit(broken, silent)


class _NotANumber(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * float("nan")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that must be missing")
def test_a_device_that_is_not_there_is_named(planned: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match="train.device: cuda is not on this machine; use auto or cpu"):
        fit(planned(device="cuda"), silent)
