"""Shared test suite of all tasks in all representations: the pipeline from image files to ONNX predictions."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from stages import baseline, benchmark, evaluate, export, ingest, model_card, prepare
from stages.config.schema import Params
from stages.config.schema_base import Section
from stages.dataset.manifest import read_image_files, read_manifest
from stages.deployment.golden_images import GOLDEN_FILE, comparable_values, judge, read_golden, read_picture
from stages.deployment.local_check import check
from stages.drift import summarize_prediction
from stages.images.image_statistics import MONITORED
from stages.networks.feature_record import record_features
from stages.reports.html_page import words
from stages.runner.stage import call
from stages.runtime.onnx_model import open_shipped_model
from stages.serving.app import create_app
from stages.serving.settings import Settings
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.model_file import save_model
from stages.training.training_plan import build_plan, load_training_data
from tests.lines import write_data_stages, write_openings, write_training_stages
from tests.toys import TOYS, Toy

QUICK = {("multilabel", "auto"), ("segmentation", "auto")}
"""Cases of every test run; `make test-slow` runs the others."""
CASES = [
    pytest.param(name, representation, marks=[] if (name, representation) in QUICK else pytest.mark.slow)
    for name, toy in TOYS.items()
    for representation in toy.representations
]
MIN_SCORES = {
    "accuracy": 1.0,
    "exact_match": 1.0,
    "quadratic_kappa": 0.9,
    "r2": 0.8,
    "pck": 0.9,
    "dice": 0.9,
    "psnr": 22.0,
    "average_precision_50": 0.7,
}
"""Score that a network must reach on its training images."""
EPOCHS = {"boxes": 60, "cumulative": 60, "coordinates": 80, "scalar": 60, "density": 60}


def sections_of(params: Params, toy: Toy, name: str, representation: str) -> dict[str, Any]:
    """Return the sections of params.yaml for a toy data set, with a small network and short training."""

    def update(section: Section, values: dict[str, Any]) -> Any:
        return type(section).model_validate(section.model_dump() | values)

    task = {"name": name, "tolerance": 0.1, **toy.task}
    gives = "vector" if representation == "auto" and name in ("classification", "multilabel") else None
    gives = gives or (REPRESENTATIONS[representation].gives if representation != "auto" else "map")
    network = {"vector": "resnet18", "map": "unet", "boxes": "mask_rcnn"}[gives]
    columns = {**params.ingest.columns.model_dump(), **toy.columns}
    return {
        "task": update(params.task, task),
        "representation": update(params.representation, {"name": representation, "radius": 2.0}),
        "ingest": update(params.ingest, {"name": "toy", "columns": columns, **toy.ingest}),
        "split": update(params.split, {"validation": 0.17, "test": 0.17}),
        "prepare": update(
            params.prepare, {"size": 64, "channels": 3, "fit": "letterbox" if gives == "boxes" else "stretch"}
        ),
        "augment": update(params.augment, {"preset": "none"}),
        "network": update(params.network, {"name": network, "encoder": "resnet18" if gives == "boxes" else "plain"}),
        "train": update(
            params.train,
            {
                "epochs": EPOCHS.get(representation, 40),
                "batch_size": 4,
                "learning_rate": 0.002,
                "label_smoothing": 0.0,
                "device": "cpu",
            },
        ),
        "objective": update(params.objective, {"at_least": 0.5}),
        "evaluate": update(params.evaluate, {"resamples": 100}),
        "export": update(
            params.export, {"calibration_images": 16, "max_score_drop": 1.0}
        ),  # all variants are exported and timed
        "benchmark": update(params.benchmark, {"batch_sizes": (1, 2), "seconds": 0.05, "max_difference": 1e-2}),
    }


def check_golden_images(exported: Path) -> None:
    """Check that the exported files predict their golden images as recorded, also over HTTP."""
    golden = read_golden(exported / GOLDEN_FILE)
    assert len({image.data for image in golden.images}) == len(golden.images) >= 3
    assert any(max(image.float32.values(), default=0.0) > 0.0 for image in golden.images)
    for file in ("model.onnx", "float32.onnx"):
        checked = check(exported / file, exported / GOLDEN_FILE, "auto")
        assert checked["passed"], checked["message"]
    found = []
    with TestClient(create_app(Settings(model=str(exported / "model.onnx")))) as client:
        for image in golden.images:
            pictured = "block 0 0" in image.float32
            body = client.post("/v1/predict", content=image.data, params={"picture": pictured}).json()
            pixels = read_picture(base64.b64decode(body["picture"].partition(",")[2])) if pictured else None
            size = body["height"], body["width"]
            found.append(comparable_values(body["answer"], body["task"], size, golden.deviation, pixels))
    verdict = judge(golden, found)
    assert verdict.passed, verdict.message
    others = [{name: 1.0 - value for name, value in image.float32.items()} for image in golden.images]
    assert not judge(golden, others).passed


@pytest.mark.parametrize(("name", "representation"), CASES)
def test_network_overfits_images_and_onnx_file_predicts_the_same(
    name: str, representation: str, workspace: Path, params: Params
) -> None:
    toy = TOYS[name]
    source = workspace / "toy"
    source.mkdir()
    toy.write(source, np.random.default_rng(0))
    sections = sections_of(params, toy, name, representation)
    folder = {
        part: workspace / part
        for part in ("ingested", "prepared", "baselined", "trained", "evaluated", "exported", "measured")
    }

    def stage(module: Any, *paths: Path, needs: tuple[str, ...] = ()) -> dict[str, Any]:
        return call(module.main, list(paths), {key: sections[key] for key in needs})

    stage(ingest, source, workspace / "splits", workspace / "sealed", folder["ingested"], needs=("ingest", "split"))
    stage(
        prepare, folder["ingested"], folder["ingested"], folder["prepared"], needs=("task", "representation", "prepare")
    )
    record = workspace / "image_features.txt"
    record_features(record)
    stage(baseline, folder["ingested"], folder["prepared"], record, folder["baselined"], needs=("task", "evaluate"))
    assert (folder["baselined"] / "replicates.parquet").is_file() == (
        sections["task"].name in baseline.TASKS_WITH_BASELINE
    )
    data = load_training_data(folder["ingested"], folder["prepared"])
    plan = resolve_auto(build_plan(data, sections, Path("data/weights"))).plan
    result = fit(plan, report=lambda epoch: None)
    direction = TASKS[data.spec.task].SCORES[plan.score].better
    best_score = max(epoch.train_score for epoch in result.epochs)
    assert direction == "higher"
    assert best_score >= MIN_SCORES[plan.score], [round(e.train_score, 3) for e in result.epochs]

    folder["trained"].mkdir()
    metadata = {**data.train_set.about, "params_hash": ""}
    save_model(folder["trained"] / "model.pt", plan.network_config, result.weights, metadata)
    paths = [folder[part] for part in ("ingested", "prepared", "baselined", "trained", "evaluated")]
    stage(evaluate, *paths, needs=("task", "objective", "train", "evaluate"))
    paths = [folder[part] for part in ("ingested", "prepared", "trained", "evaluated", "exported")]
    stage(export, *paths, needs=("task", "evaluate", "export", "benchmark"))
    check_golden_images(folder["exported"])
    paths = [folder[part] for part in ("ingested", "prepared", "trained", "evaluated", "exported", "measured")]
    measured = stage(benchmark, *paths, needs=("task", "benchmark"))
    assert measured["agreement"] == 1.0
    assert measured["largest_difference"] < 1e-2
    shipped = open_shipped_model(folder["exported"])
    reference = shipped.metadata["drift_reference"]
    assert len(json.dumps(reference)) < 20_000
    assert set(reference["inputs"]["statistics"]) == set(MONITORED)
    image = shipped.decode_file(next(read_image_files(read_manifest(folder["ingested"]), folder["ingested"])))
    record = TASKS[data.spec.task].record(shipped.predict(image), data.spec)
    assert set(reference["predictions"]["statistics"]) >= set(summarize_prediction(record, data.spec))
    write_data_stages(workspace, [])
    write_training_stages(workspace, trials=0)
    write_openings(workspace / "openings.csv")
    others = [workspace / part for part in ("validate", "audit", "gate", "tune", "train")]
    results = [folder[part] for part in ("evaluated", "exported", "measured")]
    paths = [folder["ingested"], *others, *results, workspace / "openings.csv", workspace / "card"]
    stage(model_card, *paths, needs=("ingest", "split"))
    text = (workspace / "card" / "model-card.md").read_text(encoding="utf-8")
    assert model_card.OUTPUT_MEANINGS[data.spec.representation] in text
    assert f"| {words(plan.score)}, **the objective** |" in text
