"""Test of the benchmark of the published page in a real Chromium."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.inference import browser_speed
from tests.published import CASES, exported


def test_browser_and_python_are_measured_on_the_same_files(tmp_path: Path, runtime: Path, browser: Any) -> None:
    model = exported(CASES["class"], tmp_path / "model.onnx")
    rng, files = np.random.default_rng(0), []
    for number in range(3):
        files.append(tmp_path / f"{number}.jpg")
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(files[-1])
    found = browser_speed.measure(browser.new_context, model, files, rounds=1, runtime=runtime)
    assert len(found["firsts"]) == 1 and len(found["browser"]) == len(found["python"]) == 2
    assert all(value > 0 for value in [*found["firsts"], *found["browser"], *found["python"]])
    assert len(found["levels"]) == 3 and max(largest for _, largest in found["levels"]) <= 255
    assert browser_speed.row(model, found).startswith("| toy | class, 48 px, stretch | ")
