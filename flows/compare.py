"""Two representations, networks or anything else of one data set on one score.

`python -m flows.compare [--example NAME --source SOURCE] "KEY=VALUE ..." "KEY=VALUE ..."`: each argument is a variant
of params.yaml, or of a kept parameter set; the first is what the others are held against.
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
from flows.worktrees import changes_of, clone_name, params_with, run
from stages.config.load import load
from stages.core.errors import UserError

COMPARISONS = Path("work/compare")
DEMO = "data/raw/digits"


def measured(folder: Path) -> dict[str, Any]:
    """What a clone in which the line has run reached: its figures, its bootstrap, and on which images."""

    def read(name: str) -> Any:
        return json.loads((folder / "data" / name).read_text(encoding="utf-8"))

    params, scores = load(folder / "params.yaml"), read("evaluate/scores.json")
    return {
        "score": params.task.score,
        "value": scores["scores"][params.task.score],
        "better": scores["better"][params.task.score],
        "confidence": scores["confidence"],
        "replicates": pd.read_parquet(folder / "data/evaluate/replicates.parquet")[params.task.score].to_numpy(),
        "paths": pd.read_parquet(folder / "data/evaluate/predictions.parquet", columns=["path"])["path"].tolist(),
        "train_seconds": read("train/metrics.json")["seconds"],
        "onnx_bytes": read("export/metrics.json")["bytes"],
        "one_image_ms": read("benchmark/benchmark.json")["single_prediction_ms"],
        "report": str((folder / "data/report/index.html").absolute()),
    }


def difference(first: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """`other` less `first` with its percentile interval: both are scored on the same resamples of the same images.

    Raises:
        UserError: they were not.
    """
    if first["score"] != other["score"]:
        raise UserError(
            f"the variants have the scores {first['score']} and {other['score']}; compare on one task.score"
        )
    if first["paths"] != other["paths"] or len(first["replicates"]) != len(other["replicates"]):
        raise UserError(
            "the variants were not scored on the same resamples of the same validation images; leave ingest, split and "
            "evaluate alike"
        )
    delta_R = other["replicates"] - first["replicates"]
    tail = (1 - first["confidence"]) / 2
    low, high = np.nanquantile(delta_R[1:], [tail, 1 - tail])
    return {"value": float(delta_R[0]), "low": float(low), "high": float(high)}


def verdict(delta: dict[str, float], better: str) -> str:
    """Whether the other variant is better than the first, in a word."""
    if delta["low"] <= 0 <= delta["high"]:
        return "no difference shown"
    return "better" if (delta["value"] > 0) == (better == "higher") else "worse"


def table(variants: dict[str, dict[str, Any]]) -> str:
    """A Markdown table, a variant a row."""
    first = next(iter(variants.values()))
    sign = "higher" if first["better"] == "higher" else "lower"
    head = [
        "variant", f"{first['score'].replace('_', ' ')} ({sign} is better)", "less the first", "", "training", "ONNX",
        "one image",
    ]  # fmt: skip
    rows = []
    for words, variant in variants.items():
        value = variant["value"]
        cells = [f"`{words}`", f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"]
        if variant is first:
            cells += ["", ""]
        else:
            delta = difference(first, variant)
            cells += [
                f"{delta['value']:+.3f} [{delta['low']:+.3f}, {delta['high']:+.3f}]",
                verdict(delta, first["better"]),
            ]
        cells += [f"{variant['train_seconds']:.0f} s", f"{variant['onnx_bytes'] / 1e6:.1f} MB"]
        rows.append([*cells, f"{variant['one_image_ms']:.1f} ms"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def main(variants: list[str], name: str = "", source: str = "") -> dict[str, Any]:
    """Run every variant in a clone of its own and write the table to work/compare.

    Args:
        variants: changes of params.yaml as `KEY=VALUE ...`, two or more; the first is the baseline.
        name: of a parameter set in docs/examples to change instead of params.yaml; requires `source`.
        source: the data of `name`.

    Returns:
        `table` in Markdown, `file` that holds it, and `variants` with the figures and the report of each.

    Raises:
        UserError: a variant is wrong, or a run failed.
    """
    if len(variants) < 2 or len(set(variants)) < len(variants):
        raise UserError(f"{variants}: name two or more variants, all different")
    if bool(name) != bool(source):
        raise UserError("--example requires --source, and --source requires --example")
    label = name or load(Path("params.yaml")).ingest.name
    for variant in variants:  # a mistake in the last is reported before the first is run
        params_with([changes_of(variant)], variant)
    folders = {variant: example.main(name, source, variant) if name else _own(label, variant) for variant in variants}
    found = {variant: measured(folder) for variant, folder in folders.items()}
    first = next(iter(found.values()))
    shown = table(found)
    COMPARISONS.mkdir(parents=True, exist_ok=True)
    file = COMPARISONS / f"{label}.md"
    reports = "\n".join(f"- `{variant}`: {one['report']}" for variant, one in found.items())
    file.write_text(f"{shown}\n\n{reports}\n", encoding="utf-8")
    return {
        "table": shown,
        "file": str(file),
        "variants": [_summary(variant, one, first) for variant, one in found.items()],
    }


def _summary(variant: str, one: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Figures of one variant, without its resamples and paths, and its difference from the first."""
    kept = {key: value for key, value in one.items() if key not in ("replicates", "paths")}
    if one is first:
        return {"changes": variant, **kept}
    delta = difference(first, one)
    return {"changes": variant, **kept, "difference": delta, "verdict": verdict(delta, first["better"])}


def _own(name: str, variant: str) -> Path:
    """A variant of the params.yaml at hand, on the data that it names."""
    text = params_with([changes_of(variant)], variant)
    source = YAML(typ="safe", pure=True).load(text)["ingest"]["source"]
    folder = COMPARISONS / clone_name(name, variant)
    if source != DEMO:  # whose data are made in the clone itself
        text = params_with([changes_of(variant), {"ingest": {"source": str(Path(source).absolute())}}], variant)
    run(folder, text)
    return folder


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "compare")
    runpy.run_module("stages", run_name="__main__")
