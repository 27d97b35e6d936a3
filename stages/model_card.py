"""Write the model card: `python -m stages.model_card DATA_FOLDERS... OPENINGS OUTPUT`.

Its sections follow Mitchell et al. 2019, "Model Cards for Model Reporting"; its figures come from the other stages.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_data import Ingest, Split
from stages.core.findings import Finding, read_findings
from stages.core.plurals import quantity
from stages.dataset.annotations import class_names
from stages.dataset.manifest import parse_annotations, read_manifest
from stages.reports import data_report as data
from stages.reports import evaluation_report as evaluation
from stages.reports import model_limitations
from stages.reports import training_report as training
from stages.reports.finding_cards import ORDER, badge_of, merge_columns
from stages.reports.markdown import write_markdown
from stages.reports.stage_outputs import network_name, read_json, read_openings, read_waivers
from stages.runner.stage import In, Out, run
from stages.runtime import Model, compute_digest
from stages.tasks.ground_truth import truths_of
from stages.tasks.task_spec import TaskSpec, task_spec_of

AXES = {"probability": "NKHW", "value": "NS", "point": "NP", "restored": "NHW", "mask": "MHW"}
"""Letters of the dynamic axes of an output: N images, M instances; outputs that are not listed have the axis M."""
OUTPUT_MEANINGS = {
    "class": "the probability of each class, in the order of the labels; the sum is 1",
    "classes": "the independent probability of each class, in the order of the labels; a class is predicted from 0.5",
    "cumulative": "the probability of each grade, lowest first; the sum is 1",
    "scalar": "the numbers, in their units",
    "density": "the numbers: sums of a predicted density",
    "coordinates": "x and y of each point, in pixels of the original image, and its visibility, 0 to 1",
    "heatmap": "x and y of each point, in pixels of the original image, and the height of its peak, 0 to 1",
    "disc": "x and y of each point, in pixels of the original image, and the height of its peak, 0 to 1",
    "mask": "the probability of each class at every pixel of the original image; the sum is 1",
    "image": "the predicted image, where white is 1",
    "boxes": "the box of each instance (x0, y0, x1, y1 in pixels of the original image), its label index, its score, "
    "and its mask if masks were trained",
    "watershed": "the probability of background, interior and boundary at every pixel of the original image; "
    "`stages.runtime` computes the instances from it (watershed)",
}
"""Meaning of the outputs, by representation. Instances, classes and points count from a score of 0.5."""
SHOWN = (0.01, 0.05, 0.5, 0.95, 0.99)  # quantiles of the training images
MAX_ROWS = 30  # in the table of classes, points or numbers; longer tables show the worst rows


def main(
    ingested: In,
    validated: In,
    audited: In,
    gated: In,
    tuned: In,
    trained: In,
    evaluated: In,
    exported: In,
    benchmarked: In,
    openings: In,
    output: Out,
    *,
    ingest: Ingest,
    split: Split,
) -> dict[str, Any]:
    """Write `model-card.md`: what the model is, its intended use, and its limits."""
    metadata, scores = read_json(exported / "metadata.json"), read_json(evaluated / "scores.json")
    manifest, curves = read_manifest(ingested), pd.read_csv(trained / "curves.csv")
    folds = read_json(trained / "out_of_fold.json") if (trained / "out_of_fold.json").exists() else None
    variants, figures = read_json(exported / "variants.json"), evaluation.task_figures(scores)
    findings = [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")]
    waived, opened = read_waivers(gated), read_openings(openings, metadata["name"])
    trends = evaluation.error_trends(pd.read_parquet(evaluated / "predictions.parquet"), manifest)
    file = _file(exported / "model.onnx")
    mine = [opening for opening in opened if opening["model"] == file["digest"][:12]]
    limits = [
        *model_limitations.sealed_test_limits(opened, mine, scores, _selected(len(curves), tuned, folds)),
        *model_limitations.score_limits(scores, figures["calibration_error"], trends),
        *model_limitations.data_limits(findings, waived),
        *model_limitations.file_limits(variants, metadata, scores["shares"]),
    ]
    size = write_markdown(
        output / "model-card.md",
        "model_card.md.j2",
        **file,
        metadata=metadata,
        variants=variants,
        inputs=_inputs(metadata["input_quantiles"]),
        means=OUTPUT_MEANINGS[metadata["representation"]],
        **_training(trained, curves, scores),
        folds=folds,
        fold_sentences=training.fold_sentences(folds) if folds else [],
        ingested=read_json(ingested / "metrics.json"),
        ingest=ingest,
        split=split,
        counted=_counted(manifest),
        numbers=_numbers(ingested, manifest, task_spec_of(metadata)),
        findings=_finding_rows(findings, waived),
        passed=sum(f.severity == "passed" for f in merge_columns(findings)),
        scores=scores,
        target=evaluation.objective_target(scores["objective"]),
        verdict=evaluation.objective_verdict(scores),
        outcome=evaluation.objective_outcome(scores["objective"]),
        constant=evaluation.constant_sentence(scores, scores["objective"]["score"]),
        # Versions of earlier code, whose cards `release` writes, have no baseline.
        baseline=evaluation.baseline_sentence(scores, scores["objective"]["score"]) if "baseline" in scores else "",
        **evaluation.parts_table(scores),
        most_rows=MAX_ROWS,
        figures=figures,
        output_sentences=evaluation.output_sentences(scores),
        trends=[trend.sentence for trend in trends],
        benchmark=read_json(benchmarked / "benchmark.json"),
        opened=opened,
        mine=mine,
        scored=model_limitations.completed_openings(mine),
        limits=limits,
    )
    return {"limits": len(limits), "openings": len(opened), "bytes": size}


def _file(file: Path) -> dict[str, Any]:
    """Return the digest, size and outputs of the model file."""
    outputs = Model(file, threads=1, engine="onnxruntime").signature[1]
    return {
        "digest": compute_digest(file),
        "model_bytes": file.stat().st_size,
        "outputs": [(name, kind, _shape(name, shape)) for name, kind, shape in outputs],
    }


def _training(trained: Path, curves: pd.DataFrame, scores: dict[str, Any]) -> dict[str, Any]:
    """Return the network, its initial weights, the environment and the gap between training and validation."""
    goal, metrics, params = scores["objective"], read_json(trained / "metrics.json"), read_json(trained / "params.json")
    gap = training.overfitting_sentences(curves, metrics["best_epoch"], goal, goal["score"] in scores["shares"], params)
    return {
        "network": network_name(params),
        "initial_weights": params["network"]["weights"],
        "environment": read_json(trained / "environment.json"),
        "training": metrics,
        "epochs": len(curves),
        "gap": gap[0],
    }


def _selected(epochs: int, tuned: Path, folds: dict[str, Any] | None) -> str:
    """Return what was selected on validation data, in words; empty if nothing was.

    Args:
        epochs: number of epochs of the training.
        tuned: output folder of tune.
        folds: content of `out_of_fold.json`, whose members selected their epochs on folds of the training images.
    """
    trials = read_json(tuned / "metrics.json")["trials"]
    automatic = folds is not None and folds["requested"] == "auto" and len(folds["validation"]) > 1
    chosen = [
        f"the best of {quantity(epochs, 'epoch')}" if folds is None else "",
        "the better of the ensemble and the mean of its weights" if automatic else "",
        f"the best of {trials} trials" if trials > 1 else "",
    ]
    return ", and ".join(part for part in chosen if part)


def _inputs(inputs: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """Return the quantiles `SHOWN` of each statistic of the training images, if it varies or is a width or height."""
    at = [inputs["quantiles"].index(quantile) for quantile in SHOWN]
    known = {name: values for name, values in inputs.items() if name not in ("images", "quantiles")}
    return [
        (data.DESCRIBED.get(name, name), [values[i] for i in at])
        for name, values in known.items()
        if len(set(values)) > 1 or name in ("width", "height")
    ]


def _shape(name: str, shape: Sequence[int]) -> str:
    """Return a shape such as `N, 10`: numbers for fixed axes, letters for dynamic axes."""
    letters = AXES.get(name, "M")
    return ", ".join(str(n) if n > 0 else letters[i] for i, n in enumerate(shape))


def _counted(manifest: pd.DataFrame) -> dict[str, int]:
    """Return the number of training images that contain each class or named object."""
    rows = manifest[manifest["split"] == "train"]
    named = (
        {*class_names(annotation), *json.loads(objects)}
        for annotation, objects in zip(parse_annotations(rows), rows["things"], strict=True)
    )
    return dict(Counter(name for names in named for name in names))


def _numbers(ingested: Path, manifest: pd.DataFrame, spec: TaskSpec) -> list[tuple[str, str, list[float]]]:
    """Return name, unit, and training minimum, median and maximum of each regression target; empty for other tasks."""
    if spec.task != "regression":
        return []
    paths = manifest.loc[manifest["split"] == "train", "path"].tolist()
    value_NS = np.stack(truths_of(ingested, paths, spec))
    ends_3S = np.quantile(value_NS, (0, 0.5, 1), axis=0)
    return [(name, spec.units.get(name, ""), ends_3S[:, s].tolist()) for s, name in enumerate(spec.scalars)]


def _finding_rows(findings: list[Finding], waived: dict[str, str]) -> list[dict[str, str]]:
    """Return the findings that did not pass, worst first."""
    rows = [
        {"id": f.id, "badge": badge_of(f, waived.get(f.id, "")), "message": f.message, "reason": waived.get(f.id, "")}
        for f in findings
        if f.severity != "passed"
    ]
    return sorted(rows, key=lambda row: (ORDER.index(row["badge"]), row["id"]))


if __name__ == "__main__":
    run(main)
