"""What training sees and does, before anything long is trained."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.augmentations import Policy
from stages.augmentations.augmentation_interface import Augmentation, always
from stages.augmentations.similarity import Flip
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.pixel_store import open_split
from stages.images.contact_sheet import contact_sheet
from stages.networks.heads import HEADS
from stages.preprocessing.resize import fitted, resize, scale
from stages.tasks import TASKS
from stages.tasks.representations import loss_of
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Feed, plain_batches, swaps
from stages.training.batch_preview import drawn
from stages.training.devices import fabric_on
from stages.training.loop import fit
from stages.training.losses import LOSSES, Setting
from stages.training.model_file import load, save
from stages.training.network_inference import answers
from stages.training.training_plan import Material, Plan, material, plan, policy_of
from stages.training.training_progress import Epoch
from tests.conftest import digit_images, prepare_digits

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    images = digit_images(per_class=20, classes=4)
    folder = tmp_path_factory.mktemp("digits")
    return prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16)


@pytest.fixture(scope="module")
def given(folders: tuple[Path, Path]) -> Material:
    return material(*folders)


@pytest.fixture
def planned(given: Material, params: Params, tmp_path: Path) -> Callable[..., Plan]:
    def make(**train: Any) -> Plan:
        settings = params.train.model_copy(update={"epochs": 2, "batch_size": 16, "device": "cpu"} | train)
        sections = {"task": params.task, "augment": params.augment, "network": params.network, "train": settings}
        return plan(given, sections, tmp_path)

    return make


def silent(epoch: Epoch) -> None:
    pass


@pytest.mark.parametrize("shape", [(8, 8, 1), (31, 57, 3), (200, 150, 3), (90, 400, 1)])
def test_resize_is_pillow_s_antialiased_bilinear_within_one_grey_level(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ours = resize(torch.from_numpy(image)[None], 32, 32)[0].numpy()
    pillow = Image.fromarray(image.squeeze()).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(ours.squeeze().astype(int) - np.asarray(pillow).astype(int)).max() <= 1


@pytest.mark.parametrize("side", [8, 14, 28, 45])
def test_the_exported_resize_rounds_as_torch_does(side: int, tmp_path: Path) -> None:
    import onnxruntime
    from torch.export import Dim

    class Resize(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return resize(image, 64, 64)

    example = torch.zeros((2, 40, 50, 1), dtype=torch.uint8)
    sizes = {0: Dim("N", min=1, max=64), 1: Dim("H", min=1, max=99), 2: Dim("W", min=1, max=99)}
    torch.onnx.export(
        Resize().eval(), (example,), str(tmp_path / "resize.onnx"), input_names=["image"], dynamic_shapes=(sizes,),
        opset_version=20, dynamo=True, verbose=False,
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (20, side, side, 1), dtype=np.uint8)
    (by_onnx,) = onnxruntime.InferenceSession(tmp_path / "resize.onnx").run(None, {"image": image})
    by_torch = resize(torch.from_numpy(image), 64, 64).numpy()
    assert (by_onnx != by_torch).mean() < 5e-5  # 1e-3 of 28 pixels when exact halves are left to chance


def test_an_image_of_the_working_size_is_not_touched() -> None:
    image = torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8)
    assert torch.equal(resize(image, 24, 24), image)


def test_divide_by_255_is_all_there_is() -> None:
    image = torch.tensor([[[[0], [51]], [[102], [255]]]], dtype=torch.uint8)
    assert torch.allclose(scale(image), torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]]))


@pytest.mark.parametrize("fit_", ["stretch", "letterbox"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (31, 57, 3), (200, 150, 3), (7, 400, 1)])
def test_the_working_image_is_as_the_frames_say(shape: tuple[int, int, int], fit_: str) -> None:
    from stages.images.geometry import placements

    image = np.full(shape, 200, np.uint8)
    working = fitted(torch.from_numpy(image)[None], fit_, 48)[0].numpy()
    (frame,) = placements(*shape[:2], fit_, 48, 0.0)
    assert working.shape == (48, 48, shape[2])
    assert (working[: frame.inner_height, : frame.inner_width] == 200).all()
    assert (working != 0).all(axis=2).sum() == frame.inner_height * frame.inner_width


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own(given: Material) -> None:
    feed = Feed(given.train_set, given.spec, Policy({}, size=16, channels=1), 7, 0)
    seen = [torch.cat([b.image_BCHW.flatten(1) for b in feed.batches(epoch, CPU)]) for epoch in (1, 2)]
    plain = plain_batches(given.train_set, given.spec, 7, CPU)
    everything = torch.cat([b.image_BCHW.flatten(1) for b in plain])
    assert not torch.equal(seen[0], seen[1])
    for epoch in seen:
        assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, everything.tolist()))


def test_sampled_batches_show_each_class_as_often_as_any_other(given: Material, planned: Callable[..., Plan]) -> None:
    rare = np.asarray(given.train_set.target) != 0
    rare[np.flatnonzero(~rare)[:2]] = True  # two of class 0, ten of the others
    share_N = planned(class_weights="sampled").feed.share_N
    assert share_N is not None and share_N.sum() == pytest.approx(1)
    by_class = np.bincount(np.asarray(given.train_set.target), share_N)
    assert np.allclose(by_class, 1 / len(by_class))


def test_points_that_form_pairs_take_each_other_s_place() -> None:
    spec = TaskSpec("landmarks", "heatmap", "points", points=("a", "nose", "b"), flip_pairs=(("a", "b"),))
    assert swaps(spec) == [2, 1, 0]


def feed_of(given: Material, batch_size: int, **amounts: Any) -> Feed:
    return Feed(given.train_set, given.spec, Policy(amounts, size=16, channels=1), batch_size, 0)


def epoch_of(feed: Feed, first: int = 0) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Image and target by row of the store."""
    seen = {}
    for batch in feed.batches(1, CPU, first):
        seen |= {int(row): (batch.image_BCHW[i], batch.target[i]) for i, row in enumerate(batch.index_B)}
    return seen


