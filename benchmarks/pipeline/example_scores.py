"""Write the scores of the example configurations to docs/results and the README.

Run `python -m benchmarks.pipeline.example_scores PROJECT...`. A project is a clone in which the pipeline has run, such
as `make example` leaves in work/examples. The DVC metrics and scores of each project are written to a file in
docs/results/runs, and the table in the README is made from these files. Files of other projects stay as they are. The
last lines of the demo's output are also written if one of the projects ran the demo.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.result_pages import replace_block
from stages.config.load import load
from stages.reports.evaluation_report import FEW_GROUPS
from stages.tasks.representations import representation_of

RUNS = Path("docs/results/runs")
DEMO = Path("docs/results/demo.txt")
README = Path("README.md")
STAGES = ("ingest", "prepare", "train", "evaluate", "export", "benchmark")
"""Stages whose DVC metrics are recorded."""
HEAD = ["data set", "images", "task", "network", "score", "validation", "sealed test", "training", "ONNX", "one image"]


def measure(project: Path) -> dict[str, Any]:
    """Return the record of a project in which the pipeline has run; `test` is None if the test is still sealed."""

    def read(name: str) -> Any:
        return json.loads((project / "data" / name).read_text())

    params, scores = load(project / "params.yaml"), read("evaluate/scores.json")
    opened = read("unseal/scores.json") if (project / "data/unseal/scores.json").exists() else None
    asked = params.task.score
    network = params.network.name
    if network in ("unet", "mask_rcnn"):
        network += f" ({params.network.encoder})"
    return {
        "data_set": params.ingest.name,
        "task": params.task.name,
        "representation": representation_of(params.task.name, params.representation.name),
        "network": network,
        "size": params.prepare.size,
        "epochs": params.train.epochs,
        "score": asked,
        "unit": scores["units"][asked],
        "better": scores["better"][asked],
        "validation": scores["scores"],
        "test": opened["scores"] if opened else None,
        "groups": {"validation": scores["groups"], "test": opened["groups"] if opened else None},
        "metrics": {stage: read(f"{stage}/metrics.json") for stage in STAGES},
        "one_image_ms": read("benchmark/benchmark.json")["single_prediction_ms"],
    }


def records() -> list[dict[str, Any]]:
    """Return all records, sorted by the names of their files."""
    return [json.loads(file.read_text()) for file in sorted(RUNS.glob("*.json"), key=lambda file: file.stem)]


def table(kept: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    rows = []
    for r in kept:
        arrow = "" if r["better"] == "higher" else ", lower is better"
        unit = f", {r['unit']}" if r["unit"] else ""
        cells = [f"`{r['data_set']}`", f"{r['metrics']['ingest']['images']:,}"]
        cells += [f"{r['task']} as {r['representation']}", f"{r['network']}, {r['size']} px"]
        cells += [f"{r['score'].replace('_', ' ')}{unit}{arrow}", score_of(r, "validation")]
        cells += [score_of(r, "test") if r["test"] else "still sealed"]
        cells += [f"{r['metrics']['train']['seconds'] / 60:.1f} min", f"{r['metrics']['export']['bytes'] / 1e6:.0f} MB"]
        rows.append([*cells, f"{r['one_image_ms']:.1f} ms"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEAD, ["---"] * len(HEAD), *rows])


def score_of(record: dict[str, Any], part: str) -> str:
    """Return the value and interval of a score, and the number of groups if these are few.

    Args:
        record: record of a project.
        part: `validation` or `test`.
    """
    groups, score = record["groups"][part], figure(record[part][record["score"]])
    if groups >= FEW_GROUPS:
        return score
    return f"{score} of {groups} group{'s' if groups > 1 else ''} only"


def figure(score: dict[str, float]) -> str:
    """Format a value and its interval: three decimals if the upper end is in -1..1, else three significant digits.

    >>> figure({"value": 0.5, "low": 0.25, "high": 0.75})
    '0.500 [0.250, 0.750]'
    >>> figure({"value": 12.345, "low": 9.0, "high": 14.0})
    '12.3 [9.00, 14.0]'
    """
    value, low, high = (
        f"{x:.3f}" if abs(score["high"]) <= 1 else f"{x:#.3g}" for x in (score["value"], score["low"], score["high"])
    )
    return f"{value} [{low}, {high}]"


def demo_block(words: str) -> str:
    """Return the last lines of the demo's output as a block of the README."""
    return f"```\n{words}\n```"


def main(projects: list[Path]) -> None:
    """Write the records of projects, and the table and the demo's output in the README."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for project in projects:
        record = measure(project)
        name = project.name if project.name.startswith(record["data_set"]) else record["data_set"]
        (RUNS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        if record["data_set"] == "digits":
            summary = (project / "data/report/summary.txt").read_text()
            DEMO.write_text(f"{summary}report      data/report/index.html\n")
    found = table(records())
    readme = replace_block(README.read_text(), "examples", found)
    README.write_text(replace_block(readme, "demo", demo_block(DEMO.read_text().strip())))
    print(found)


if __name__ == "__main__":
    main([Path(project) for project in sys.argv[1:]])
