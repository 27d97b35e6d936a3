"""Write the report page: `python -m stages.report DATA_FOLDERS... OPENINGS OUTPUT`."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config.schema_task import Evaluate
from stages.core.findings import Finding, read_findings
from stages.core.plurals import quantity
from stages.dataset.manifest import read_manifest
from stages.images.display import STRETCHED
from stages.reports import Album, count_by_severity, make_cards, thumbnail_of_file, write_page
from stages.reports import data_report as data
from stages.reports import evaluation_report as evaluation
from stages.reports import training_report as training
from stages.reports import tuning_report as tuning
from stages.reports.finding_cards import merge_columns
from stages.reports.open_questions import open_questions
from stages.reports.stage_outputs import network_name, read_json, read_openings, read_table, read_waivers
from stages.runner.stage import In, Out, run

PER_FINDING = 12  # thumbnails
SMALL, LARGE = 104, 144  # side of a thumbnail, pixels


def main(
    ingested: In,
    validated: In,
    audited: In,
    gated: In,
    prepared: In,
    augmented: In,
    tuned: In,
    trained: In,
    evaluated: In,
    exported: In,
    benchmarked: In,
    openings: In,
    output: Out,
    *,
    evaluate: Evaluate,
) -> dict[str, Any]:
    """Write the report `index.html`, with the score first and open questions last, and its summary `summary.txt`."""
    manifest = read_manifest(ingested)
    album = Album(manifest, ingested)
    scores, metadata = read_json(evaluated / "scores.json"), read_json(exported / "metadata.json")
    benchmark = read_json(benchmarked / "benchmark.json")
    benchmark["latency"] = _with_speedup(benchmark["latency"])
    found = [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")]
    findings = _finding_cards(found, gated, album)
    size = write_page(
        output / "index.html",
        "report.html.j2",
        metadata=metadata,
        ingest=read_json(ingested / "metrics.json"),
        prepare=read_json(prepared / "metrics.json"),
        model_bytes=read_json(exported / "metrics.json")["bytes"],
        evaluate=evaluate,
        scores=scores,
        verdict=evaluation.objective_verdict(scores),
        target=evaluation.objective_target(scores["objective"]),
        outcome=evaluation.objective_outcome(scores["objective"]),
        constant=evaluation.constant_sentence(scores, scores["objective"]["score"]),
        baseline=evaluation.baseline_sentence(scores, scores["objective"]["score"]),
        what=_title(metadata, read_json(trained / "params.json")),
        weights=Counter(layer["state"] for layer in read_json(trained / "weights.json")),
        benchmark=benchmark,
        exported=read_json(exported / "variants.json"),
        sheet=thumbnail_of_file(augmented / "sheet.png", "Augmented training images, as the network receives them"),
        variants=thumbnail_of_file(
            augmented / "variants.png", "Training images without augmentation, each with several random variants"
        ),
        policy=read_json(augmented / "policy.json"),
        levels_note=album.note,
        drawn_note=STRETCHED if metadata["depth"] == 16 else "",
        opened=read_openings(openings, metadata["name"]),
        how=_provenance(trained, metadata),
        **data.sample_images(manifest, album),
        **data.describe_dataset(manifest, read_table(ingested / "rejected.csv")),
        **findings,
        open_questions=open_questions(found, manifest, scores["task"], metadata["labels"]),
        **tuning.search_summary(tuned, scores["better"][scores["objective"]["score"]] == "higher"),
        **_training(trained, scores),
        **evaluation.parts_table(scores),
        **_errors(scores, album, evaluated),
        output_sentences=evaluation.output_sentences(scores),
        details=evaluation.task_charts(scores),
        trends=evaluation.trend_charts(pd.read_parquet(evaluated / "predictions.parquet"), manifest),
    )
    summary = _summary(scores, benchmark)
    print(summary)
    (output / "summary.txt").write_text(summary + "\n")
    return {"findings": findings["findings_count"], "bytes": size}


def _summary(scores: dict[str, Any], benchmark: dict[str, Any]) -> str:
    """Return the score with its interval and the latency, as printed at the end of a run."""
    goal, threads = scores["objective"], benchmark["latency"][0]["threads"]
    value, low, high = (
        "undefined" if figure is None else f"{figure:.3f}" for figure in scores["scores"][goal["score"]].values()
    )
    relation, wanted = evaluation.objective_target(goal)
    objective = f"{wanted:g}" if relation == "at least" else f"{relation} {wanted:g}"
    unit = f" {scores['units'][goal['score']]}".rstrip()
    constant = scores["constant"][goal["score"]]
    better = {True: "better", False: "not shown to be better", None: "not compared"}[constant["better"]]
    without = "undefined" if constant["value"] is None else f"{constant['value']:.3f}"
    baseline = _baseline_line(scores["baseline"], goal["score"], unit)
    images = quantity(scores["images"], "validation image")
    milliseconds = f"{benchmark['single_prediction_ms']:.1f} ms"
    return (
        f"score       {goal['score']} {value} [{low}, {high}]{unit} on {images}; "
        f"objective {objective} {evaluation.objective_outcome(goal)}\n"
        f"constant    {without}{unit} by {constant['prediction']}; the model is {better}\n"
        f"baseline    {baseline}\n"
        f"prediction  {milliseconds} for one image file on the CPU, {quantity(threads, 'thread')}"
    )


def _baseline_line(baseline: dict[str, Any], name: str, unit: str) -> str:
    if not baseline["available"]:
        return f"none: {baseline['reason']}"
    figures = baseline["scores"][name]
    value, low, high = (
        "undefined" if figures[key] is None else f"{figures[key]:.3f}" for key in ("value", "low", "high")
    )
    better = {True: "better", False: "not shown to be better", None: "not compared"}[figures["better"]]
    return f"{value} [{low}, {high}]{unit} by {baseline['model']}; the network is {better}"


def _title(metadata: dict[str, Any], params: dict[str, Any]) -> str:
    """Return the task, the representation, the network and the working size in one line."""
    size = f"{metadata['size']} pixels, {metadata['fit']}"
    return f"{metadata['task']} as {metadata['representation']}, {network_name(params)}, {size}"


def _finding_cards(findings: list[Finding], gated: Path, album: Album) -> dict[str, Any]:
    """Return findings as cards, without the notes on what was not checked."""
    shown = make_cards(
        [f for f in merge_columns(findings) if f.severity != "info" or not f.id.endswith("/not-checked")],
        album,
        read_waivers(gated),
        PER_FINDING,
    )
    concerns = [card for card in shown if card.badge not in ("passed", "info")]
    return {
        "cards": [card for card in shown if card.badge != "passed"],
        "passed": [card for card in shown if card.badge == "passed"],
        "severities": count_by_severity(concerns),
        "findings_count": len(concerns),
        "unused_waivers": read_json(gated / "gate.json")["unused_waivers"],
    }


def _training(trained: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """Return charts and sentences about the training."""
    goal, params = scores["objective"], read_json(trained / "params.json")
    curves, metrics = pd.read_csv(trained / "curves.csv"), read_json(trained / "metrics.json")
    test, folds = trained / "range_test.json", trained / "out_of_fold.json"
    return {
        "training": metrics,
        "curves": training.curve_charts(curves, metrics["best_epoch"], goal["score"]),
        "epochs": len(curves),
        "gap": training.overfitting_sentences(
            curves, metrics["best_epoch"], goal, goal["score"] in scores["shares"], params
        ),
        "out_of_fold": read_json(folds) if folds.exists() else None,
        "fold_sentences": training.fold_sentences(read_json(folds)) if folds.exists() else [],
        "time_shares": training.time_shares(curves),
        "resolved": read_json(trained / "resolved.json"),
        "range_test": training.range_test_chart(read_json(test) if test.exists() else None),
    }


def _errors(scores: dict[str, Any], album: Album, evaluated: Path) -> dict[str, Any]:
    """Return the worst predictions: truth and prediction drawn side by side, or the image with both as a caption."""
    worst = {error["path"]: error for error in scores["worst"]}
    files = sorted((evaluated / "worst").glob("*.jpg"))
    if files:
        pairs = [
            (thumbnail_of_file(f, f"truth and prediction of {e['path']}"), e)
            for f, e in zip(files, worst.values(), strict=True)
        ]
        return {"worst": [], "drawn": pairs}
    side = LARGE if len(worst) <= 120 else SMALL
    return {"worst": album.strip(worst, lambda row: _error_caption(worst[row["path"]]), side), "drawn": []}


def _error_caption(error: dict[str, Any]) -> str:
    return f"truth {error['truth']}\npredicted {error['answer']}"


def _with_speedup(latency: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the timings with `times`, the speed-up over torch at equal batch size and threads; None without torch."""
    torch = {(t["batch"], t["threads"]): t["median_ms"] for t in latency if t["runtime"] == "torch"}
    return [
        t | {"times": torch[key] / t["median_ms"] if (key := (t["batch"], t["threads"])) in torch else None}
        for t in latency
    ]


def _provenance(trained: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return versions, machine, packages and params of the run."""
    environment = read_json(trained / "environment.json")
    packages = environment.pop("packages", {})
    versions = {
        "data version": metadata["data_version"],
        "commit": metadata["commit"],
        "params": metadata["params_hash"],
    }
    return {"versions": versions | environment, "packages": packages, "params": read_json(trained / "params.json")}


if __name__ == "__main__":
    run(main)