CHANGES = {"rotation": 20, "elastic": {"amplitude": 1, "wavelength": 16}, "brightness": 0.1, "noise": 0.05}


@pytest.mark.parametrize("mixes", [{}, {"mixup": 0.4, "cutmix": 1.0}], ids=["alone", "mixed"])
def test_an_epoch_is_the_same_in_batches_of_any_size(given: Material, mixes: dict[str, Any]) -> None:
    small, large = (epoch_of(feed_of(given, size, **CHANGES, **mixes)) for size in (3, 16))
    assert len(small) == len(given.train_set) and small.keys() == large.keys()
    for row, (image_CHW, target) in small.items():
        assert (image_CHW - large[row][0]).abs().max() < 1e-4
        assert torch.allclose(target.float(), large[row][1].float(), atol=1e-5)


def test_an_epoch_can_be_taken_up_in_the_middle(given: Material) -> None:
    feed = feed_of(given, 8, **CHANGES)
    whole, rest = list(feed.batches(1, CPU)), list(feed.batches(1, CPU, first=2))
    assert len(rest) == len(whole) - 2 > 0
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.image_BCHW, other.image_BCHW) and np.array_equal(one.index_B, other.index_B)


def test_mixed_images_are_taught_as_the_shares_of_their_classes(given: Material) -> None:
    (batch, *_) = feed_of(given, 40, mixup={"alpha": 1.0, "chance": 1.0}).batches(1, CPU)
    plain = epoch_of(feed_of(given, 40))
    share_BK = batch.target
    assert torch.allclose(share_BK.sum(dim=1), torch.ones(len(share_BK)))
    own_B = torch.tensor([plain[int(row)][1] for row in batch.index_B])
    kept_B = share_BK.gather(1, own_B[:, None])[:, 0]
    assert kept_B.min() >= 0.5 and (kept_B < 0.95).any()
    far_B = torch.stack([plain[int(row)][0] for row in batch.index_B]).sub(batch.image_BCHW).abs().flatten(1).amax(1)
    assert (far_B > 0).float().mean() > 0.8
    setting = Setting(given.spec, torch.tensor([3.0, 0.2, 1.0, 0.5]), 0.1)
    raw_BK = torch.randn((len(share_BK), 4), generator=torch.Generator().manual_seed(0))
    for loss in (LOSSES["class"]["cross_entropy"], LOSSES["class"]["focal"]):
        plain_index = torch.nn.functional.one_hot(own_B, 4).float()
        assert float(loss(raw_BK, plain_index, setting)) == pytest.approx(float(loss(raw_BK, own_B, setting)), rel=1e-5)
        assert torch.isfinite(loss(raw_BK, share_BK, setting))


def test_changing_a_batch_takes_no_more_than_a_few_copies_of_it() -> None:
    from torch.profiler import profile

    from stages.augmentations import Draws

    policy = Policy({**CHANGES, "saturation": 0.2, "hue": 10, "flip_horizontal": True}, size=96, channels=3)
    image_BHWC = torch.zeros((32, 96, 96, 3), dtype=torch.uint8)
    policy(scale(image_BHWC), Draws(0, 0, np.arange(32)))  # the bank of noise is made once
    with profile(profile_memory=True) as watched:
        policy(scale(image_BHWC), Draws(0, 0, np.arange(32)))
    held = peak = 0
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events
    for event in events:
        held += event.nbytes()
        peak = max(peak, held)
    assert peak < 4.5 * 4 * image_BHWC.numel(), "copies of the batch as floats"


