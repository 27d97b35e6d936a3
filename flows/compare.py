"""Two representations, networks or anything else of one data set on one score.

`python -m flows.compare [--example NAME --source SOURCE] "KEY=VALUE ..." "KEY=VALUE ..."`: each argument is a variant
of params.yaml, or of a kept parameter set; the first is what the others are held against.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from flows import example
from flows.worktrees import changes_of, clone_name, params_with, run
from stages.core.errors import UserError
from stages.frame.params import load

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


def main(words: list[str]) -> None:
    """Run every variant in a clone of its own and print the table, kept in work/compare as well."""
    parser = argparse.ArgumentParser(prog="python -m flows.compare", description=__doc__)
    parser.add_argument("--example", metavar="NAME", help="of docs/examples, in place of params.yaml")
    parser.add_argument("--source", help="the example's data")
    parser.add_argument("variants", nargs="+", metavar="KEY=VALUE ...")
    asked = parser.parse_args(words)
    if len(asked.variants) < 2 or len(set(asked.variants)) < len(asked.variants):
        raise UserError(f"{asked.variants}: two variants or more are compared, all different")
    if bool(asked.example) != bool(asked.source):
        raise UserError("--example needs --source, and the reverse")
    name = asked.example or load(Path("params.yaml")).ingest.name
    folders = {}
    for variant in asked.variants:  # a mistake in the last is told before the first is run
        params_with([changes_of(variant)], variant)
    for variant in asked.variants:
        if asked.example:
            folders[variant] = example.main(name, asked.source, variant)
        else:
            folders[variant] = _own(name, variant)
    found = table({variant: measured(folder) for variant, folder in folders.items()})
    COMPARISONS.mkdir(parents=True, exist_ok=True)
    file = COMPARISONS / f"{name}.md"
    reports = "\n".join(f"- `{v}`: {f.absolute() / 'data/report/index.html'}" for v, f in folders.items())
    file.write_text(f"{found}\n\n{reports}\n", encoding="utf-8")
    print(f"\n{found}\n\n{reports}\nkept in {file}")


def _own(name: str, variant: str) -> Path:
    """A variant of the params.yaml at hand, on the data that it names."""
    text = params_with([changes_of(variant)], variant)
    source = YAML(typ="safe", pure=True).load(text)["ingest"]["source"]
    folder = COMPARISONS / clone_name(name, variant)
    if source != DEMO:  # whose data are made in the clone itself
        text = params_with([changes_of(variant), {"ingest": {"source": str(Path(source).absolute())}}], variant)
    run(folder, text)
    return folder


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
