"""One page that tells the whole story: `python -m stages.report DATA_FOLDERS... OPENINGS OUTPUT`."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config.schema_task import Evaluate
from stages.core.findings import Finding, read_findings
from stages.dataset.manifest import read_manifest
from stages.reports import Album, cards, count_by_severity, picture_file, write_page
from stages.reports import data_report as data
from stages.reports import evaluation_report as evaluation
from stages.reports import training_report as training
from stages.reports import tuning_report as tuning
from stages.reports.stage_outputs import network_of, openings_of, read_json, read_table, waived_by
from stages.runner.stage import In, Out, run

PER_FINDING = 12  # thumbnails
SMALL, LARGE = 104, 144  # pixels of a photo's thumbnail


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
    """Write `index.html`, the answer first and what is unknown last; and its gist as `summary.txt`."""
    manifest = read_manifest(ingested)
    album = Album(manifest, ingested)
    scores, metadata = read_json(evaluated / "scores.json"), read_json(exported / "metadata.json")
    benchmark = read_json(benchmarked / "benchmark.json")
    benchmark["latency"] = _against_torch(benchmark["latency"])
    found = _found(
        [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")], gated, album
    )
    size = write_page(
        output / "index.html",
        "report.html.j2",
        metadata=metadata,
        ingest=read_json(ingested / "metrics.json"),
        prepare=read_json(prepared / "metrics.json"),
        model_bytes=read_json(exported / "metrics.json")["bytes"],
        evaluate=evaluate,
        scores=scores,
        verdict=evaluation.verdict(scores),
        target=evaluation.target(scores["objective"]),
        what=_what(metadata, read_json(trained / "params.json")),
        weights=Counter(layer["state"] for layer in read_json(trained / "weights.json")),
        benchmark=benchmark,
        exported=read_json(exported / "variants.json"),
        sheet=picture_file(augmented / "sheet.png", "Training images as the network gets them, randomly changed"),
        variants=picture_file(augmented / "variants.png", "Some training images as they are, and changed in many ways"),
        policy=read_json(augmented / "policy.json"),
        opened=openings_of(openings, metadata["name"]),
        how=_how(trained, metadata),
        **data.look(manifest, album),
        **data.told(manifest, read_table(ingested / "rejected.csv")),
        **found,
        **tuning.tuning(tuned, scores["better"][scores["objective"]["score"]] == "higher"),
        **_training(trained, scores),
        **evaluation.parts(scores),
        **_errors(scores, album, evaluated),
        details=evaluation.details(scores),
        trends=evaluation.trends(pd.read_parquet(evaluated / "predictions.parquet"), manifest),
    )
    summary = _summary(scores, benchmark)
    print(summary)
    (output / "summary.txt").write_text(summary + "\n")
    return {"findings": found["findings_count"], "bytes": size}


def _summary(scores: dict[str, Any], benchmark: dict[str, Any]) -> str:
    """The score with its interval and the latency, as the last lines on the terminal."""
    goal, threads = scores["objective"], benchmark["latency"][0]["threads"]
    value, low, high = (
        "undefined" if figure is None else f"{figure:.3f}" for figure in scores["scores"][goal["score"]].values()
    )
    words, wanted = evaluation.target(goal)
    objective = f"{wanted:g}" if words == "at least" else f"{words} {wanted:g}"
    unit = f" {scores['units'][goal['score']]}".rstrip()
    return (
        f"score       {goal['score']} {value} [{low}, {high}]{unit} on {scores['images']} validation images; "
        f"objective {objective} {'met' if goal['met'] else 'missed'}\n"
        f"prediction  {benchmark['single_prediction_ms']:.1f} ms for one image file on the CPU, {threads} thread(s)"
    )


def _what(metadata: dict[str, Any], params: dict[str, Any]) -> str:
    """The question, the form in which it is taught, and the network, in one line."""
    size = f"{metadata['size']} pixels, {metadata['fit']}"
    return f"{metadata['task']}, taught as {metadata['representation']}, by {network_of(params)} at {size}"


def _found(findings: list[Finding], gated: Path, album: Album) -> dict[str, Any]:
    """Findings as cards; those that only say what was not checked stand apart."""
    unknown = [f.message for f in findings if f.id.endswith("/not-checked")]
    shown = cards(
        [f for f in findings if f.severity != "info" or not f.id.endswith("/not-checked")],
        album,
        waived_by(gated),
        PER_FINDING,
    )
    concerns = [card for card in shown if card.badge not in ("passed", "info")]
    return {
        "cards": [card for card in shown if card.badge != "passed"],
        "passed": [card for card in shown if card.badge == "passed"],
        "severities": count_by_severity(concerns),
        "findings_count": len(concerns),
        "unused_waivers": read_json(gated / "gate.json")["unused_waivers"],
        "not_checked": unknown,
    }


def _training(trained: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """Curves, and in words what they say."""
    goal, params = scores["objective"], read_json(trained / "params.json")
    curves, metrics = pd.read_csv(trained / "curves.csv"), read_json(trained / "metrics.json")
    tested = trained / "range_test.json"
    return {
        "training": metrics,
        "curves": training.course(curves, metrics["best_epoch"], goal["score"]),
        "epochs": len(curves),
        "gap": training.gap(curves, metrics["best_epoch"], goal, goal["score"] in scores["shares"], params),
        "pace": training.pace(curves),
        "resolved": read_json(trained / "resolved.json"),
        "range_test": training.range_test(read_json(tested) if tested.exists() else None),
    }


def _errors(scores: dict[str, Any], album: Album, evaluated: Path) -> dict[str, Any]:
    """The worst answers as pictures: truth and answer drawn side by side, or the image with both in words."""
    worst = {error["path"]: error for error in scores["worst"]}
    drawn = sorted((evaluated / "worst").glob("*.jpg"))
    if drawn:
        both = [
            (picture_file(f, f"truth and answer of {e['path']}"), e) for f, e in zip(drawn, worst.values(), strict=True)
        ]
        return {"worst": [], "drawn": both}
    side = LARGE if len(worst) <= 120 else SMALL
    return {"worst": album.strip(worst, lambda row: _said(worst[row["path"]]), side), "drawn": []}


def _said(error: dict[str, Any]) -> str:
    return f"is {error['truth']}\nsaid {error['answer']}"


def _against_torch(latency: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Timings with how many times faster each is than torch at the same batch size and threads."""
    torch = {(t["batch"], t["threads"]): t["median_ms"] for t in latency if t["runtime"] == "torch"}
    return [
        t | {"times": torch[key] / t["median_ms"] if (key := (t["batch"], t["threads"])) in torch else None}
        for t in latency
    ]


def _how(trained: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """What is needed to make it again."""
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
