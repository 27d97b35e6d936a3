"""Folders whose names or size say that they are not classes: altered copies, labels, a few images, further splits."""

from functools import partial

import numpy as np
import pytest

from stages.config.schema import Params
from stages.configuration.doubtful_folders import ask_about_altered_copies, ask_about_folders_of_labels
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from tests.conftest import png


def detect(params: Params, *paths: str) -> tuple[list[FormatCandidate], list[str]]:
    images = {path: png(np.random.default_rng(n).integers(60, 250, (24, 30), np.uint8)) for n, path in enumerate(paths)}
    return find_formats({path: partial(bytes, data) for path, data in images.items()}, params.ingest)


@pytest.mark.parametrize(
    ("copies", "pattern"),
    [
        ("ok_aug/aug_3_8123.jpeg", '"!**/ok_aug/**"'),
        ("Augmented/ok/1.png", '"!**/Augmented/**"'),
        ("ok/flipped/1.png", '"!**/flipped/**"'),
    ],
)
def test_folders_of_altered_copies_are_a_question_with_the_line_that_leaves_them_out(copies: str, pattern: str) -> None:
    (question,) = ask_about_altered_copies(["ok/1.png", "defect/2.png", copies])
    assert copies in question and f"set files: [{pattern}]" in question


@pytest.mark.parametrize("paths", [["august/1.png", "may/2.png"], ["aug/1.png", "aug/2.png"], ["a/aug_1.png"]])
def test_other_words_and_copies_alone_are_not_asked_about(paths: list[str]) -> None:
    assert not list(ask_about_altered_copies(paths))


def test_folders_of_labels_below_classes_are_a_question() -> None:
    paths = [f"{kind}/{part}/{n}.png" for kind in ("fish", "mice") for part in ("raw", "gt") for n in range(3)]
    (question,) = ask_about_folders_of_labels(paths, ["fish", "mice"])
    assert question.startswith("ingest.format: 6 images lie") and "gt, such as fish/gt/0.png" in question
    assert not list(ask_about_folders_of_labels(["mask/1.png", "no_mask/2.png"], ["mask", "no_mask"]))


def test_folders_of_a_few_of_the_images_are_not_classes(params: Params) -> None:
    documents = [f"scans/{chr(97 + n % 26)}{chr(97 + n // 26)}/page.png" for n in range(40)]
    found, failures = detect(params, *documents, *(f"scans/few/{kind}/{n}.png" for kind in ("x", "y") for n in "12"))
    assert not found
    assert failures[0] == "folders in scans/few: only 4 of 44 images lie in folders of classes"


def test_a_folder_beside_those_of_the_splits_does_not_hide_them(params: Params) -> None:
    parts = ("train", "val", "test", "auto_test")
    found, _ = detect(params, *(f"{part}/{kind}/{n}.png" for part in parts for kind in "01" for n in range(6)))
    assert found[0].has_split and found[0].format == "folders" and "images" not in found[0].changes
    assert {sample.path.split("/")[0] for sample in found[0].samples} == {"train", "val", "test"}
    assert found[0].changes["files"] == ["!auto_test/**"] and not found[0].rejected
    assert found[0].asks == (
        "ingest.files: auto_test (12 images) beside the folders of splits: not used; which split are these images of?",
    )
