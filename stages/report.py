"""One page that tells the whole story: `python -m stages.report DATA_FOLDERS... OPENINGS OUTPUT`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.frame import Finding, In, Out, run
from stages.frame.findings import read_findings
from stages.frame.sections import Evaluate
from stages.images.manifest import labels_of, read_manifest
from stages.pages import Album, cards, charts, count_by_severity, picture_file, write_page

FEW_CLASSES = 24  # up to here every class is shown as pictures
TABLE_CLASSES = 20  # up to here the confusions are a table with numbers
PER_CLASS, PER_EXTREME, PER_FINDING = 8, 6, 12  # thumbnails
SMALL, LARGE = 104, 144  # pixels of a photo's thumbnail
MOST_ROWS = 50  # of a table
STATISTICS = {
    "width": "width, pixels",
    "height": "height, pixels",
    "bytes": "file, bytes",
    "brightness": "brightness, 0 to 255",
    "contrast": "contrast, grey levels",
    "sharpness": "sharpness, grey levels",
}
EXTREMES = (
    ("Darkest", "brightness", True, "grey level {brightness:.0f}"),
    ("Brightest", "brightness", False, "grey level {brightness:.0f}"),
    ("Smallest", "area", True, "{width} \N{MULTIPLICATION SIGN} {height}"),
    ("Largest", "area", False, "{width} \N{MULTIPLICATION SIGN} {height}"),
    ("Least sharp", "sharpness", True, "sharpness {sharpness:.1f}"),
)
CLEAR_GAP, SLIGHT_GAP = 0.10, 0.03  # of a score, between training and validation


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
    scores, metadata = _json(evaluated / "scores.json"), _json(exported / "metadata.json")
    benchmark = _json(benchmarked / "benchmark.json")
    benchmark["latency"] = _against_torch(benchmark["latency"])
    found = _found(
        [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")], gated, album
    )
    size = write_page(
        output / "index.html",
        "report.html.j2",
        metadata=metadata,
        ingest=_json(ingested / "metrics.json"),
        prepare=_json(prepared / "metrics.json"),
        model_bytes=_json(exported / "metrics.json")["bytes"],
        evaluate=evaluate,
        scores=scores,
        verdict=_verdict(scores),
        benchmark=benchmark,
        sheet=picture_file(augmented / "sheet.png", "Training images as the network gets them, randomly changed"),
        opened=_opened(openings, metadata["name"]),
        how=_how(trained, metadata),
        **_look(manifest, album),
        **_data(manifest, ingested),
        **found,
        **_tuning(tuned),
        **_training(trained, scores["objective"]),
        **_scores(scores, album),
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
    met = "met" if goal["met"] else "missed"
    return (
        f"score       {goal['score']} {value} [{low}, {high}] on {scores['images']} validation images; "
        f"objective {goal['at_least']:g} {met}\n"
        f"prediction  {benchmark['single_prediction_ms']:.1f} ms for one image file on the CPU, {threads} thread(s)"
    )


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _table(file: Path) -> pd.DataFrame:
    """A CSV file as text: a class named NA stays one."""
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def _opened(openings: Path, name: str) -> list[dict[str, Any]]:
    """The record of openings of this data set's sealed test, oldest first."""
    record = _table(openings)
    record = record[record["data"] == name]
    figures = ["value", "low", "high"]
    record[figures] = record[figures].apply(pd.to_numeric, errors="coerce")
    return record.to_dict("records")


def _verdict(scores: dict[str, Any]) -> str:
    """What the objective and the interval together allow to say."""
    goal = scores["objective"]
    interval = scores["scores"].get(goal["score"], {"low": None, "high": None})
    low, high, images = interval["low"], interval["high"], scores["images"]
    if goal["value"] is None:
        return "The score is undefined on these validation images, so the objective cannot be judged."
    if low is None or high is None:
        return "No interval could be computed, so take the figure with care."
    if goal["met"] and low >= goal["at_least"]:
        return "Even the lower end of the interval reaches the objective."
    if goal["met"]:
        return f"The interval reaches below the objective, though: with {images} images, luck cannot be ruled out."
    if high >= goal["at_least"]:
        return f"The objective lies within the interval, though: {images} images are too few to rule it out."
    return "Even the upper end of the interval stays below it: more images, a closer look at the errors, or both."


