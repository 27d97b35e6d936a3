"""Compare predictions of the published page with `stages.runtime.Model` for every representation, in Chromium."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import linear_sum_assignment

from stages.dataset.annotations import decode_rle
from stages.networks.heads import OUTPUTS
from stages.publish import publish
from stages.runtime import Model
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS
from tests.conftest import png
from tests.published import CASES, KINDS, Page, exported, npy
from tests.toys import scene


def test_cases_cover_every_representation() -> None:
    assert {case.representation for case in CASES.values()} == set(REPRESENTATIONS) == {*OUTPUTS, "boxes"}
    assert {case.task for case in CASES.values()} == set(TASKS)


def image_files(depth: int) -> dict[str, bytes]:
    """Return images of several sizes and formats as file bytes."""
    drawn = [scene(np.random.default_rng(n), 2 + n)[0] for n in range(3)]
    if depth == 16:
        arrays = [image[:, :, 0].astype(np.uint16) * 200 + n for n, image in enumerate(drawn)]
        return {f"{n}.npy": npy(array) for n, array in enumerate(arrays)}
    small, large = drawn[1][:31, :23], np.kron(drawn[2], np.ones((2, 2, 1), np.uint8))[:101, :120]
    palette, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(drawn[0]).quantize(16).save(palette, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((40, 60, 3), (200, 30, 30), np.uint8)).save(turned, "JPEG", quality=100, exif=exif)
    return {
        "plain.png": png(drawn[0]),
        "small.png": png(small),
        "large.png": png(large),
        "grey.png": png(drawn[1][:, :, 1]),
        "palette.png": palette.getvalue(),
        "turned.jpg": turned.getvalue(),
        "array.npy": npy(drawn[2]),
        "touching.png": png(touching()),
    }


def touching() -> np.ndarray:
    """Return an image of three red discs that touch, so that only their interiors separate them."""
    y, x = np.mgrid[:64, :70]
    mask_HW = np.any([(x - a) ** 2 + (y - b) ** 2 <= 81 for a, b in ((20, 20), (40, 22), (31, 40))], axis=0)
    return np.where(mask_HW[..., None], (230, 60, 60), (90, 90, 90)).astype(np.uint8)


def assert_close(given: Any, expected: Any, tolerance: float) -> None:
    """Assert that two records are equal, with numbers within `tolerance`."""
    if isinstance(expected, dict) and expected.keys() == {"size", "counts"}:  # a mask: a pixel may lie on the edge
        one, other = (decode_rle(mask["counts"], *expected["size"]) for mask in (given, expected))
        assert (one != other).sum() <= max(2, 0.01 * other.sum())
    elif isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for key in expected:
            assert_close(given[key], expected[key], tolerance)
    elif isinstance(expected, list | tuple):
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            assert_close(one, other, tolerance)
    else:
        assert given == (pytest.approx(expected, abs=tolerance) if isinstance(expected, float) else expected)


def paired(given: dict[str, Any], expected: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Match the instances of two records.

    Rounding decides which of two almost equal boxes is suppressed, so one in fifty may be unmatched.
    """
    ones, others = given.pop("things"), expected.pop("things")
    for label, count in expected.pop("counts").items():
        assert abs(given["counts"][label] - count) <= max(1, 0.02 * count)
    matched_M, matched_N = (
        np.array([[*t["bbox"], 100 * t["score"], 9 * KINDS.index(t["label"])] for t in instances])
        for instances in (ones, others)
    )
    distance_MN = np.abs(matched_M[:, None] - matched_N).max(axis=2)
    rows, columns = linear_sum_assignment(distance_MN.clip(max=1.0))
    near = [(ones[i], others[j]) for i, j in zip(rows, columns, strict=True) if distance_MN[i, j] < 1.0]
    assert len(near) >= 0.98 * max(len(ones), len(others)) >= 1
    return {"things": [one for one, _ in near]}, {"things": [other for _, other in near]}


TOLERANCES = {"landmarks": 0.1, "regression": 1e-2, "instances": 0.02, "segmentation": 2e-3}
"""Absolute tolerances in pixels, units of the target, pixels and shares; 1e-4 for probabilities."""


@pytest.mark.parametrize("case", CASES)
def test_javascript_predictions_match_python(
    case: str, tmp_path: Path, runtime: Path, served: tuple[Path, str], browser: Any
) -> None:
    spec, folder = CASES[case], case.replace(", ", "-").replace(" ", "-")
    file = exported(spec, tmp_path / "model.onnx")
    publish(file, served[0] / folder, runtime)
    model, given = Model(file), image_files(spec.depth)
    if spec.representation == "boxes":  # hundreds of objects each: seconds per image
        given = {name: given[name] for name in ("plain.png", "small.png", "turned.jpg")}
    page = Page(browser, f"{served[1]}/{folder}/")
    rows = page.predict(given)
    assert [row["path"] for row in rows] == list(given) and len(rows) >= 3
    records = []
    for row, data in zip(rows, given.values(), strict=True):
        assert "error" not in row, row
        prediction = model.predict_file(data)
        records.append(json.loads(json.dumps(TASKS[spec.task].record(prediction, spec))))
        print(row["milliseconds"], case, row["path"], str(row["record"])[:150], str(records[-1])[:150])
        assert_close(row["record"], records[-1], TOLERANCES.get(spec.task, 1e-4))
        if spec.task == "segmentation":
            shown = np.asarray(Image.open(io.BytesIO(row["file"])))[:, :, 0]
            assert (shown == prediction.index_HW).mean() > 0.998
        if spec.task == "image":
            shown = np.asarray(Image.open(io.BytesIO(row["file"])))[:, :, : spec.channels].astype(float)
            assert np.abs(shown - 255 * prediction.clip(0, 1)).max() < 1.01
    assert spec.task == "image" or len({json.dumps(record) for record in records}) > 2, "predictions do not vary"
    assert all(url.startswith((served[1], "blob:", "data:")) for url in page.requests), "a request to another host"
