"""Evaluate on the sealed test set, once: `python -m stages.unseal INGESTED EXPORTED SEALED OPENINGS OUTPUT`."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config.schema_task import Evaluate, Task
from stages.core.errors import UserError
from stages.core.openings import (
    CLAIM,
    REASON,
    Row,
    openings_of,
    read_openings,
    refuse_second_opening,
    time_of_opening,
    write_openings,
)
from stages.core.plurals import quantity
from stages.core.progress import track
from stages.core.provenance import commit
from stages.dataset.manifest import DATASET_FILE, read_image_files, read_manifest
from stages.reports.evaluation_report import constant_sentence
from stages.runner.stage import In, Out, run
from stages.runtime import Model, compute_digest, open_shipped_model
from stages.tasks.constant_places import Constant
from stages.tasks.constant_prediction import best_constants, compare_with_constants
from stages.tasks.evaluation import summarize
from stages.tasks.ground_truth import scenes_of, training_examples, truths_of

DELIBERATE = "MACULA_UNSEAL"


def main(
    ingested: In, exported: In, sealed: In, openings: In, output: Out, *, task: Task, evaluate: Evaluate
) -> dict[str, Any]:
    """Score the exported model on the test images, from file bytes, and record the opening.

    Args:
        ingested: output folder of ingest, whose training labels determine the constant prediction.
        exported: output folder of export.
        sealed: folder of the sealed test set.
        openings: CSV file that lists every opening.
        output: folder to write to.
        task: params of the task.
        evaluate: params of evaluate.

    Returns:
        Value of each score that is defined.

    Raises:
        UserError: not called through `make unseal` or `macula unseal`, since a plain `dvc repro` must not open the test
            set; the test set belongs to another version of the data; it was opened for this model before, and no
            reason is given; the labels do not contain the ground truth; `openings` lacks columns; or the model cannot
            be opened.
    """
    if os.environ.get(DELIBERATE) != "yes":
        raise UserError(
            "the test set is sealed; every opening is recorded and makes it less independent: use `make unseal` to "
            "open it"
        )
    file = exported / "model.onnx"
    model, dataset = open_shipped_model(exported), json.loads((sealed / DATASET_FILE).read_text())
    if model.metadata["version"] != dataset["version"]:
        raise UserError(
            f"the model was trained on version {model.metadata['version']} of the data, but the sealed test set has "
            f"version {dataset['version']} of {dataset['name']}: the model may have been trained on these images; run "
            "`make repro` first"
        )
    rows = read_manifest(sealed)
    constants = best_constants(training_examples(ingested, model.spec), model.spec)
    truths = truths_of(sealed, rows["path"].tolist(), model.spec)
    opening = {
        "opened_at": time_of_opening(read_openings(openings)),
        "commit": commit(),
        "data": dataset["name"],
        "version": dataset["version"],
        "model": compute_digest(file)[:12],
        "images": str(len(rows)),
        "score": task.score,
        "value": "",
        "low": "",
        "high": "",
        "reason": os.environ.get(REASON, ""),
    }
    opening, count = _record(openings, opening)  # before any score is computed: an interrupted opening counts
    summary = _score(model, rows, sealed, truths, constants, evaluate)
    (output / "scores.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    figures = {name: "" if figure is None else str(figure) for name, figure in summary["scores"][task.score].items()}
    write_openings(openings, [row | figures if row == opening else row for row in read_openings(openings)])
    for name, figures in summary["scores"].items():
        value, low, high = ("undefined" if f is None else f"{f:.4f}" for f in figures.values())
        print(f"test {name}: {value} [{low}, {high}]")
    print(f"test: {constant_sentence(summary, task.score)}")
    times = quantity(count, "time")
    print(f"the sealed test set of {dataset['name']} has been opened {times}; commit {openings}, which records this")
    return {name: figures["value"] for name, figures in summary["scores"].items() if figures["value"] is not None}


def _score(
    model: Model,
    rows: pd.DataFrame,
    sealed: Path,
    truths: list[Any],
    constants: dict[str, Constant],
    evaluate: Evaluate,
) -> dict[str, Any]:
    files = track(read_image_files(rows, sealed), "unseal: test images", len(rows))
    groups = rows["group"].to_numpy()
    summary, replicates = summarize(
        model.spec,
        truths,
        [model.predict_file(data) for data in files],
        groups,
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
        bins=evaluate.calibration_bins,
    )
    scenes = list(scenes_of(sealed, rows, model.spec))
    summary["constant"] = compare_with_constants(
        model.spec, truths, scenes, groups, replicates, constants, evaluate.confidence
    )
    return summary


def _record(openings: Path, opening: Row) -> tuple[Row, int]:
    """Add an opening to the record, unless the caller has done so (`CLAIM`).

    Returns:
        The recorded row, and how often the test set of this data set has been opened.
    """
    before = read_openings(openings)
    mine = openings_of(before, opening["data"], opening["version"], opening["model"])
    if claim := os.environ.get(CLAIM):
        claimed = [row for row in mine if row["opened_at"] == claim and not row["value"]]
        if not claimed:
            raise UserError(f"{openings} has no open row of {claim} for this model; run `macula release` again")
        opening = claimed[-1]
    else:
        refuse_second_opening(mine, opening["reason"])
        before = [*before, opening]
        write_openings(openings, before)
    return opening, sum(row["data"] == opening["data"] for row in before)


if __name__ == "__main__":
    run(main)
