"""Tests of the choice of golden images, their file, and the comparison of predictions with them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import UserError
from stages.deployment.golden_images import (
    GOLDEN_FILE,
    GoldenImage,
    GoldenSet,
    comparable_values,
    judge,
    read_golden,
    write_golden,
)
from stages.deployment.golden_selection import MAX_BYTES, choose, golden_set
from stages.runtime import Model
from tests.conftest import png
from tests.deployed import exported
from tests.shipped import colour_model

IMAGE = GoldenImage("00.png", b"x", "first", {"cat": 0.9, "dog": 0.1}, {"cat": 0.86, "dog": 0.14})
GOLDEN = GoldenSet("abc", 0.02, 0.05, {}, (IMAGE, replace(IMAGE, name="01.png", float32={"cat": 0.5, "dog": 0.5})))


def probabilities(count: int, classes: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    return [dict(zip("abcdefgh"[:classes], map(float, p), strict=True)) for p in rng.dirichlet([1] * classes, count)]


@pytest.mark.parametrize(
    ("images", "classes", "count"), [(200, 3, 24), (200, 8, 8), (4, 2, 24), (50, 2, 1), (30, 8, 5)]
)
def test_confident_and_borderline_images_of_every_class_are_chosen(images: int, classes: int, count: int) -> None:
    values = probabilities(images, classes)
    chosen = [number for number, _ in choose(values, True, count)]
    assert len(chosen) == len(set(chosen)) == min(images, count)
    if count >= 2 * classes:
        for name in values[0]:
            mine = [i for i, one in enumerate(values) if max(one, key=lambda n: one[n]) == name]
            if mine:
                by_confidence = sorted(mine, key=lambda i: values[i][name])
                assert {by_confidence[0], by_confidence[-1]} <= set(chosen)


def test_without_classes_the_lowest_and_highest_predictions_are_chosen() -> None:
    values = [{"length": float(v)} for v in np.random.default_rng(0).permutation(40)]
    chosen = [values[number]["length"] for number, _ in choose(values, False, 5)]
    assert chosen == [0.0, 10.0, 20.0, 29.0, 39.0]


def test_a_prediction_near_one_of_the_recorded_ones_passes() -> None:
    near_both = [{"cat": 0.87, "dog": 0.13}, {"cat": 0.51, "dog": 0.49}]
    assert judge(GOLDEN, near_both).passed
    far = judge(GOLDEN, [near_both[0], {"cat": 0.4, "dog": 0.6}])
    assert not far.passed and "1 of 2 golden images failed: 01.png (first): differs by 0.1" in far.message
    missing = judge(GOLDEN, ["status 500", {"cat": math.nan, "dog": 0.5}])
    assert not missing.passed and "2 of 2" in missing.message and missing.largest == math.inf


def test_a_small_error_of_every_image_does_not_pass() -> None:
    wide = replace(GOLDEN, tolerance=0.1)
    found = [{"cat": 0.82, "dog": 0.18}, {"cat": 0.58, "dog": 0.42}]
    verdict = judge(wide, found)
    assert not verdict.passed and "differ from float32 by 0.08 on average" in verdict.message


def test_numbers_of_each_task_have_a_common_unit() -> None:
    point = {"nose": {"x": 30.0, "y": 40.0, "confidence": 0.9}}
    assert comparable_values(point, "landmarks", (300, 400), {}) == {
        "nose x": 0.06, "nose y": 0.08, "nose confidence": 0.9
    }  # fmt: skip
    assert comparable_values({"age": 30.0}, "regression", (8, 8), {"age": 10.0}) == {"age": 3.0}
    cells = {"counts": {}, "things": [{"label": "cell", "score": 0.8, "bbox": [10, 0, 20, 60]}]}
    expected = {"cell score 0": 0.8, "cell x": 0.2, "cell y": 0.3}
    assert comparable_values(cells, "instances", (60, 80), {}) == expected
    picture = np.zeros((16, 16), np.uint8)
    picture[:2, :2] = 255
    blocks = comparable_values({}, "image", (16, 16), {}, picture)
    assert (len(blocks), blocks["block 0 0"], sum(blocks.values())) == (64, 1.0, 1.0)


def test_the_file_is_reproducible_and_limited_in_size(tmp_path: Path) -> None:
    file = colour_model(tmp_path / "model.onnx")
    model = Model(file, 1, "onnxruntime")
    rng = np.random.default_rng(0)
    large = [png(rng.integers(0, 255, (700, 700, 3), np.uint8), compress_level=0) for _ in range(5)]
    golden = golden_set(file, model, {"float32": model}, "float32", lambda: large, 5)
    assert sum(len(image.data) for image in golden.images) <= MAX_BYTES and len(golden.images) == 2
    write_golden(tmp_path / "a.zip", golden)
    write_golden(tmp_path / "b.zip", golden)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert read_golden(tmp_path / "a.zip") == golden


def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    file = exported(tmp_path / "new").with_name(GOLDEN_FILE)
    data = file.read_bytes()
    for position in range(0, len(data), 97):
        file.write_bytes(data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :])
        try:
            read_golden(file)
        except UserError as error:
            assert "export the model again" in str(error)
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        read_golden(file)
