"""What kept parameter sets reached, into docs/results and the README: `python -m benchmarks.examples PROJECT...`.

A project is a clone in which the line has run and the seal was opened, as `make example` leaves in work/examples; what
is not named keeps its old row. Of a project that ran the demo, its last lines are kept too.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from stages.frame.params import load

RESULTS = Path("docs/results/examples.csv")
DEMO = Path("docs/results/demo.txt")
README = Path("README.md")
HEAD = [
    "data set",
    "images",
    "classes",
    "network",
    "score",
    "validation",
    "sealed test",
    "training",
    "ONNX",
    "one image",
]


def measured(project: Path) -> dict[str, Any]:
    """One row out of a project in which the line has run and the seal was opened."""

    def read(name: str) -> Any:
        return json.loads((project / "data" / name).read_text())

    params, ingested, trained = load(project / "params.yaml"), read("ingest/metrics.json"), read("train/metrics.json")
    validation, test = (read(f"{name}/scores.json")["scores"] for name in ("evaluate", "unseal"))
    row: dict[str, Any] = {"name": params.ingest.name, "images": ingested["images"], "classes": ingested["classes"]}
    row |= {"network": params.network.name, "size": params.prepare.size, "score": params.task.score}
    for split, scores in {"val": validation, "test": test}.items():
        row |= {f"{split}_{end}": round(figure, 4) for end, figure in scores[params.task.score].items()}
    row |= {"train_seconds": round(trained["seconds"]), "onnx_bytes": read("export/metrics.json")["bytes"]}
    return row | {"one_image_ms": round(read("benchmark/benchmark.json")["single_prediction_ms"], 2)}


def table(results: pd.DataFrame) -> str:
    """The rows as a Markdown table."""
    rows = [
        [
            f"`{r.name}`",
            f"{r.images:,}",
            str(r.classes),
            f"{r.network}, {r.size} px",
            r.score.replace("_", " "),
            f"{r.val_value:.3f} [{r.val_low:.3f}, {r.val_high:.3f}]",
            f"{r.test_value:.3f} [{r.test_low:.3f}, {r.test_high:.3f}]",
            f"{r.train_seconds} s",
            f"{r.onnx_bytes / 1e6:.0f} MB",
            f"{r.one_image_ms:.1f} ms",
        ]
        for r in results.itertuples(index=False)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEAD, ["---"] * len(HEAD), *rows])


def demo_block(words: str) -> str:
    """The demo's last lines, as the README shows them."""
    return f"```\n{words}\n```"


def between(text: str, marker: str, content: str) -> str:
    """Text with what follows the comment `<!-- marker -->`, up to the next heading, replaced."""
    return re.sub(rf"(<!-- {marker} -->\n).*?(?=\n\n## )", lambda m: m.group(1) + content, text, flags=re.DOTALL)


def main(projects: list[Path]) -> None:
    """Read what was run there and write it down."""
    new = pd.DataFrame([measured(project) for project in projects])
    kept = pd.read_csv(RESULTS).query("name not in @new.name") if RESULTS.exists() else new[:0]
    results = pd.concat([kept, new]).sort_values("images")
    results.to_csv(RESULTS, index=False)
    for project in projects:
        if load(project / "params.yaml").ingest.name == "digits":
            summary = (project / "data/report/summary.txt").read_text()
            DEMO.write_text(f"{summary}report      data/report/index.html\n")
    readme = between(README.read_text(), "examples", table(results))
    README.write_text(between(readme, "demo", demo_block(DEMO.read_text().strip())))
    print(table(results))


if __name__ == "__main__":
    main([Path(project) for project in sys.argv[1:]])
