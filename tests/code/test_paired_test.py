"""Tests of the comparison of two models on the same images."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.compare_models import compare_latency, describe, main
from stages.config.schema_export import Benchmark
from stages.config.schema_task import Evaluate, Task
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import MANIFEST_COLUMNS, write_manifest
from stages.dataset.shards import shard_name, write_shard
from stages.runner.stage import In, Out
from stages.runtime import Model
from stages.tasks.paired_test import PairedTest, compare_predictions
from stages.tasks.segmentation import Mask
from stages.tasks.task_spec import TaskSpec
from tests.lines import DEFAULTS
from tests.shipped import COLOURS, colour_model, plain

SPEC = TaskSpec("classification", "class", "label", labels=("a", "b"))


def compare(first_wrong: set[int], other_wrong: set[int], images: int = 100, groups: int = 100) -> PairedTest:
    truths = [i % 2 for i in range(images)]
    first, other = (
        [np.eye(2)[1 - truth if i in wrong else truth] for i, truth in enumerate(truths)]
        for wrong in (first_wrong, other_wrong)
    )
    groups_N = np.arange(images) % groups
    return compare_predictions(SPEC, "accuracy", truths, first, other, groups_N, resamples=500, confidence=0.95)


@pytest.mark.parametrize(("corrected", "verdict"), [(5, "no difference shown"), (7, "better")])
def test_few_corrected_images_are_judged_as_by_the_exact_sign_test(corrected: int, verdict: str) -> None:
    found = compare(set(range(corrected)), set())
    assert found.difference["low"] is not None and found.difference["low"] > 0, "the bootstrap alone sees a difference"
    assert found.p == pytest.approx(2 / 2**corrected, abs=0.01)
    assert found.verdict(0.95) == verdict


def test_more_new_errors_than_corrected_ones_are_worse() -> None:
    found = compare({0, 1}, set(range(10, 30)))
    assert found.verdict(0.95) == "worse"
    assert [found.first, found.other] == pytest.approx([0.98, 0.80])


def test_equal_predictions_show_no_difference() -> None:
    found = compare({3, 4}, {3, 4})
    assert (found.p, found.difference["value"], found.verdict(0.95)) == (1.0, 0.0, "no difference shown")


def test_images_of_one_group_count_once() -> None:
    assert compare(set(range(20)), set()).verdict(0.95) == "better"
    assert compare(set(range(0, 100, 4)), set(), groups=4).verdict(0.95) == "no difference shown"


def test_the_level_holds_for_models_that_are_equally_good() -> None:
    rng = np.random.default_rng(0)

    def some() -> set[int]:
        return set(np.flatnonzero(rng.random(60) < 0.1).tolist())

    false = sum(compare(some(), some(), 60, 60).verdict(0.95) != "no difference shown" for _ in range(200))
    assert false <= 18, "expected are at most 10 of 200; 18 or more have a probability below 0.02"


def test_a_lower_error_is_better() -> None:
    spec = TaskSpec("regression", "scalar", "scalars", scalars=("mass",), mean=(0.0,), deviation=(1.0,))
    truths = [np.array([float(i)]) for i in range(40)]
    near, far = ([truth + step for truth in truths] for step in (0.1, 1.0))
    found = compare_predictions(
        spec, "mean_absolute_error", truths, far, near, np.arange(40), resamples=100, confidence=0.95
    )
    assert found.better == "lower" and found.verdict(0.95) == "better"


def test_masks_are_compared_image_by_image() -> None:
    spec = TaskSpec("segmentation", "mask", "mask", labels=("background", "object"), tolerance=1.0)
    truths = [(np.indices((16, 16)).sum(axis=0) < 12).astype(np.uint8) for _ in range(12)]
    shifted = [np.roll(mask, 3, axis=0) for mask in truths]
    first, other = ([Mask(mask, None) for mask in one] for one in (shifted, truths))
    found = compare_predictions(spec, "dice", truths, first, other, np.arange(12), resamples=100, confidence=0.95)
    assert found.other == 1.0 and found.verdict(0.95) == "better" and found.groups == 12


@pytest.fixture
def ingested(tmp_path: Path) -> Path:
    """Output of ingest with 36 images of one colour each, 30 of them in the validation split."""
    folder = tmp_path / "ingest"
    folder.mkdir()
    rows = pd.DataFrame([{n: DEFAULTS[kind] for n, kind in MANIFEST_COLUMNS.items()} for _ in range(36)])
    rows["label"] = [COLOURS[i % 3] for i in range(36)]
    rows["path"] = rows["group"] = [f"{label}/{i}.png" for i, label in enumerate(rows["label"])]
    rows["split"] = ["train"] * 6 + ["val"] * 30
    rows["annotation"] = [Annotation(labels=(label,)).to_json() for label in rows["label"]]
    rows["things"] = "{}"
    files = [encoded(label) for label in rows["label"]]
    offsets = write_shard(folder / shard_name(1), ((f"{i}.png", data) for i, data in enumerate(files)))
    rows = rows.assign(offset=offsets, bytes=[len(d) for d in files], width=8, height=8, format="PNG", mode="RGB")
    rows = rows.assign(target_bytes=0)  # no masks
    write_manifest(rows, folder)
    return folder


def encoded(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(plain(colour)).save(buffer, "PNG")
    return buffer.getvalue()


def exported(folder: Path, labels: tuple[str, ...] = COLOURS, channels: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Write an output of export with a model that recognizes colours by the channels."""
    folder.mkdir()
    colour_model(folder / "model.onnx", labels, channels=channels)
    variant = {"name": "float32", "precision": "float32", "engine": "onnxruntime"}
    (folder / "variants.json").write_text(json.dumps({"shipped": "float32", "variants": [variant]}))
    return folder


