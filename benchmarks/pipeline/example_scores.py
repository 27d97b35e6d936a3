"""What kept parameter sets reached, into docs/results and the README: `python -m benchmarks.pipeline.example_scores PROJECT...`.

A project is a clone in which the line has run, as `make example` leaves in work/examples. Its DVC metrics and scores
are kept in docs/results/runs, a file a run, and the table is made of these files. What is not named keeps its file. Of
a project that ran the demo, its last lines are kept too.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from stages.config.load import load
from stages.reports.evaluation_report import FEW_GROUPS
from stages.tasks.representations import representation_of

RUNS = Path("docs/results/runs")
DEMO = Path("docs/results/demo.txt")
README = Path("README.md")
STAGES = ("ingest", "prepare", "train", "evaluate", "export", "benchmark")
"""Whose DVC metrics are kept."""
HEAD = ["data set", "images", "asked", "network", "score", "validation", "sealed test", "training", "ONNX", "one image"]


def measured(project: Path) -> dict[str, Any]:
    """The record of a project in which the line has run; without a test where the seal was not opened."""

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
    """All that is kept, by data set; the rivals of a kept set behind it."""
    return [json.loads(file.read_text()) for file in sorted(RUNS.glob("*.json"), key=lambda file: file.stem)]


def table(kept: list[dict[str, Any]]) -> str:
    """The records as a Markdown table."""
    rows = []
    for r in kept:
        arrow = "" if r["better"] == "higher" else ", lower is better"
        unit = f", {r['unit']}" if r["unit"] else ""
        cells = [f"`{r['data_set']}`", f"{r['metrics']['ingest']['images']:,}"]
        cells += [f"{r['task']} as {r['representation']}", f"{r['network']}, {r['size']} px"]
        cells += [f"{r['score'].replace('_', ' ')}{unit}{arrow}", told(r, "validation")]
        cells += [told(r, "test") if r["test"] else "not opened"]
        cells += [f"{r['metrics']['train']['seconds'] / 60:.1f} min", f"{r['metrics']['export']['bytes'] / 1e6:.0f} MB"]
        rows.append([*cells, f"{r['one_image_ms']:.1f} ms"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEAD, ["---"] * len(HEAD), *rows])


def told(record: dict[str, Any], part: str) -> str:
    """Value and interval; and on how many groups it rests, where these are too few for it to be believed."""
    groups, score = record["groups"][part], figure(record[part][record["score"]])
    if groups >= FEW_GROUPS:
        return score
    return f"{score} of {groups} group{'s' if groups > 1 else ''} alone"


def figure(score: dict[str, float]) -> str:
    """Value and interval; three places where it is a share, else three figures.

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
    """The demo's last lines, as the README shows them."""
    return f"```\n{words}\n```"


def between(text: str, marker: str, content: str) -> str:
    """Text with what follows the comment `<!-- marker -->`, up to the next blank line, replaced."""
    return re.sub(rf"(<!-- {marker} -->\n).*?(?=\n\n)", lambda m: m.group(1) + content, text, flags=re.DOTALL)


def main(projects: list[Path]) -> None:
    """Read what was run there and write it down."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for project in projects:
        record = measured(project)
        name = project.name if project.name.startswith(record["data_set"]) else record["data_set"]
        (RUNS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        if record["data_set"] == "digits":
            summary = (project / "data/report/summary.txt").read_text()
            DEMO.write_text(f"{summary}report      data/report/index.html\n")
    found = table(records())
    readme = between(README.read_text(), "examples", found)
    README.write_text(between(readme, "demo", demo_block(DEMO.read_text().strip())))
    print(found)


if __name__ == "__main__":
    main([Path(project) for project in sys.argv[1:]])
