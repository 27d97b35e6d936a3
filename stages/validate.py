"""Check the manifest against its contract: `python -m stages.validate INGESTED OUTPUT`.

The rules are one Great Expectations suite: the built-in ones that apply to the labels of the manifest, and those of
`checks.expectations`. Bad data never fails this stage: each rule becomes a finding, and `gate` decides what follows.
"""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any, cast

from stages.checks.check_data import KINDS, CheckData
from stages.checks.contract import TOPICS, contract
from stages.checks.results import Result, interpret
from stages.checks.suite import run_suite
from stages.checks.user_rules import user_rules
from stages.config.schema_data import Checks
from stages.config.schema_task import Task
from stages.core.findings import Finding, Severity, write_findings
from stages.core.plurals import quantity
from stages.core.progress import announce
from stages.dataset.manifest import read_manifest
from stages.reports import Album, make_cards, write_page
from stages.reports.finding_cards import merge_columns
from stages.runner.stage import In, Out, run

MAX_IMAGES = 24  # per finding
HEADINGS = dict(
    zip(TOPICS, ("Your own expectations", "The splits", "The labels", "The images", "The table"), strict=True)
)
ORDER = ("blocking", "warning", "passed")
KIND_NAMES = dict(
    zip(KINDS, ("classes", "numbers", "points", "boxes or outlines", "masks", "paired images"), strict=True)
)


def main(ingested: In, output: Out, *, checks: Checks, task: Task) -> dict[str, Any]:
    """Write `findings.json` with one finding per rule, `results.json`, and `page.html` with the offending images.

    Args:
        ingested: output folder of ingest.
        output: folder to write to.
        checks: limits of the rules, and the user's rules.
        task: params of the task, whose score must be defined on the validation images.

    Returns:
        Number of checks, and of findings of each severity.

    Raises:
        UserError: `checks.expectations` has mistakes; the message lists them all.
    """
    rows = read_manifest(ingested)
    with announce(f"validate: checking {quantity(len(rows), 'image')}"):
        data = CheckData(rows, ingested, task.model_dump())
        rules = user_rules(checks, data.columns) + contract(checks, data.kinds, data.task)
        results = interpret(rules, run_suite(data, rules), data.frame)
    findings = [_finding(result, data) for result in results]
    write_findings(findings, output / "findings.json")
    written = [{"id": r.id, "severity": r.severity, **asdict(r)} for r in results]
    (output / "results.json").write_text(json.dumps(written, indent=1, allow_nan=False) + "\n")
    _write_page(output, data, results, findings)
    count = Counter(finding.severity for finding in findings)
    return {"checks": len(rules), **{s: count[s] for s in ("passed", "blocking", "warning")}}


def _finding(result: Result, data: CheckData) -> Finding:
    evidence = {"expectation": result.rule.expectation, **result.rule.arguments, "observed": result.observed}
    if result.offenders:
        evidence["offenders"] = result.offenders
    images = list(result.images)[:MAX_IMAGES]
    captions = {path: _caption(result, path, data) for path in images}
    return Finding(result.id, cast(Severity, result.severity), result.message, evidence, images, captions)


def _caption(result: Result, path: str, data: CheckData) -> str:
    """Return the problem of an image, and its label."""
    row = data.rows[data.rows["path"] == path].iloc[0]
    problem = result.images[path] or (f"in {row['split']}" if result.rule.topic == "splits" else "")
    return "\n".join(line for line in (problem, str(row["label"])) if line)


def _write_page(output: Out, data: CheckData, results: list[Result], findings: list[Finding]) -> None:
    broken = [finding for finding in findings if finding.severity != "passed"]
    album = Album(data.rows, data.folder)
    worst_first = sorted(results, key=lambda result: ORDER.index(result.severity))
    write_page(
        output / "page.html",
        "checks.html.j2",
        images=len(data.rows),
        checks=len(merge_columns(findings)),
        labels=[KIND_NAMES[kind] for kind in KINDS if kind in data.kinds],
        broken=make_cards(broken, album, most=MAX_IMAGES),
        levels_note=album.note if broken else "",
        topics=[(HEADINGS[topic], [r for r in worst_first if r.rule.topic == topic]) for topic in TOPICS],
    )


if __name__ == "__main__":
    run(main)
