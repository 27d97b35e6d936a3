"""Tests of prepare: each image is decoded once, and the moments of numbers are those of the training labels."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import prepare
from stages.config.schema_data import Prepare
from stages.config.schema_task import Representation, Task
from stages.dataset.annotations import Annotation, ObjectAnnotation
from stages.dataset.manifest import DATASET_FILE, decode_images
from stages.dataset.pixel_store import PixelStore
from stages.runner.stage import call
from stages.tasks.task_spec import TaskSpec
from tests.code.test_validate import folder_of, png, valid_rows

WEIGHTS = [float(n) for n in range(12)]
MASKS = [np.pad(np.ones((10, n % 6), np.uint8), ((0, 0), (0, 10 - n % 6))) for n in range(12)]
OVERLAPPING = (ObjectAnnotation("cell", (0, 0, 8, 8)), ObjectAnnotation("nucleus", (2, 2, 6, 4)))
LABELS: dict[str, tuple[list[Annotation], list[float]]] = {
    "scalars": ([Annotation(scalars={"weight": weight}) for weight in WEIGHTS], WEIGHTS),
    "count": (
        [Annotation(shapes=(ObjectAnnotation("cell", (1, 1, 3, 3)),) * (1 + n % 6)) for n in range(12)],
        [1.0 + n % 6 for n in range(12)],
    ),
    "area": ([Annotation(mask=("background", "cell"))] * 12, [float(mask.mean()) for mask in MASKS]),
}


@pytest.mark.parametrize("target", LABELS)
def test_regression_decodes_each_image_once(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations, truths = LABELS[target]
    rows = valid_rows().assign(annotation=[one.to_json() for one in annotations], label="", depth=8)
    masks = {path: png(mask) for path, mask in zip(rows["path"], MASKS, strict=True)} if target == "area" else {}
    folder = folder_of(rows, tmp_path / "in", masks)
    (folder / DATASET_FILE).write_text(json.dumps({"name": "numbers", "version": "1"}))
    decoded: list[str] = []

    def count(rows: Any, *arguments: Any) -> Any:
        decoded.extend(rows["path"])
        return decode_images(rows, *arguments)

    monkeypatch.setattr(prepare, "decode_images", count)
    sections = {
        "task": Task(name="regression", score="r2", target=target),  # type: ignore[arg-type]
        "representation": Representation(),
        "prepare": Prepare(size=8),
    }
    call(prepare.main, [folder, folder, tmp_path / "out"], sections)
    assert sorted(decoded) == sorted(rows["path"])
    about = json.loads((tmp_path / "out/about.json").read_text())
    training = np.array(truths)[rows["split"].eq("train")]
    assert about["mean"] == pytest.approx([training.mean()]) and about["deviation"] == pytest.approx([training.std()])


@pytest.mark.parametrize("combinations", [[], ["background", "cell", "cell + nucleus"]])
def test_pixels_of_objects_of_several_classes_are_combined_or_reported(
    combinations: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = valid_rows().assign(annotation=Annotation(shapes=OVERLAPPING).to_json(), label="", depth=8)
    folder = folder_of(rows, tmp_path / "in", {})
    about = {"name": "cells", "version": "1", "combinations": combinations}
    (folder / DATASET_FILE).write_text(json.dumps(about))
    sections = {
        "task": Task(name="segmentation", score="dice", classes=["cell", "nucleus"]),  # type: ignore[arg-type]
        "representation": Representation(),
        "prepare": Prepare(size=8),
    }
    call(prepare.main, [folder, folder, tmp_path / "out"], sections)
    labels = json.loads((tmp_path / "out/about.json").read_text())["labels"]
    assert labels == (combinations or ["background", "cell", "nucleus"])
    reported = "12.5% of the pixels of objects, in 12 images, belong to objects of several classes"
    assert (reported in capsys.readouterr().out) == (not combinations)


@pytest.mark.parametrize(
    ("brightest", "hot_pixels", "white", "expected"),
    [
        (4000, 0, "auto", 4095),
        (4000, 1, "auto", 4095),  # one hot pixel of 20,000
        (4000, 9, "auto", 65535),
        (255, 0, "auto", 255),
        (60_000, 0, "auto", 65535),
        (4000, 0, 5000, 5000),
    ],
)
def test_white_level_is_that_of_the_bits_in_use(
    brightest: int, hot_pixels: int, white: int | str, expected: int
) -> None:
    levels = np.random.default_rng(0).integers(0, brightest + 1, (2, 100, 100, 1), np.uint16)
    levels[0, 0, 0], levels[1, 0, :hot_pixels] = brightest, 65535
    spec = TaskSpec("classification", "class", "label", depth=16)
    store = PixelStore(levels, np.zeros(2, int), pd.DataFrame(index=range(2)), {})
    assert prepare._white_level(store, spec, white) == expected
    assert replace(spec, white=expected).white_level == expected


def test_white_level_of_8_bits_and_of_images_as_targets_is_that_of_the_type() -> None:
    store = PixelStore(np.full((1, 4, 4, 1), 100, np.uint16), np.zeros(1), pd.DataFrame(index=range(1)), {})
    eight, image = TaskSpec("classification", "class", "label"), TaskSpec("image", "image", "image", depth=16)
    for spec, expected in ((eight, 255), (image, 65535)):
        assert replace(spec, white=prepare._white_level(store, spec, "auto")).white_level == expected