def test_the_contact_sheet_shows_the_first_images_of_training(
    folders: tuple[Path, Path], params: Params, tmp_path: Path
) -> None:
    from stages.augment import SHOWN, main
    from stages.runner.stage import call

    train = params.train.model_copy(update={"batch_size": 16, "device": "cpu"})
    call(main, [folders[1], tmp_path / "out"], {"augment": params.augment, "train": train})
    given = material(*folders)
    store = open_split(folders[1], "train")
    feed = Feed(store, given.spec, policy_of(params.augment, store)[0], 16, train.seed)
    batches = list(feed.batches(1, CPU))
    assert len(batches[0].index_B) < SHOWN < len(given.train_set)
    images = [drawn(batch, i, given.spec) for batch in batches for i in range(len(batch.index_B))]
    labels = given.train_set.rows["label"].iloc[np.concatenate([batch.index_B for batch in batches])]
    expected = contact_sheet(images[:SHOWN], labels.tolist()[:SHOWN])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sheet.png")), np.asarray(expected))
    policy = json.loads((tmp_path / "out" / "policy.json").read_text())
    assert policy["done"]["rotation"] == {"degrees": 10.0} and policy["outside"] == "zeros"
    assert policy["why"]["flip_horizontal"] == "the classes are signs"
    variants = np.asarray(Image.open(tmp_path / "out" / "variants.png"))
    assert variants.shape[1] == np.asarray(expected).shape[1] and len(np.unique(variants)) > 50


def test_same_seed_same_weights_and_another_seed_others(planned: Callable[..., Plan]) -> None:
    first, again, other = (fit(planned(seed=seed), silent).weights for seed in (0, 0, 1))
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_best_epoch_is_kept(planned: Callable[..., Plan], given: Material, tmp_path: Path) -> None:
    one = planned(epochs=4, learning_rate=0.01)
    heard: list[Epoch] = []
    fitted = fit(one, heard.append)
    assert heard == fitted.epochs and len(heard) == 4
    assert fitted.best.val_score == max(epoch.val_score for epoch in heard)
    save(tmp_path / "m.pt", one.network_config, fitted.weights, {**given.spec.as_json(), "note": "x"})
    network, spec, about = load(tmp_path / "m.pt")
    assert spec == given.spec and about["note"] == "x"
    answered = answers(network, given.val_set, spec, 16, CPU)
    scores = TASKS[spec.task].scores(given.val_truths, answered, np.ones((1, len(answered))), spec)
    assert scores[one.score][0] == pytest.approx(fitted.best.val_score)


def test_a_network_can_learn_a_few_images_by_heart(planned: Callable[..., Plan]) -> None:
    fitted = fit(planned(epochs=20, label_smoothing=0.0, learning_rate=0.003), silent)
    assert fitted.epochs[-1].train_loss < 0.5 * fitted.epochs[0].train_loss
    assert fitted.epochs[-1].train_score > 0.9


def test_balanced_weights_count_every_class_the_same(planned: Callable[..., Plan]) -> None:
    from stages.training.trainer_state import _class_weights

    one = planned(class_weights="balanced")
    counts = np.bincount(np.asarray(one.material.train_set.target))
    assert np.allclose(_class_weights(one).numpy() * counts, counts.sum() / len(counts))


def test_a_loss_that_is_no_number_stops_with_what_to_turn(planned: Callable[..., Plan]) -> None:
    broken = planned()
    spoilt = Augmentation(Flip, always(Flip()), pixels=lambda amounts, stream, image: image * torch.nan)
    broken.feed.policy.amounts["spoilt"] = Flip()
    broken.feed.policy.members.append(("spoilt", spoilt))
    with pytest.raises(UserError, match=r"epoch 1, step 1: the training loss is nan; lower train.learning_rate"):
        fit(broken, silent)


def test_the_network_gets_its_images_unrounded_in_mixed_precision() -> None:
    layer = torch.nn.Conv2d(1, 1, 1)
    model = fabric_on("cpu", "bf16-mixed").setup(layer)
    given: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    computed: list[torch.Tensor] = []
    layer.register_forward_hook(lambda _, arguments, answer: computed.append(answer))
    grey = 40_000 / 65_535
    model(torch.full((1, 1, 4, 4), grey))
    assert float(given[0][0, 0, 0, 0]) == pytest.approx(grey, rel=1e-7)
    assert computed[0].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["heatmap", "disc"])
def test_what_looks_like_the_point_elsewhere_does_not_draw_it_away(name: str) -> None:
    raw_BPHW = torch.full((1, 1, 32, 32), -6.0)
    raw_BPHW[0, 0, 6:11, 4:9], raw_BPHW[0, 0, 20:23, 26:29] = 4.0, 4.1
    raw_BPHW[0, 0, 8, 6] = 4.2
    about = TaskSpec("landmarks", name, "points", points=("a",), size=32, radius=2.0)
    assert HEADS[name](raw_BPHW, 32, 32, about)[0, 0, :2].tolist() == pytest.approx([6, 8], abs=0.1)


