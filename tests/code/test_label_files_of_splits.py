"""COCO files of which there is one per split are one data set with the split of the source."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.importers import open_source
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.label_files_of_splits import group_by_split, split_in_name
from tests.conftest import png

Files = dict[str, bytes]
SPLITS = {"train": 5, "val": 3, "test": 2}


def coco_text(names: list[str], category: int = 1, annotated: bool = True) -> bytes:
    images = [{"id": k, "file_name": name, "height": 20, "width": 24} for k, name in enumerate(names)]
    entries = [
        {"id": k, "image_id": k, "category_id": category, "bbox": [2, 3, 5, 6], "iscrowd": 0} for k in range(len(names))
    ]
    classes = [{"id": category, "name": "cat"}]
    return json.dumps({"images": images, "annotations": entries * annotated, "categories": classes}).encode()


def of_splits(image: str, labels: str, written: str = "{n}.png", empty: str = "") -> Files:
    """Return images, named alike in all splits, and a COCO file per split whose classes have other numbers."""
    files: Files = {}
    for place, (split, count) in enumerate(SPLITS.items()):
        names = [written.format(n=n, split=split) for n in range(count)]
        files[labels.format(split=split)] = coco_text(names, place + 1, split != empty)
        for n in range(count):
            pixels = np.random.default_rng(100 * place + n).integers(0, 255, (20, 24), dtype=np.uint8)
            files[image.format(split=split, n=n)] = png(pixels)
    return files


def detect(params: Params, files: Files) -> FormatCandidate:
    reading: dict[str, Callable[[], bytes]] = {path: partial(bytes, data) for path, data in files.items()}
    return find_formats(reading, params.ingest)[0][0]


@pytest.mark.parametrize(
    ("image", "labels", "written", "pattern"),
    [
        ("{split}/{n}.png", "annotations/instances_{split}.json", "{n}.png", "annotations/instances_*.json"),
        ("{split}2017/{n}.png", "annotations/instances_{split}2017.json", "{n}.png",
         "annotations/instances_*2017.json"),
        ("{split}/{n}.png", "{split}/_annotations.coco.json", "{n}.png", "*/_annotations.coco.json"),
        ("d/images/{split}/{n}.png", "d/{split}.json", "images/{split}/{n}.png", "d/*.json"),
        ("images_{split}/{n}.png", "{split}-labels.json", "{n}.png", "*-labels.json"),
    ],
)  # fmt: skip
def test_coco_files_of_all_splits_are_read_in_one_proposal(
    image: str, labels: str, written: str, pattern: str, params: Params
) -> None:
    best = detect(params, of_splits(image, labels, written))
    assert (best.format, best.inside, best.changes["targets"]) == ("coco", "", pattern)
    assert best.has_split and not best.rejected
    found = {(one.path, one.split) for one in best.samples}
    assert found == {(image.format(split=split, n=n), split) for split in SPLITS for n in range(SPLITS[split])}
    labels_found = {shape.label for one in best.samples for shape in one.annotate(20, 24).shapes or ()}
    assert labels_found == {"cat"}, "the numbers of the classes are those of each file"


def test_images_of_a_split_without_annotations_are_not_used_and_named(params: Params) -> None:
    best = detect(params, of_splits("{split}/{n}.png", "a/{split}.json", empty="test"))
    assert len(best.samples) == 8 and not best.has_split
    assert [(one.path, one.reason) for one in best.unused] == [
        (f"test/{n}.png", "a/test.json lists it without any annotation") for n in range(2)
    ]


def test_ingest_reads_the_coco_files_of_a_pattern(params: Params, tmp_path: Path) -> None:
    for path, data in of_splits("{split}/{n}.png", "a/{split}.json").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    ingest = params.ingest.model_copy(update={"format": "coco", "targets": "a/*.json"})
    with open_source(tmp_path, ingest, has_split=True) as (samples, rejected):
        assert len(samples) == 10 and not rejected
    missing = ingest.model_copy(update={"targets": "b/*.json"})
    with (
        pytest.raises(UserError, match=r"ingest.targets: b/\*.json matches no file; .*: a/test.json, a/train.json"),
        open_source(tmp_path, missing, has_split=False),
    ):
        pass


def test_only_files_that_differ_in_the_split_are_joined() -> None:
    assert group_by_split(["i_train.json", "i_val.json", "k_train.json"]) == {
        "i_*.json": ["i_train.json", "i_val.json"]
    }
    assert group_by_split(["i_train.json", "i_val.json", "i_all.json"]) == {}, "the pattern would match a third file"
    assert group_by_split(["train/train.json", "train/a.json"]) == {}
    assert [split_in_name(path) for path in ("trainer.json", "a_test2.json", "val/x.json")] == [None, "test", "val"]
