"""`macula report`: the report of the last run."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from stages.command_line.options import AsJson, print_json
from stages.core.errors import UserError

EXAMPLE = "macula report --open"
PAGES = {
    "report": Path("data/report/index.html"),
    "audit": Path("data/audit/page.html"),
    "validate": Path("data/validate/page.html"),
    "model card": Path("data/model_card/model-card.md"),
}


def report(
    open_page: Annotated[bool, Option("--open", help="Open the report in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the score of the last run and the paths of its pages."""
    summary = PAGES["report"].with_name("summary.txt")
    if not summary.is_file():
        raise UserError(f"{summary} does not exist; `macula run` writes it")
    pages = {name: path.absolute() for name, path in PAGES.items() if path.is_file()}
    if as_json:
        scores = json.loads(Path("data/evaluate/scores.json").read_text(encoding="utf-8"))
        chosen = {name: scores[name] for name in ("objective", "scores", "constant")}
        print_json({"pages": pages, **chosen})
    else:
        print(summary.read_text(encoding="utf-8"), end="")
        print("\n".join(f"{name:<11} {path}" for name, path in pages.items()))
    if open_page:
        typer.launch(pages["report"].as_uri())
