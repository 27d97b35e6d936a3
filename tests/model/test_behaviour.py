"""Tests of the behaviour of a model trained on real digits; it is trained once for all tests of this file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.config.load import load
from stages.export import ExportedModel, to_onnx
from stages.networks import build
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.training_plan import build_plan, load_training_data
from tests.conftest import ROOT, digit_images, prepare_digits


class Trained:
    """Network trained on 800 digits with the default params, its exported form, and 400 unseen digits."""

    def __init__(self, folder: Path) -> None:
        params = load(ROOT / "params.yaml")
        images = digit_images(per_class=120)
        held_out = [i % 3 == 2 for i in range(len(images))]
        self.unseen = [image for (_, image), unseen in zip(images, held_out, strict=True) if unseen]
        self.label_N = np.array([int(label) for (label, _), unseen in zip(images, held_out, strict=True) if unseen])
        parts = {
            split: [item for item, unseen in zip(images, held_out, strict=True) if unseen == validation]
            for split, validation in {"train": False, "val": True}.items()
        }
        data = load_training_data(*prepare_digits(folder, parts, size=24))
        train = params.train.model_copy(update={"epochs": 8, "device": "cpu"})
        sections = {"task": params.task, "augment": params.augment, "network": params.network, "train": train}
        plan = resolve_auto(build_plan(data, sections, Path("data/weights"))).plan
        result = fit(plan, lambda epoch: None)
        self.network, self.spec = build(plan.network_config).eval(), data.spec
        self.network.load_state_dict(result.weights)
        self.shipped = ExportedModel(self.network, data.spec).eval()

    def predict(self, images: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            image_NHWC = torch.from_numpy(np.stack(images))[..., None]
            return self.shipped(image_NHWC).argmax(dim=1).numpy()

    def accuracy(self, images: list[np.ndarray]) -> float:
        return float((self.predict(images) == self.label_N).mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def test_unseen_digits_are_classified_correctly(trained: Trained) -> None:
    assert trained.accuracy(trained.unseen) > 0.93


def test_digits_at_four_times_the_size_are_classified_correctly(trained: Trained) -> None:
    larger = [np.kron(image, np.ones((4, 4), np.uint8)) for image in trained.unseen]
    assert trained.accuracy(larger) > 0.85


def test_small_brightness_changes_and_noise_alter_few_predictions(trained: Trained) -> None:
    predicted = trained.predict(trained.unseen)
    rng = np.random.default_rng(0)
    for changed in (
        [np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8) for image in trained.unseen],
        [(image * 0.92).astype(np.uint8) for image in trained.unseen],
        [np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8) for image in trained.unseen],
    ):
        assert (trained.predict(changed) == predicted).mean() > 0.93


def test_accuracy_drops_for_asymmetric_digits_upside_down(trained: Trained) -> None:
    asymmetric = np.isin(trained.label_N, [2, 3, 4, 5, 7])
    upside_down = [image[::-1].copy() for image in trained.unseen]
    assert (trained.predict(upside_down) == trained.label_N)[asymmetric].mean() < 0.6


def test_covering_half_of_the_digit_lowers_the_confidence(trained: Trained) -> None:
    def confidence(images: list[np.ndarray]) -> float:
        with torch.inference_mode():
            return float(trained.shipped(torch.from_numpy(np.stack(images))[..., None]).amax(dim=1).mean())

    covered = [np.where(np.arange(8)[:, None] < 4, image, 0).astype(np.uint8) for image in trained.unseen]
    assert confidence(covered) < confidence(trained.unseen) - 0.1


def test_the_onnx_file_gives_the_same_predictions(trained: Trained, tmp_path: Path) -> None:
    import onnxruntime

    to_onnx(trained.network, trained.spec, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (probability_NK,) = session.run(None, {"image": np.stack(trained.unseen)[..., None]})
    assert np.array_equal(probability_NK.argmax(axis=1), trained.predict(trained.unseen))
