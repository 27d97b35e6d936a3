"""Compare variants of params on one data set and one score.

`python -m flows.compare [--example NAME --source SOURCE] "KEY=VALUE ..." "KEY=VALUE ..."`: each argument is a variant
of params.yaml, or of an example. All other variants are compared with the first.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from flows import example
from flows.worktrees import change_params, clone_name, parse_changes, run_in_clone
from stages.config.load import load
from stages.core.errors import UserError
from stages.core.plurals import quantity

COMPARISONS = Path("work/compare")
DEMO = "data/raw/digits"


def read_results(folder: Path) -> dict[str, Any]:
    """Return the score, bootstrap replicates, image paths and other results of a run in a clone.

    Raises:
        UserError: params.yaml of the clone does not exist or is not valid.
    """

    def read(name: str) -> Any:
        return json.loads((folder / "data" / name).read_text(encoding="utf-8"))

    params, scores = load(folder / "params.yaml"), read("evaluate/scores.json")
    return {
        "score": params.task.score,
        "value": scores["scores"][params.task.score],
        "better": scores["better"][params.task.score],
        "constant": scores["constant"][params.task.score],
        "confidence": scores["confidence"],
        "replicates": pd.read_parquet(folder / "data/evaluate/replicates.parquet")[params.task.score].to_numpy(),
        "paths": pd.read_parquet(folder / "data/evaluate/predictions.parquet", columns=["path"])["path"].tolist(),
        "train_seconds": read("train/metrics.json")["seconds"],
        "onnx_bytes": read("export/metrics.json")["bytes"],
        "one_image_ms": read("benchmark/benchmark.json")["single_prediction_ms"],
        "report": str((folder / "data/report/index.html").absolute()),
    }


Interval = dict[str, float | None]
"""Value, low and high end; None if undefined."""


def difference(first: dict[str, Any], other: dict[str, Any]) -> Interval:
    """Return `other` minus `first` with the percentile interval of a paired bootstrap; None if undefined.

    Raises:
        UserError: the variants have different scores, or were not scored on the same resamples of the same images.
    """
    if first["score"] != other["score"]:
        raise UserError(
            f"task.score is {first['score']} in the first variant, but {other['score']} in another; use one for all"
        )
    if first["paths"] != other["paths"] or len(first["replicates"]) != len(other["replicates"]):
        raise UserError(
            "the variants were not scored on the same resamples of the same validation images; use the same params of "
            "ingest, split and evaluate"
        )
    delta_R = other["replicates"] - first["replicates"]
    defined = delta_R[1:][np.isfinite(delta_R[1:])]
    if not np.isfinite(delta_R[0]) or not len(defined):
        return {"value": None, "low": None, "high": None}
    tail = (1 - first["confidence"]) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return {"value": float(delta_R[0]), "low": float(low), "high": float(high)}


def verdict(delta: Interval, better: str) -> str:
    """Return "better", "worse", "no difference shown" or "undefined" for a variant compared with the first."""
    value, low, high = delta["value"], delta["low"], delta["high"]
    if value is None or low is None or high is None:
        return "undefined"
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if (value > 0) == (better == "higher") else "worse"


def _estimate(figures: Interval, sign: str = "") -> str:
    """Return a value with its interval; `sign` is "+" for differences."""
    value, low, high = (
        "undefined" if figures[name] is None else f"{figures[name]:{sign}.3f}" for name in ("value", "low", "high")
    )
    return value if figures["value"] is None else f"{value} [{low}, {high}]"


def table(variants: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table with one row per variant, and one for the constant prediction.

    All variants are compared with the first; the constant prediction is the same for all.

    Raises:
        UserError: a variant cannot be compared with the first; see `difference`.
    """
    first = next(iter(variants.values()))
    sign = "higher" if first["better"] == "higher" else "lower"
    head = [
        "variant", f"{first['score'].replace('_', ' ')} ({sign} is better)", "difference from the first", "verdict",
        "training time", "ONNX file", "time per image",
    ]  # fmt: skip
    rows = []
    for words, variant in variants.items():
        cells = [f"`{words}`", _estimate(variant["value"])]
        if variant is first:
            cells += ["", ""]
        else:
            delta = difference(first, variant)
            cells += [_estimate(delta, "+"), verdict(delta, first["better"])]
        cells += [f"{variant['train_seconds']:.0f} s", f"{variant['onnx_bytes'] / 1e6:.1f} MB"]
        rows.append([*cells, f"{variant['one_image_ms']:.1f} ms"])
    constant = first["constant"]
    rows.append([f"constant: {constant['prediction']}", _estimate(constant), *[""] * (len(head) - 2)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def main(variants: list[str], name: str = "", source: str = "") -> dict[str, Any]:
    """Run every variant in a clone of its own and write the table to work/compare.

    Args:
        variants: changes of params.yaml as `KEY=VALUE ...`, two or more; the first is the baseline.
        name: example in docs/examples to change instead of params.yaml; requires `source`.
        source: data of the example.

    Returns:
        `table` in Markdown, `file` that contains it, and `variants` with the results and the report of each.

    Raises:
        UserError: there are fewer than two variants, two are equal or one is invalid; only one of `name` and `source`
            is given, or one does not exist; a run failed; or the runs cannot be compared (see `difference`).
        subprocess.CalledProcessError: see `run_in_clone`.
    """
    if len(variants) < 2 or len(set(variants)) < len(variants):
        given = ", ".join(f"`{variant}`" for variant in variants) or "none"
        raise UserError(f"got {quantity(len(variants), 'variant')}: {given}; name two or more variants, all different")
    if bool(name) != bool(source):
        given, other = (f"--example {name}", "--source") if name else (f"--source {source}", "--example")
        raise UserError(f"{given} is given without {other}; give both or neither")
    label = name or load(Path("params.yaml")).ingest.name
    for variant in variants:  # report a mistake in the last variant before the first one runs
        change_params([parse_changes(variant)], variant)
    folders = {
        variant: example.main(name, source, variant) if name else _run_variant(label, variant) for variant in variants
    }
    found = {variant: read_results(folder) for variant, folder in folders.items()}
    first = next(iter(found.values()))
    shown = table(found)
    COMPARISONS.mkdir(parents=True, exist_ok=True)
    file = COMPARISONS / f"{label}.md"
    reports = "\n".join(f"- `{variant}`: {results['report']}" for variant, results in found.items())
    file.write_text(f"{shown}\n\n{reports}\n", encoding="utf-8")
    return {
        "table": shown,
        "file": str(file),
        "variants": [_summary(variant, results, first) for variant, results in found.items()],
    }


def _summary(variant: str, results: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Return the results of one variant, without replicates and paths, and its difference from the first."""
    kept = {key: value for key, value in results.items() if key not in ("replicates", "paths")}
    if results is first:
        return {"changes": variant, **kept}
    delta = difference(first, results)
    return {"changes": variant, **kept, "difference": delta, "verdict": verdict(delta, first["better"])}


def _run_variant(name: str, variant: str) -> Path:
    """Run a variant of params.yaml of the current folder in a clone; return the clone."""
    text = change_params([parse_changes(variant)], variant)
    source = YAML(typ="safe", pure=True).load(text)["ingest"]["source"]
    folder = COMPARISONS / clone_name(name, variant)
    if source != DEMO:  # the clone creates the demo data itself
        text = change_params([parse_changes(variant), {"ingest": {"source": str(Path(source).absolute())}}], variant)
    run_in_clone(folder, text)
    return folder


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "compare")
    runpy.run_module("stages", run_name="__main__")
