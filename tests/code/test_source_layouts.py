"""Layouts of sources that `configure` has to tell apart by structure: masks beside images, stacks, several tables."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stages.config.load import load
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.importers import IMPORTERS, open_source
from stages.importers.format_detection import FormatCandidate, find_formats
from tests.command_line import macula
from tests.conftest import png

Files = dict[str, bytes]
HEIGHT, WIDTH = 24, 30


def grey(number: int) -> bytes:
    return png(np.random.default_rng(number).integers(60, 250, (HEIGHT, WIDTH), dtype=np.uint8))


def blob(number: int, row: int = 4) -> bytes:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[row : row + 4, 3 + number % 5 : 20] = 255
    return png(mask)


def detect(params: Params, files: Mapping[str, bytes | str]) -> list[FormatCandidate]:
    contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    return find_formats({path: partial(bytes, data) for path, data in contents.items()}, params.ingest)[0]


def beside(image: str, mask: str, *folders: str) -> Files:
    """Return eight images per folder, each with a mask."""
    files: Files = {}
    for place, folder in enumerate(folders):
        for number in range(8):
            names = {"folder": folder, "n": number, "type": ("jpg", "JPG", "jpeg")[number % 3]}
            files |= {image.format(**names): grey(10 * place + number), mask.format(**names): blob(number)}
    return files


@pytest.mark.parametrize(
    ("files", "inside", "images", "targets"),
    [
        (beside("{folder}/c{n}.jpg", "{folder}/c{n}.png", "crack"), "crack", "{key}.jpg", "{key}.png"),
        (beside("{folder}/c{n}.{type}", "{folder}/c{n}.png", "crack"), "crack", "{key}.*", "{key}.png"),
        (beside("{folder}/{n}.jpg", "{folder}/{n}.png", "crack", "rust"), "", "{folder}/{key}.jpg",
         "{folder}/{key}.png"),
        (beside("{folder}/{n}.{type}", "{folder}/{n}.png", "crack", "rust"), "", "{folder}/{key}.*",
         "{folder}/{key}.png"),
        (beside("{folder}/{n}.png", "{folder}/{n}_mask.png", "a", "b", "c"), "", "{folder}/{key}.png",
         "{folder}/{key}_mask.png"),
        (beside("d/{folder}/{n}.jpg", "d/{folder}/{n}.png", "train/a", "train/b", "val/a", "val/b"),
         "d", "{part}/{folder}/{key}.jpg", "{part}/{folder}/{key}.png"),
    ],
)  # fmt: skip
def test_masks_beside_images_are_masks_and_no_images_of_a_class(
    files: Files, inside: str, images: str, targets: str, params: Params
) -> None:
    best, *rivals = detect(params, files)
    found = best.format, best.inside, best.changes["images"], best.changes["targets"]
    assert found == ("masks", inside, images, targets)
    assert len(best.samples) == len(files) / 2 and not best.rejected
    of_images = {f"{inside}/{sample.path}" for sample in best.samples}
    of_classes = [rival for rival in rivals if rival.format == "folders"]
    assert len(of_classes) > 0 or inside == "crack"
    assert all(f"{rival.inside}/{one.path}" in of_images for rival in of_classes for one in rival.samples)


def test_a_pair_of_patterns_may_leave_the_suffix_of_the_images_open(params: Params) -> None:
    files = beside("{n}.{type}", "{n}.png", "") | {"7.tif": grey(1)}
    with pytest.raises(UserError, match=r"ingest.images: 7.JPG and 7.tif have the same key '7'"):
        importing = params.ingest.model_copy(update={"images": "{key}.*", "targets": "{key}.png"})
        IMPORTERS["masks"]({path: partial(bytes, data) for path, data in files.items()}, "", importing, False)


def test_it_is_asked_whether_folders_of_images_with_masks_are_classes(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = beside("{folder}/c{n}.jpg", "{folder}/c{n}.png", "crack") | {
        f"none/{n}.jpg": grey(20 + n) for n in range(8)
    }
    for path, data in files.items():
        (workspace / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "source" / path).write_bytes(data)
    macula("configure", str(workspace / "source"), "--quick")
    assert (
        "task.name: the images with masks lie in the folders crack, none: are these classes; 8 images have no mask? "
        "--inside . --format folders classifies the images, without masks"
    ) in capsys.readouterr().out
    macula("configure", str(workspace / "source"), "--quick", "--replace", "--inside", ".", "--format", "folders")
    with open_source(workspace / "source", load(workspace / "params.proposed.yaml").ingest, False) as (
        samples,
        refused,
    ):
        assert len(samples) == 16 and not refused
        assert {sample.annotate(1, 1).labels for sample in samples} == {("crack",), ("none",)}