@pytest.mark.parametrize("name", ["heatmap", "disc"])
def test_a_map_in_the_wrong_place_costs_more_than_none_and_the_right_one_least(name: str) -> None:
    about = TaskSpec("landmarks", name, "points", points=("a", "b"), radius=2.0)
    setting = Setting(about, torch.ones(1), 0.0)
    xy_BP2 = torch.tensor([[[8.0, 8.0], [24.0, 24.0]]])

    def cost(places: list[tuple[int, int]]) -> float:
        raw_BPHW = torch.full((1, 2, 32, 32), -4.0)
        for point, (x, y) in enumerate(places):
            raw_BPHW[0, point, y - 2 : y + 3, x - 2 : x + 3] = 4.0
        return loss(raw_BPHW)

    def loss(raw_BPHW: torch.Tensor) -> float:
        return float(LOSSES[name][loss_of(name, "auto")](raw_BPHW, xy_BP2, setting))

    right, both_at_one, swapped = cost([(8, 8), (24, 24)]), cost([(8, 8), (8, 8)]), cost([(24, 24), (8, 8)])
    nowhere = loss(torch.full((1, 2, 32, 32), -4.0))
    assert right < min(nowhere, both_at_one) and max(nowhere, both_at_one) < swapped
    assert name == "disc" or nowhere < both_at_one


def test_a_missing_point_is_taught_as_nothing_anywhere() -> None:
    about = TaskSpec("landmarks", "heatmap", "points", points=("a",), radius=2.0)
    setting, missing_BP2 = Setting(about, torch.ones(1), 0.0), torch.full((1, 1, 2), torch.nan)
    raw_BPHW = torch.zeros((1, 1, 16, 16), requires_grad=True)
    LOSSES["heatmap"]["location_cross_entropy"](raw_BPHW, missing_BP2, setting).backward()
    assert raw_BPHW.grad is not None and bool((raw_BPHW.grad > 0).all())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that must be missing")
def test_a_device_that_is_not_there_is_named(planned: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match="train.device: cuda is not on this machine; use auto or cpu"):
        fit(planned(device="cuda"), silent)


@pytest.mark.parametrize(
    ("section", "change", "says"),
    [
        (
            "network",
            {"name": "unet"},
            "unet gives an answer a pixel; representation class of task classification needs",
        ),
        ("network", {"name": "resnet81"}, "did you mean `resnet18`"),
        ("train", {"loss": "huber"}, "train.loss: huber is not for representation class; known: cross_entropy, focal"),
        ("network", {"weights": "/elsewhere/w.pth"}, "network.weights: '/elsewhere/w.pth' is no file of"),
        ("augment", {"amounts": {"hue": 10}}, "augment.amounts.hue: 10: the images have 1 channel(s), not 3"),
        ("task", {"score": "psnr"}, "task.score: psnr is no score of task classification; known: balanced_accuracy"),
    ],
)
def test_params_that_do_not_go_together_are_named(
    given: Material, params: Params, tmp_path: Path, section: str, change: dict[str, Any], says: str
) -> None:
    sections = {name: getattr(params, name) for name in ("task", "augment", "network", "train")}
    sections[section] = sections[section].model_copy(update=change)
    with pytest.raises(UserError, match=re.escape(says)):
        plan(given, sections, tmp_path)


def test_pretrained_weights_stay_as_they_are_while_frozen_and_learn_at_a_rate_of_their_own(
    planned: Callable[..., Plan], given: Material, params: Params, tmp_path: Path
) -> None:
    first = planned(epochs=1)
    save(tmp_path / "first.pt", first.network_config, fit(first, silent).weights, given.spec.as_json())
    start = torch.load(tmp_path / "first.pt", weights_only=True)["weights"]

    def after(**network: Any) -> dict[str, torch.Tensor]:
        sections = {"task": params.task, "augment": params.augment}
        sections["train"] = params.train.model_copy(update={"epochs": 1, "batch_size": 16, "device": "cpu"})
        sections["network"] = params.network.model_copy(update={"weights": "first.pt"} | network)
        return fit(plan(given, sections, tmp_path), silent).weights

    def moved(weights: dict[str, torch.Tensor]) -> float:
        names = [name for name in start if name.endswith("weight") and ".fc." not in name]
        return max(float((weights[name] - start[name]).abs().max()) for name in names)

    assert moved(after(frozen_epochs=1)) == 0
    slow, fast = moved(after(pretrained_lr_factor=0.01)), moved(after(pretrained_lr_factor=1.0))
    assert 0 < slow < fast / 5
