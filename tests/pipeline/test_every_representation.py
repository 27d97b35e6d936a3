"""Every task in every representation through the line, from files to the ONNX answer: one suite for all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import benchmark, evaluate, export, ingest, model_card, prepare
from stages.config.schema import Params
from stages.config.schema_base import Section
from stages.reports.html_page import words
from stages.runner.stage import call
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.model_file import save_model
from stages.training.training_plan import build_plan, load_training_data
from tests.lines import write_data_stages, write_openings, write_training_stages
from tests.toys import TOYS, Toy

QUICK = {("multilabel", "auto"), ("segmentation", "auto")}
"""Learned in every run of the tests; the others by `make test-slow`."""
CASES = [
    pytest.param(name, representation, marks=[] if (name, representation) in QUICK else pytest.mark.slow)
    for name, toy in TOYS.items()
    for representation in toy.representations
]
LEARNED = {
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
    """params.yaml with what the toy asks, small and quick."""

    def changed(section: Section, values: dict[str, Any]) -> Any:
        return type(section).model_validate(section.model_dump() | values)

    task = {"name": name, "tolerance": 0.1, **toy.task}
    gives = "vector" if representation == "auto" and name in ("classification", "multilabel") else None
    gives = gives or (REPRESENTATIONS[representation].gives if representation != "auto" else "map")
    network = {"vector": "resnet18", "map": "unet", "boxes": "mask_rcnn"}[gives]
    columns = {**params.ingest.columns.model_dump(), **toy.columns}
    return {
        "task": changed(params.task, task),
        "representation": changed(params.representation, {"name": representation, "radius": 2.0}),
        "ingest": changed(params.ingest, {"name": "toy", "columns": columns, **toy.ingest}),
        "split": changed(params.split, {"validation": 0.17, "test": 0.17}),
        "prepare": changed(
            params.prepare, {"size": 64, "channels": 3, "fit": "letterbox" if gives == "boxes" else "stretch"}
        ),
        "augment": changed(params.augment, {"preset": "none"}),
        "network": changed(params.network, {"name": network, "encoder": "resnet18" if gives == "boxes" else "plain"}),
        "train": changed(
            params.train,
            {
                "epochs": EPOCHS.get(representation, 40),
                "batch_size": 4,
                "learning_rate": 0.002,
                "label_smoothing": 0.0,
                "device": "cpu",
            },
        ),
        "objective": changed(params.objective, {"at_least": 0.5}),
        "evaluate": changed(params.evaluate, {"resamples": 100}),
        "export": changed(
            params.export, {"calibration_images": 16, "max_score_drop": 1.0}
        ),  # all variants are made and timed
        "benchmark": changed(params.benchmark, {"batch_sizes": (1, 2), "seconds": 0.05, "max_difference": 1e-2}),
    }


@pytest.mark.parametrize(("name", "representation"), CASES)
def test_a_network_learns_images_by_heart_and_its_onnx_file_answers_as_it_does(
    name: str, representation: str, workspace: Path, params: Params
) -> None:
    toy = TOYS[name]
    source = workspace / "toy"
    source.mkdir()
    toy.write(source, np.random.default_rng(0))
    sections = sections_of(params, toy, name, representation)
    folder = {
        part: workspace / part for part in ("ingested", "prepared", "trained", "evaluated", "exported", "measured")
    }

    def stage(module: Any, *paths: Path, needs: tuple[str, ...] = ()) -> dict[str, Any]:
        return call(module.main, list(paths), {key: sections[key] for key in needs})

    stage(ingest, source, workspace / "splits", workspace / "sealed", folder["ingested"], needs=("ingest", "split"))
    stage(
        prepare, folder["ingested"], folder["ingested"], folder["prepared"], needs=("task", "representation", "prepare")
    )
    data = load_training_data(folder["ingested"], folder["prepared"])
    plan = resolve_auto(build_plan(data, sections, Path("data/weights"))).plan
    result = fit(plan, report=lambda epoch: None)
    better = TASKS[data.spec.task].SCORES[plan.score].better
    reached = max(epoch.train_score for epoch in result.epochs)
    assert better == "higher"
    assert reached >= LEARNED[plan.score], [round(e.train_score, 3) for e in result.epochs]

    folder["trained"].mkdir()
    about = {**data.train_set.about, "params_hash": ""}
    save_model(folder["trained"] / "model.pt", plan.network_config, result.weights, about)
    places = [folder[part] for part in ("ingested", "prepared", "trained", "evaluated")]
    stage(evaluate, *places, needs=("task", "objective", "train", "evaluate"))
    places = [folder[part] for part in ("ingested", "prepared", "trained", "evaluated", "exported")]
    stage(export, *places, needs=("task", "evaluate", "export", "benchmark"))
    places = [folder[part] for part in ("ingested", "prepared", "trained", "exported", "measured")]
    measured = stage(benchmark, *places, needs=("task", "benchmark"))
    assert measured["agreement"] == 1.0
    assert measured["largest_difference"] < 1e-2
    write_data_stages(workspace, [])
    write_training_stages(workspace, trials=0)
    write_openings(workspace / "openings.csv")
    others = [workspace / part for part in ("validate", "audit", "gate", "tune", "train")]
    results = [folder[part] for part in ("evaluated", "exported", "measured")]
    places = [folder["ingested"], *others, *results, workspace / "openings.csv", workspace / "card"]
    stage(model_card, *places, needs=("ingest", "split"))
    text = (workspace / "card" / "model-card.md").read_text(encoding="utf-8")
    assert model_card.OUTPUT_MEANINGS[data.spec.representation] in text
    assert f"| {words(plan.score)}, **the objective** |" in text
