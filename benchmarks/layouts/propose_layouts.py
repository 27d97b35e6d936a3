"""Score what `configure --quick` proposes for the zoo of layouts: `python -m benchmarks.layouts.propose_layouts`.

Each miniature folder is generated, `configure` runs in this process, and `ingest` runs with the proposed params. The
page docs/results/layouts.md and layouts.json list the score of each layout; `layout_scores` states the rules.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.layouts import layout_scores
from benchmarks.layouts.layout_answers import Layout
from benchmarks.layouts.layout_outcomes import Outcome, peak_memory_mib, run_layout
from benchmarks.layouts.layout_scores import SCORES, score_layout
from benchmarks.layouts.zoo import ZOO
from benchmarks.result_pages import add_run_arguments, output_folder
from stages.config.schema import Params

TINY = ("arrays_with_splits", "breast_ultrasound_with_masks", "labelme", "empty_folder")
MAX_REASON = 300  # characters of a reason in the page


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run all layouts, write layouts.json and layouts.md, print the counts, and return the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layouts.propose_layouts", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="LAYOUT", help="layouts to run; default: all")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    names = asked.only or (TINY if asked.tiny else list(ZOO))
    if unknown := [name for name in names if name not in ZOO]:
        parser.error(f"no such layout: {', '.join(unknown)}; benchmarks/layouts/zoo.py lists them")
    rows = [measure(name) for name in names]
    found = {
        "layouts": rows,
        "counts": dict(Counter(row["score"] for row in rows)),
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        "peak_mib": peak_memory_mib(),
    }
    print(counts_line(found))
    return write_results(found, output_folder(asked.output, asked.tiny or bool(asked.only)))


def write_results(found: dict[str, Any], folder: Path) -> Path:
    """Write layouts.json and layouts.md to a folder and return the JSON file."""
    file = folder / "layouts.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    (folder / "layouts.md").write_text(page(found))
    return file


def measure(name: str) -> dict[str, Any]:
    """Run a layout in a temporary folder, print its score, and return it as a record."""
    layout = ZOO[name]
    with tempfile.TemporaryDirectory() as folder:
        found = record(layout, run_layout(layout, Path(folder)))
    print(f"{name}: {found['score']} {'; '.join(found['reasons'])[:MAX_REASON]}", flush=True)
    return found


def record(layout: Layout, outcome: Outcome) -> dict[str, Any]:
    """Return the score of an outcome as a record of layouts.json."""
    found = score_layout(layout, outcome)
    return {
        "layout": layout.name,
        "domain": layout.domain,
        "description": layout.description,
        "answer": layout.answer.in_words(),
        "score": found.score,
        "reasons": list(found.reasons),
        "proposed": None if outcome.params is None else proposal_in_words(outcome.params),
        "related_in_training": found.leak,
        "relaxed": list(found.relaxed),
        "cpu_seconds": round(outcome.cpu_seconds, 2),
    }


def proposal_in_words(params: Params) -> str:
    """Return task, format, groups and split of proposed params."""
    ingest = params.ingest
    words: list[str] = [params.task.name, ingest.format]
    words += [f"group `{ingest.group_regex}`"] * bool(ingest.group_regex)
    words += [f"column {ingest.columns.group}"] * bool(ingest.columns.group)
    words += [f"blocks of {ingest.sequence_block}"] * (ingest.sequence_block > 1)
    return ", ".join([*words, f"split by {params.split.by}"])


def counts_line(found: dict[str, Any]) -> str:
    """Return the counts of scores as a sentence."""
    counts = ", ".join(f"{found['counts'].get(score, 0)} {score}" for score in SCORES)
    return f"{len(found['layouts'])} layouts: {counts}."


def page(found: dict[str, Any]) -> str:
    """Return the results as a Markdown page."""
    slowest = max(found["layouts"], key=lambda row: row["cpu_seconds"])
    relaxed = sum(bool(row["relaxed"]) for row in found["layouts"])
    rules = (layout_scores.__doc__ or "").split("\n\n", 1)[1].strip()
    lines = [
        "# A zoo of layouts: what `configure` proposes",
        "",
        "Made by `make bench-layouts`. Each layout is a miniature folder that `benchmarks/layouts` generates from the",
        "description of a kind of public data set. The answers were written from the descriptions, before `configure`",
        "had seen the folders. Details are in [layouts.json](layouts.json).",
        "",
        f"**{counts_line(found)}** `configure --quick` took {found['cpu_seconds'] / len(found['layouts']):.1f} CPU",
        f"seconds per folder, at most {slowest['cpu_seconds']:.1f} (`{slowest['layout']}`). The memory of the process,",
        f"which also ran `ingest` on all folders, was {found['peak_mib']:.0f} MiB at most. {relaxed} proposals relax",
        "thresholds of `checks` or `ingest.max_rejected`.",
        "",
        rules,
        "",
        *_tables(found["layouts"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _tables(rows: list[dict[str, Any]]) -> list[str]:
    """Return one table per domain; sources that are not right have the reason below the score."""
    lines = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        head = ["layout", "correct answer", "proposed", "score"]
        lines += [f"## {domain[0].upper()}{domain[1:]}", "", f"| {' | '.join(head)} |", "|---|---|---|---|"]
        for row in (row for row in rows if row["domain"] == domain):
            proposed = row["proposed"] or "nothing"
            reason = "; ".join(row["reasons"])[:MAX_REASON] if row["score"] != "right" else ""
            cells = [f"`{row['layout']}`: {row['description']}", row["answer"], proposed]
            cells.append(f"**{row['score']}**" + (f": {reason}" if reason else ""))
            lines.append(f"| {' | '.join(_escape(cell) for cell in cells)} |")
        lines.append("")
    return lines


def _escape(cell: str) -> str:
    return cell.replace("\n", " ").replace("\\|", "|").replace("|", "\\|")


if __name__ == "__main__":
    main()
