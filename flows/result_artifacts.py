"""Publish the scores and the report of a pipeline run as artifacts of Prefect."""

import base64
import json
import os
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

SCORES = Path("data/evaluate/scores.json")
REPORT = Path("data/report/index.html")
ERRORS = Path("data/evaluate/errors.png")
LARGEST_PICTURE = 700_000
"""Size limit in bytes for a picture that is embedded in an artifact; each view of the artifact loads the picture."""


def publish_results() -> None:
    """Publish the scores of the current folder, the images with the largest errors, and a link to the report.

    Browsers do not open files from the pages of Prefect, so the description of the table names the file of the report.
    The link exists if `MACULA_REPORT_URL` is set, the address at which a web server shows the report. A failure is
    logged; the run goes on.
    """
    try:
        if SCORES.is_file():
            where = f"; report: `{REPORT.absolute()}`" if REPORT.is_file() else ""
            scores = json.loads(SCORES.read_text(encoding="utf-8"))
            create_table_artifact(
                score_table(scores), key="scores", description=f"Scores of the validation data{where}"
            )
        if picture := embedded(ERRORS, "images with the largest errors"):
            create_markdown_artifact(picture, key="errors", description="Validation images with the largest errors")
        if (url := os.environ.get("MACULA_REPORT_URL")) and REPORT.is_file():
            create_link_artifact(url, link_text="Report of the pipeline", key="report")
    except Exception as error:  # any failure of the server or of a file: the results themselves are complete
        get_run_logger().warning("the scores were not published as an artifact: %s", error)


def score_table(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per score of scores.json, with its interval, and with the target if it is the objective."""
    goal = scores.get("objective") or {}
    bounds = {"at least": goal.get("at_least"), "at most": goal.get("at_most")}
    target = ", ".join(f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None)
    met = ("met" if goal["met"] else "not met") if "met" in goal else ""
    rows = []
    for name, found in scores.get("scores", {}).items():
        low, high = found.get("low"), found.get("high")
        interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        objective = " ".join(filter(None, [target, f"({met})" if met else ""])) if name == goal.get("score") else ""
        rows.append({"score": name, "value": found["value"], "interval": interval, "objective": objective})
    return rows


def embedded(picture: Path, description: str) -> str:
    """Return Markdown that shows a PNG file in an artifact; empty if the file does not exist.

    Args:
        picture: PNG file; one that is larger than `LARGEST_PICTURE` is named instead.
        description: text for readers who do not see the picture.
    """
    if not picture.is_file():
        return ""
    if picture.stat().st_size > LARGEST_PICTURE:
        return f"\n\nThe picture is too large to be shown here: `{picture}`\n"
    encoded = base64.b64encode(picture.read_bytes()).decode()
    return f"\n\n![{description}](data:image/png;base64,{encoded})\n"