def run_comparison(ingested: Path, champion: Path, challenger: Path, output: Path) -> dict[str, Any]:
    output.mkdir()
    task, evaluate = Task(name="classification", score="accuracy"), Evaluate(resamples=200)
    main(
        In(ingested), In(challenger), In(champion), Out(output),
        task=task, evaluate=evaluate, benchmark=Benchmark(seconds=0.01),
    )  # fmt: skip
    return json.loads((output / "comparison.json").read_text())


def test_two_equal_models_show_no_difference_and_draw_nothing(ingested: Path, tmp_path: Path) -> None:
    right = exported(tmp_path / "right")
    summary = run_comparison(ingested, right, exported(tmp_path / "again"), tmp_path / "equal")
    assert summary["verdict"] == "no difference shown" and not (tmp_path / "equal/differences.png").exists()
    assert summary["images"] == summary["groups"] == 30
    assert "difference +0.0000" in describe(summary) and "ms per image" in describe(summary)


def test_a_model_that_calls_red_images_green_is_worse_and_its_errors_are_drawn(ingested: Path, tmp_path: Path) -> None:
    champion, challenger = exported(tmp_path / "right"), exported(tmp_path / "wrong", channels=(1, 0, 2))
    summary = run_comparison(ingested, champion, challenger, tmp_path / "output")
    assert (summary["champion"], summary["challenger"]) == (1.0, pytest.approx(1 / 3))
    assert (summary["verdict"], summary["only_champion_wrong"], summary["only_challenger_wrong"]) == ("worse", 0, 20)
    assert (tmp_path / "output/differences.png").stat().st_size > 1000


def test_models_with_other_classes_are_not_compared(ingested: Path, tmp_path: Path) -> None:
    first, other = exported(tmp_path / "a"), exported(tmp_path / "b", ("red", "green", "violet"))
    with pytest.raises(UserError, match=r"differ in labels .*'blue'.* and .*'violet'.*`gto assign`"):
        run_comparison(ingested, first, other, tmp_path / "output")


def test_latency_is_measured_for_both_models(tmp_path: Path) -> None:
    models = [Model(exported(tmp_path / name) / "model.onnx", 1) for name in "ab"]
    latency = compare_latency(models, [encoded("red")], 0.05)
    assert latency["ratio"] > 0 and latency["champion_ms"] > 0 < latency["challenger_ms"]


def test_the_command_names_its_arguments() -> None:
    done = subprocess.run([sys.executable, "-m", "stages.compare_models"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "usage: python -m stages.compare_models INGESTED CHALLENGER CHAMPION OUTPUT" in done.stderr
