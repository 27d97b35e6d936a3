"""Score the model on validation data: `python -m stages.evaluate DATA_FOLDERS... OUTPUT`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.config.schema_task import Evaluate, Objective, Task
from stages.config.schema_training import Train
from stages.dataset.manifest import decode_images, read_manifest
from stages.dataset.pixel_store import open_split
from stages.images.contact_sheet import contact_sheet
from stages.networks.adjusted import Adjustment, with_adjustment
from stages.reports.evaluation_report import baseline_sentence, constant_sentence, output_sentences
from stages.runner.stage import In, Out, run
from stages.tasks import TASKS
from stages.tasks.constant_prediction import best_constants, compare, compare_with_constants
from stages.tasks.evaluation import summarize
from stages.tasks.ground_truth import scenes_of, training_examples, truths_of
from stages.tasks.objective import compare_with_objective
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.training.adjustment import FittedOutputs, Labelled, fit_outputs, select_views, write_adjustment
from stages.training.devices import torch_device
from stages.training.model_file import load_model
from stages.training.network_inference import predict_store
from stages.training.training_plan import augmentation_data

MAX_SIDE = 512  # pixels of the longer side of an image in `worst`
Pair = tuple[Any, Any]
"""Ground truth and prediction of one image."""


def main(
    ingested: In,
    prepared: In,
    baselined: In,
    trained: In,
    output: Out,
    *,
    task: Task,
    objective: Objective,
    train: Train,
    evaluate: Evaluate,
) -> dict[str, Any]:
    """Write scores with bootstrap intervals over groups (`scores.json`) and the predictions.

    `scores.json` also compares each score with those of the best constant prediction and of the baseline.
    `predictions.parquet` has one row per image. `replicates.parquet` has the scores of the images themselves in its
    first row, then those of each bootstrap resample. `errors.png` shows the worst errors, also as files in `worst` if
    predictions can be drawn. The test split stays sealed.

    `adjustment.json` has what `export` adds to the network: test-time augmentation, temperature and thresholds. The
    predictions contain it. The figures of calibration, and all scores with thresholds, are cross-fitted by group.

    Raises:
        UserError: `train.device` is not available, the manifest was written by another version, or the labels do not
            contain the ground truth.
    """
    store = open_split(prepared, "val")
    network, spec, _ = load_model(trained / "model.pt")
    device = torch_device(train.device)
    paths = [path for path, _ in store.rows_by_original()]
    rows = read_manifest(ingested).set_index("path", drop=False).loc[paths]
    truths = truths_of(ingested, paths, spec)
    views, other_views = select_views(augmentation_data(open_split(prepared, "train")), evaluate.test_time)

    def predict(views: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
        """Return the predictions with test-time augmentation, and the raw outputs of each batch."""
        raw: list[Any] = []
        model = with_adjustment(network, Adjustment(views)).to(device)
        predicted = predict_store(model, store, spec, train.batch_size, device, lambda values, _: raw.append(values))
        return predicted, raw

    fitted = _fitted(*predict(views), truths, rows["group"].to_numpy(), spec, views, evaluate)
    write_adjustment(fitted.adjustment, output)
    predicted = fitted.shipped
    summary, replicates = summarize(
        spec,
        truths,
        fitted.cross_fitted if fitted.adjustment.thresholds else predicted,
        rows["group"].to_numpy(),
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
        bins=evaluate.calibration_bins,
    )
    summary["outputs"] = {"views": list(views), "other_views": other_views, **fitted.report}
    if views:
        plain = TASKS[spec.task].scores(truths, predict(())[0], np.ones((1, len(truths))), spec)[task.score]
        summary["outputs"] |= {"score": task.score, "without_views": float(plain[0]) if np.isfinite(plain[0]) else None}
    if fitted.adjustment.temperature != 1:  # the images that fitted it would show too small an error
        crossed = TASKS[spec.task].details(truths, fitted.cross_fitted, spec, evaluate.calibration_bins)
        summary["details"] |= {key: crossed[key] for key in ("calibration",) if key in crossed}
    constants = best_constants(training_examples(ingested, spec), spec)
    scenes = list(scenes_of(ingested, rows, spec))
    summary["constant"] = compare_with_constants(
        spec, truths, scenes, rows["group"].to_numpy(), replicates, constants, evaluate.confidence
    )
    groups = len(np.unique(rows["group"]))
    summary["baseline"] = _compare_with_baseline(spec, baselined, replicates, groups, evaluate.confidence)
    constant = summary["constant"][task.score]
    summary["objective"] = compare_with_objective(
        summary["scores"][task.score]["value"], task.score, objective.model_dump(), constant
    )
    for sentence in output_sentences(summary):
        print(f"evaluate: {sentence}", flush=True)
    print(f"evaluate: {constant_sentence(summary, task.score)}", flush=True)
    print(f"evaluate: {baseline_sentence(summary, task.score)}", flush=True)
    pairs = list(zip(truths, predicted, strict=True))
    predictions = _predictions(paths, pairs, spec)
    predictions.to_parquet(output / "predictions.parquet", index=False)
    pd.DataFrame(replicates).to_parquet(output / "replicates.parquet", index=False)
    wrong = predictions[predictions["wrong"]].sort_values("error", ascending=False, kind="stable")
    worst = wrong.head(evaluate.worst_images)
    summary["worst"] = worst[["path", "truth", "answer", "error"]].to_dict("records")
    if len(worst):
        _draw(rows.iloc[worst.index], [pairs[index] for index in worst.index], ingested, spec, output)
    (output / "scores.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    flat = {name: s["value"] for name, s in summary["scores"].items() if s["value"] is not None}
    return {
        **flat,
        "constant": {name: s["value"] for name, s in summary["constant"].items() if s["value"] is not None},
        "better_than_constant": constant["better"],
        **_baseline_metrics(summary["baseline"], task.score),
        "objective_met": summary["objective"]["met"],
        "images": len(paths),
        "errors": len(wrong),
    }


def _fitted(
    predicted: list[Any],
    raw: list[Any],
    truths: list[Any],
    group_N: np.ndarray[Any, Any],
    spec: TaskSpec,
    views: tuple[str, ...],
    evaluate: Evaluate,
) -> FittedOutputs:
    """Return the adjustment that is fitted on the validation images, where the network has one vector per image."""
    if REPRESENTATIONS[spec.representation].gives != "vector":
        return FittedOutputs(Adjustment(views), predicted, predicted, {})
    raw_NK = np.concatenate([values.float().cpu().numpy() for values in raw])
    return fit_outputs(Labelled(raw_NK, truths, group_N, spec), predicted, views, evaluate)


def _compare_with_baseline(
    spec: TaskSpec, baselined: Path, replicates: dict[str, Any], groups: int, confidence: float
) -> dict[str, Any]:
    """Return the scores of the baseline, and how much better the model is on the same resamples."""
    baseline: dict[str, Any] = json.loads((baselined / "scores.json").read_text())
    if not baseline["available"]:
        return baseline
    theirs = pd.read_parquet(baselined / "replicates.parquet")
    baseline["scores"] = {
        name: score
        | compare(theirs[name].to_numpy(), replicates[name], TASKS[spec.task].SCORES[name], groups, confidence)
        for name, score in baseline["scores"].items()
    }
    return baseline


def _baseline_metrics(baseline: dict[str, Any], score: str) -> dict[str, Any]:
    if not baseline["available"]:
        return {}
    figures = baseline["scores"][score]
    return {"baseline": figures["value"], "better_than_baseline": figures["better"]}


def _predictions(paths: Sequence[str], pairs: Sequence[Pair], spec: TaskSpec) -> pd.DataFrame:
    """Return one row per image: truth and prediction as text, the error, and the full prediction as JSON."""
    kind = TASKS[spec.task]
    rows = [
        {
            "path": path,
            "truth": kind.describe(truth, spec),
            "answer": kind.describe(prediction, spec),
            "error": kind.error(truth, prediction, spec),
            "wrong": kind.wrong(truth, prediction, spec),
            "record": json.dumps(kind.record(prediction, spec)),
        }
        for path, (truth, prediction) in zip(paths, pairs, strict=True)
    ]
    return pd.DataFrame(rows)


def _draw(rows: pd.DataFrame, pairs: Sequence[Pair], ingested: Path, spec: TaskSpec, output: Path) -> None:
    """Write `errors.png` with the images and, if predictions can be drawn, a file in `worst` for each.

    Drawn images have the truth on the left and the prediction on the right; captions have them in the same order.
    """
    task, pictures = TASKS[spec.task], []
    if task.DRAWN:
        (output / "worst").mkdir()
    for number, (pair, decoded) in enumerate(zip(pairs, decode_images(rows, ingested), strict=True)):
        drawn = [task.draw(decoded.image, one, spec) for one in (pair if task.DRAWN else pair[:1])]
        image = Image.fromarray(np.concatenate(drawn, axis=1))
        image.thumbnail((2 * MAX_SIDE, MAX_SIDE))
        pictures.append(np.asarray(image))
        if task.DRAWN:
            image.save(output / "worst" / f"{number:03d}.jpg", quality=88)
    captions = [" \N{RIGHTWARDS ARROW} ".join(task.describe(one, spec) for one in pair) for pair in pairs]
    contact_sheet(pictures, captions, columns=6).save(output / "errors.png")


if __name__ == "__main__":
    run(main)
