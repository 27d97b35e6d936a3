"""Behaviour that a trained model must show besides its score, on real digits; trained once for all tests here."""

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

Answers = tuple[np.ndarray, np.ndarray]


class Trained:
    """A network trained on 800 digits, as it ships, and 400 digits that it has not seen."""

    def __init__(self, folder: Path) -> None:
        params = load(ROOT / "params.yaml")
        images = digit_images(per_class=120)
        held = [i % 3 == 2 for i in range(len(images))]
        self.unseen = [image for (_, image), h in zip(images, held, strict=True) if h]
        self.label_N = np.array([int(label) for (label, _), h in zip(images, held, strict=True) if h])
        parts = {
            split: [item for item, h in zip(images, held, strict=True) if h == wanted]
            for split, wanted in {"train": False, "val": True}.items()
        }
        data = load_training_data(*prepare_digits(folder, parts, size=24))
        train = params.train.model_copy(update={"epochs": 8, "device": "cpu"})
        sections = {"task": params.task, "augment": params.augment, "network": params.network, "train": train}
        plan = resolve_auto(build_plan(data, sections, Path("data/weights"))).plan
        result = fit(plan, lambda epoch: None)
        self.network, self.spec = build(plan.network_config).eval(), data.spec
        self.network.load_state_dict(result.weights)
        self.shipped = ExportedModel(self.network, data.spec).eval()

    def answers(self, images: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            image_NHWC = torch.from_numpy(np.stack(images))[..., None]
            return self.shipped(image_NHWC).argmax(dim=1).numpy()

    def recall_of(self, images: list[np.ndarray]) -> float:
        return float((self.answers(images) == self.label_N).mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def test_it_reads_digits_that_it_has_not_seen(trained: Trained) -> None:
    assert trained.recall_of(trained.unseen) > 0.93


def test_it_reads_them_at_four_times_the_size(trained: Trained) -> None:
    larger = [np.kron(image, np.ones((4, 4), np.uint8)) for image in trained.unseen]
    assert trained.recall_of(larger) > 0.85


def test_a_little_light_or_noise_changes_few_answers(trained: Trained) -> None:
    plain = trained.answers(trained.unseen)
    rng = np.random.default_rng(0)
    for change in (
        [np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8) for image in trained.unseen],
        [(image * 0.92).astype(np.uint8) for image in trained.unseen],
        [np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8) for image in trained.unseen],
    ):
        assert (trained.answers(change) == plain).mean() > 0.93


def test_it_does_not_read_a_digit_upside_down_as_well(trained: Trained) -> None:
    asymmetric = np.isin(trained.label_N, [2, 3, 4, 5, 7])
    upside_down = [image[::-1].copy() for image in trained.unseen]
    assert (trained.answers(upside_down) == trained.label_N)[asymmetric].mean() < 0.6


def test_less_of_the_digit_makes_it_less_sure(trained: Trained) -> None:
    def confidence(images: list[np.ndarray]) -> float:
        with torch.inference_mode():
            return float(trained.shipped(torch.from_numpy(np.stack(images))[..., None]).amax(dim=1).mean())

    covered = [np.where(np.arange(8)[:, None] < 4, image, 0).astype(np.uint8) for image in trained.unseen]
    assert confidence(covered) < confidence(trained.unseen) - 0.1


def test_the_onnx_file_gives_the_same_answers(trained: Trained, tmp_path: Path) -> None:
    import onnxruntime

    to_onnx(trained.network, trained.spec, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (probability_NK,) = session.run(None, {"image": np.stack(trained.unseen)[..., None]})
    assert np.array_equal(probability_NK.argmax(axis=1), trained.answers(trained.unseen))
