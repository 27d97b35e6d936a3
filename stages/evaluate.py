"""How good is the model on validation data: `python -m stages.evaluate INGESTED PREPARED TRAINED OUTPUT`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.dataset.manifest import pictures, read_manifest
from stages.dataset.pixel_store import open_split
from stages.frame.sections import Evaluate, Objective, Task, Train
from stages.runner.stage import In, Out, run
from stages.tasks import TASKS
from stages.tasks.evaluation import summarize
from stages.tasks.ground_truth import truths_of
from stages.tasks.objective import judged
from stages.tasks.task_spec import TaskSpec
from stages.training.devices import device_of
from stages.training.model_file import load
from stages.training.network_inference import answers

OVERLAY = 512  # pixels of the longer side


def main(
    ingested: In,
    prepared: In,
    trained: In,
    output: Out,
    *,
    task: Task,
    objective: Objective,
    train: Train,
    evaluate: Evaluate,
) -> dict[str, Any]:
    """Write `scores.json` with bootstrap intervals over groups; `predictions.parquet`, an image a row; the worst errors
    drawn over their images; and `replicates.parquet`, the bootstrap itself. The test stays sealed.
    """
    store = open_split(prepared, "val")
    network, spec, _ = load(trained / "model.pt")
    device = device_of(train.device)
    given = answers(network.to(device), store, spec, train.batch_size, device)
    paths = [path for path, _ in store.originals()]
    rows = read_manifest(ingested).set_index("path", drop=False).loc[paths]
    truths = truths_of(ingested, paths, spec)
    summary, replicates = summarize(
        spec,
        truths,
        given,
        rows["group"].to_numpy(),
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
        bins=evaluate.calibration_bins,
    )
    summary["objective"] = judged(summary["scores"][task.score]["value"], task.score, objective.model_dump())
    predictions = _predictions(paths, truths, given, spec)
    predictions.to_parquet(output / "predictions.parquet", index=False)
    pd.DataFrame(replicates).to_parquet(output / "replicates.parquet", index=False)
    wrong = predictions[predictions["wrong"]].sort_values("error", ascending=False, kind="stable")
    worst = wrong.head(evaluate.worst)
    summary["worst"] = worst[["path", "truth", "answer", "error"]].to_dict("records")
    if TASKS[spec.task].DRAWN:
        _draw(worst.index.to_list(), rows, ingested, truths, given, spec, output / "worst")
    (output / "scores.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    flat = {name: s["value"] for name, s in summary["scores"].items() if s["value"] is not None}
    return {**flat, "objective_met": summary["objective"]["met"], "images": len(paths), "errors": len(wrong)}


def _predictions(paths: list[str], truths: Sequence[Any], given: Sequence[Any], spec: TaskSpec) -> pd.DataFrame:
    """What is true and what was said, in words; how wrong it is; and the answer in full."""
    kind = TASKS[spec.task]
    rows = [
        {
            "path": path,
            "truth": kind.says(truth, spec),
            "answer": kind.says(answer, spec),
            "error": kind.error(truth, answer, spec),
            "wrong": kind.wrong(truth, answer, spec),
            "record": json.dumps(kind.record(answer, spec)),
        }
        for path, truth, answer in zip(paths, truths, given, strict=True)
    ]
    return pd.DataFrame(rows)


def _draw(
    worst: list[int],
    rows: pd.DataFrame,
    ingested: Path,
    truths: Sequence[Any],
    given: Sequence[Any],
    spec: TaskSpec,
    folder: Path,
) -> None:
    """Truth to the left and answer to the right, the worst first."""
    folder.mkdir()
    draw = TASKS[spec.task].draw
    for number, (index, picture) in enumerate(zip(worst, pictures(rows.iloc[worst], ingested), strict=True)):
        both = [draw(picture.image, thing[index], spec) for thing in (truths, given)]
        pair = Image.fromarray(np.concatenate(both, axis=1))
        pair.thumbnail((2 * OVERLAY, OVERLAY))
        pair.save(folder / f"{number:03d}.jpg", quality=88)


if __name__ == "__main__":
    run(main)