def _look(manifest: pd.DataFrame, album: Album) -> dict[str, Any]:
    """Some pictures of each class (of the largest and the smallest, if there are many), and the extremes."""
    counts = manifest["label"].value_counts()
    labels = labels_of(manifest)
    if len(labels) > FEW_CLASSES:
        by_size = list(counts.index)
        labels = by_size[: FEW_CLASSES // 2] + by_size[-FEW_CLASSES // 2 :]
    classes = []
    for label in labels:
        paths = manifest.loc[manifest["label"] == label, "path"]
        spread = np.unique(np.linspace(0, len(paths) - 1, PER_CLASS).round().astype(int))
        classes.append((label, int(counts[label]), album.strip(paths.iloc[spread], side=SMALL)))
    rows = manifest.assign(area=manifest["width"] * manifest["height"])
    extremes = []
    for title, column, ascending, words in EXTREMES:
        if rows[column].nunique() > 1:
            paths = rows.sort_values([column, "path"], ascending=ascending)["path"][:PER_EXTREME]
            caption = f"{{label}}\n{words}"
            strip = album.strip(paths, lambda row, caption=caption: caption.format_map(row), LARGE)  # type: ignore[misc]
            extremes.append((title, strip))
    return {"classes": classes, "all_classes": len(counts), "extremes": extremes}


def _data(manifest: pd.DataFrame, ingested: Path) -> dict[str, Any]:
    """Samples per class, statistics by split, and what was rejected."""
    table = pd.crosstab(manifest["label"], manifest["split"]).reindex(columns=["train", "val"], fill_value=0)
    per_class = [(label, int(table.loc[label, "train"]), int(table.loc[label, "val"])) for label in labels_of(manifest)]
    statistics = []
    for column, words in STATISTICS.items():
        by_split = [manifest.loc[manifest["split"] == split, column] for split in ("train", "val")]
        statistics.append(
            (words, *(f(values) for values in by_split for f in (pd.Series.min, pd.Series.median, pd.Series.max)))
        )
    rejected = _table(ingested / "rejected.csv")
    kinds = [(f"{kind}s", manifest[kind].value_counts().to_dict()) for kind in ("format", "mode", "camera")]
    return {
        "per_class": sorted(per_class, key=lambda row: -row[1] - row[2]),
        "statistics": statistics,
        "kinds": [(words, counts) for words, counts in kinds if any(counts)],  # not where all are unknown
        "rejected_rows": rejected.head(MOST_ROWS).to_numpy().tolist(),
        "rejected_count": len(rejected),
    }


def _found(findings: list[Finding], gated: Path, album: Album) -> dict[str, Any]:
    """Findings as cards; those that only say what was not checked stand apart."""
    gate = _json(gated / "gate.json")
    waived = {waiver["id"]: waiver["reason"] for waiver in gate["waived"]}
    unknown = [f.says for f in findings if f.id.endswith("/not-checked")]
    shown = cards(
        [f for f in findings if f.severity != "info" or not f.id.endswith("/not-checked")], album, waived, PER_FINDING
    )
    concerns = [card for card in shown if card.badge not in ("passed", "info")]
    return {
        "cards": [card for card in shown if card.badge != "passed"],
        "passed": [card for card in shown if card.badge == "passed"],
        "severities": count_by_severity(concerns),
        "findings_count": len(concerns),
        "unused_waivers": gate["unused_waivers"],
        "not_checked": unknown,
    }


def _tuning(tuned: Path) -> dict[str, Any]:
    """The trials, best first, and a chart per number that was searched."""
    trials = pd.read_csv(tuned / "trials.csv").sort_values("score", ascending=False, na_position="last")
    keys = [column for column in trials.columns if column not in ("number", "score", "seconds")]
    told = trials.dropna(subset=["score"])
    drawn = []
    for key in keys[:6]:
        if len(told) > 1 and pd.api.types.is_numeric_dtype(told[key]) and told[key].nunique() > 1:
            log = told[key].min() > 0 and told[key].max() / told[key].min() > 8
            drawn.append((key, charts.scatter(told[key].tolist(), told["score"].tolist(), key, "score", 0, bool(log))))
    rows = [
        [int(t["number"]), t["score"], t["seconds"], *(t[k] for k in keys)]
        for t in trials.head(MOST_ROWS).to_dict("records")
    ]
    return {"best": _json(tuned / "best.json"), "trials": rows, "trial_keys": keys, "trial_charts": drawn}


def _training(trained: Path, goal: dict[str, Any]) -> dict[str, Any]:
    """Curves, and in words what they say."""
    curves, metrics = pd.read_csv(trained / "curves.csv"), _json(trained / "metrics.json")
    epochs, best = curves["epoch"].tolist(), metrics["best_epoch"]
    score = goal["score"].replace("_", " ")
    drawn = [
        charts.curves({"training": curves[f"train_{kind}"].tolist(), "validation": curves[f"val_{kind}"].tolist()},
                      epochs, "epoch", ylabel, best)
        for kind, ylabel in (("loss", "loss"), ("score", score))
    ]  # fmt: skip
    return {"training": metrics, "curves": drawn, "gap": _gap(curves, best, goal), "epochs": len(epochs)}


def _gap(curves: pd.DataFrame, best: int, goal: dict[str, Any]) -> list[str]:
    """What the distance between training and validation means."""
    at = (
        curves[curves["epoch"] == best].iloc[0]
        if (curves["epoch"] == best).any()
        else curves.loc[curves["val_score"].idxmax()]
    )
    gap = at["train_score"] - at["val_score"]
    in_both = f"{at['train_score']:.3f} in training and {at['val_score']:.3f} in validation"
    figures = f"At the best epoch, {best}, the score is {in_both}"
    if gap > CLEAR_GAP:
        said = [f"{figures}: a gap of {gap:.3f}. The network overfits: it knows its training images better than their "
                "kind. More images, more augmentation, more weight decay or dropout work against it."]  # fmt: skip
    elif gap > SLIGHT_GAP:
        said = [f"{figures}: a gap of {gap:.3f}, some overfitting."]
    elif gap < -SLIGHT_GAP:
        said = [
            f"{figures}. Validation being ahead is usual where augmentation or dropout make training the harder task."
        ]
    else:
        said = [f"{figures}: hardly any gap, so no sign of overfitting."]
    if max(at["train_score"], at["val_score"]) < goal["at_least"]:
        said.append(
            f"Training itself stays below the objective of {goal['at_least']:g}: underfitting, or labels that disagree."
        )
    lowest = curves.loc[curves["val_loss"].idxmin()]
    rise = curves["val_loss"].iloc[-1] / lowest["val_loss"] - 1
    if rise > 0.1:
        said.append(
            f"The validation loss was lowest at epoch {lowest['epoch']:.0f} and rose by {rise:.0%} until the end."
        )
    elif best == curves["epoch"].iloc[-1] and at["val_score"] < goal["at_least"]:
        said.append("The best epoch is the last one: training longer may still help.")
    return said


def _scores(scores: dict[str, Any], album: Album) -> dict[str, Any]:
    """Confusions, calibration, and the worst errors as pictures."""
    labels, confusion = scores["labels"], scores["confusion"]
    bins = [b for b in scores["calibration"]["bins"] if b["count"] and b["accuracy"] is not None]
    wrong = [(i, j) for i, row in enumerate(confusion) for j, count in enumerate(row) if i != j and count]
    pairs = [(confusion[i][j], confusion[i][j] / sum(confusion[i]), labels[i], labels[j]) for i, j in wrong]
    worst = {error["path"]: error for error in scores["worst"]}
    strip = album.strip(worst, lambda row: _said(worst[row["path"]]), LARGE if len(worst) <= 120 else SMALL)
    lowest_first = sorted(scores["per_class"], key=lambda c: (c["recall"]["value"] is None, c["recall"]["value"]))
    return {
        "lowest_first": lowest_first,
        "heat_map": charts.heat_map(confusion, labels) if len(labels) > TABLE_CLASSES else None,
        "confused": sorted(pairs, reverse=True)[:15],
        "reliability": charts.reliability(*([b[k] for b in bins] for k in ("confidence", "accuracy", "count")))
        if bins
        else None,
        "worst": strip,
    }


def _said(error: dict[str, Any]) -> str:
    return f"is {error['label']}\nsaid {error['predicted']}\n{error['confidence']:.0%} sure"


def _against_torch(latency: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Timings with how many times faster each is than torch at the same batch size and threads."""
    torch = {(t["batch"], t["threads"]): t["median_ms"] for t in latency if t["runtime"] == "torch"}
    return [
        t | {"times": torch[key] / t["median_ms"] if (key := (t["batch"], t["threads"])) in torch else None}
        for t in latency
    ]


def _how(trained: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """What is needed to make it again."""
    environment = _json(trained / "environment.json")
    packages = environment.pop("packages", {})
    versions = {
        "data version": metadata["data_version"],
        "commit": metadata["commit"],
        "params": metadata["params_hash"],
    }
    return {"versions": versions | environment, "packages": packages, "params": _json(trained / "params.json")}


if __name__ == "__main__":
    run(main)
