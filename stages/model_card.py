"""The model's card, for whoever deploys it: `python -m stages.model_card DATA_FOLDERS... OPENINGS OUTPUT`.

Its sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting"; its figures those of the stages.
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
from stages.dataset.annotations import class_names
from stages.dataset.manifest import parse_annotations, read_manifest
from stages.reports import data_report as data
from stages.reports import evaluation_report as evaluation
from stages.reports import model_limitations
from stages.reports import training_report as training
from stages.reports.finding_cards import ORDER, badge_of
from stages.reports.markdown import write_markdown
from stages.reports.stage_outputs import network_of, openings_of, read_json, waived_by
from stages.runner.stage import In, Out, run
from stages.runtime import Model, digest_of
from stages.tasks.ground_truth import truths_of
from stages.tasks.task_spec import TaskSpec, task_spec_of

AXES = {"probability": "NKHW", "value": "NS", "point": "NP", "restored": "NHW", "mask": "MHW"}
"""Letters of an output's axes, as far as they may be free: N images, M things (of other outputs, too)."""
MEANS = {
    "class": "the probability of each class, in the order of the labels; together 1",
    "classes": "the probability of each class by itself, in the order of the labels; from 0.5 on it counts as there",
    "cumulative": "the probability of each grade, the lowest first; together 1",
    "scalar": "the numbers, in their units",
    "density": "the numbers: sums of a density that the network draws",
    "coordinates": "of each point x and y, in pixels of the image as given, and the confidence that it is seen, 0 to 1",
    "heatmap": "of each point x and y, in pixels of the image as given, and the height of its peak, 0 to 1",
    "disc": "of each point x and y, in pixels of the image as given, and the height of its peak, 0 to 1",
    "mask": "the probability of each class at every pixel of the image as given; together 1",
    "image": "the answered image, white is 1",
    "boxes": "of each thing its box (x0, y0, x1, y1 in pixels of the image as given), its label's index, its score, "
    "and its mask where masks were learned",
    "watershed": "at every pixel of the image as given the probability of background, inside of a thing, and boundary; "
    "`stages.runtime` grows the things out of it",
}
"""By representation: what the outputs hold. A thing, class or point counts from .5 on where answers are counted."""
SHOWN = (0.01, 0.05, 0.5, 0.95, 0.99)  # quantiles of the training images
MOST_ROWS = 30  # of the table of classes, points or numbers; of more the worst half of it


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
    """Write `model-card.md`: what the model is, for what it may be used, and what is not known of it."""
    metadata, scores = read_json(exported / "metadata.json"), read_json(evaluated / "scores.json")
    manifest, curves = read_manifest(ingested), pd.read_csv(trained / "curves.csv")
    variants, figures = read_json(exported / "variants.json"), evaluation.figures(scores)
    findings = [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")]
    waived, opened = waived_by(gated), openings_of(openings, metadata["name"])
    trends = evaluation.related(pd.read_parquet(evaluated / "predictions.parquet"), manifest)
    file = _file(exported / "model.onnx")
    mine = [opening for opening in opened if opening["model"] == file["digest"][:12]]
    told = [
        *model_limitations.of_the_test(opened, mine, scores, _chosen(len(curves), tuned)),
        *model_limitations.of_the_scores(scores, figures["calibration_error"], trends),
        *model_limitations.of_the_data(findings, waived),
        *model_limitations.of_the_file(variants, metadata, scores["shares"]),
    ]
    size = write_markdown(
        output / "model-card.md",
        "model_card.md.j2",
        **file,
        metadata=metadata,
        variants=variants,
        inputs=_inputs(metadata["input_quantiles"]),
        means=MEANS[metadata["representation"]],
        **_training(trained, curves, scores),
        ingested=read_json(ingested / "metrics.json"),
        ingest=ingest,
        split=split,
        counted=_counted(manifest),
        numbers=_numbers(ingested, manifest, task_spec_of(metadata)),
        findings=_told(findings, waived),
        passed=sum(f.severity == "passed" for f in findings),
        scores=scores,
        target=evaluation.target(scores["objective"]),
        verdict=evaluation.verdict(scores),
        **evaluation.parts(scores),
        most_rows=MOST_ROWS,
        figures=figures,
        trends=[trend.says for trend in trends],
        benchmark=read_json(benchmarked / "benchmark.json"),
        opened=opened,
        mine=mine,
        scored=model_limitations.told_by(mine),
        limits=told,
    )
    return {"limits": len(told), "openings": len(opened), "bytes": size}


def _file(file: Path) -> dict[str, Any]:
    """Which file it is, and what comes out of its graph."""
    outputs = Model(file, threads=1, engine="onnxruntime").signature[1]
    return {
        "digest": digest_of(file),
        "model_bytes": file.stat().st_size,
        "outputs": [(name, kind, _shape(name, shape)) for name, kind, shape in outputs],
    }


def _training(trained: Path, curves: pd.DataFrame, scores: dict[str, Any]) -> dict[str, Any]:
    """What was trained, from what, and how far training is ahead of validation."""
    goal, metrics, params = scores["objective"], read_json(trained / "metrics.json"), read_json(trained / "params.json")
    gap = training.gap(curves, metrics["best_epoch"], goal, goal["score"] in scores["shares"], params)
    return {
        "network": network_of(params),
        "begun": params["network"]["weights"],
        "environment": read_json(trained / "environment.json"),
        "training": metrics,
        "epochs": len(curves),
        "gap": gap[0],
    }


def _chosen(epochs: int, tuned: Path) -> str:
    """What validation images chose."""
    trials = read_json(tuned / "metrics.json")["trials"]
    return f"the best of {epochs} epochs" + (f", and the best of {trials} sets of params" if trials > 1 else "")


def _inputs(inputs: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """Quantiles `SHOWN` of what the training images are like; what is alike in all is left out but for the size."""
    at = [inputs["quantiles"].index(quantile) for quantile in SHOWN]
    known = {name: values for name, values in inputs.items() if name not in ("images", "quantiles")}
    return [
        (data.DESCRIBED.get(name, name), [values[i] for i in at])
        for name, values in known.items()
        if len(set(values)) > 1 or name in ("width", "height")
    ]


def _shape(name: str, shape: Sequence[int]) -> str:
    """`N, 10`: numbers where an axis is fixed, letters where it is free."""
    letters = AXES.get(name, "M")
    return ", ".join(str(n) if n > 0 else letters[i] for i, n in enumerate(shape))


def _counted(manifest: pd.DataFrame) -> dict[str, int]:
    """Of each class, and of what is named in an image: how many training images hold it."""
    rows = manifest[manifest["split"] == "train"]
    named = (
        {*class_names(annotation), *json.loads(things)}
        for annotation, things in zip(parse_annotations(rows), rows["things"], strict=True)
    )
    return dict(Counter(name for names in named for name in names))


def _numbers(ingested: Path, manifest: pd.DataFrame, spec: TaskSpec) -> list[tuple[str, str, list[float]]]:
    """Of each number that is asked its unit, and the smallest, median and largest one of the training images."""
    if spec.task != "regression":
        return []
    paths = manifest.loc[manifest["split"] == "train", "path"].tolist()
    value_NS = np.stack(truths_of(ingested, paths, spec))
    ends_3S = np.quantile(value_NS, (0, 0.5, 1), axis=0)
    return [(name, spec.units.get(name, ""), ends_3S[:, s].tolist()) for s, name in enumerate(spec.scalars)]


def _told(findings: list[Finding], waived: dict[str, str]) -> list[dict[str, str]]:
    """What did not pass, the worst first."""
    told = [
        {"id": f.id, "badge": badge_of(f, waived.get(f.id, "")), "message": f.message, "reason": waived.get(f.id, "")}
        for f in findings
        if f.severity != "passed"
    ]
    return sorted(told, key=lambda one: (ORDER.index(one["badge"]), one["id"]))


if __name__ == "__main__":
    run(main)
