"""Hold the manifest against its contract: `python -m stages.validate INGESTED OUTPUT`.

One Great Expectations suite: the rules of the form that the labels have, and those of `checks.expectations`. Bad data
never fails this stage: each rule becomes a finding, and `gate` decides what a broken one leads to.
"""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from stages.checks.contract import contract
from stages.checks.own import own_rules
from stages.checks.rule import CHAPTERS, Verdict
from stages.checks.subject import KINDS, Subject
from stages.checks.suite import outcomes
from stages.checks.verdicts import judge
from stages.core.findings import Finding, write_findings
from stages.dataset.manifest import read_manifest
from stages.frame.sections import Checks
from stages.reports import Album, cards, write_page
from stages.runner.stage import In, Out, run

MOST_IMAGES = 24  # offenders shown per finding
HEADINGS = dict(
    zip(CHAPTERS, ("Your own expectations", "The splits", "The labels", "The images", "The table"), strict=True)
)
ORDER = ("blocking", "warning", "passed")
WORDS = dict(zip(KINDS, ("classes", "numbers", "points", "boxes or outlines", "masks", "paired images"), strict=True))


def main(ingested: In, output: Out, *, checks: Checks) -> dict[str, Any]:
    """Write `findings.json`, one finding per rule; `results.json`; and `page.html`, where the offenders can be seen.

    Raises:
        UserError: an entry of `checks.expectations` cannot be what was meant.
    """
    subject = Subject(read_manifest(ingested), ingested)
    rules = [*own_rules(checks, subject.columns), *contract(checks, subject.kinds)]
    verdicts = judge(rules, outcomes(subject, rules), subject.frame)
    findings = [_finding(verdict, subject) for verdict in verdicts]
    write_findings(findings, output / "findings.json")
    (output / "results.json").write_text(json.dumps([asdict(v) for v in verdicts], indent=1, allow_nan=False) + "\n")
    _write_page(output, subject, verdicts, findings)
    count = Counter(finding.severity for finding in findings)
    return {"checks": len(rules), **{s: count[s] for s in ("passed", "blocking", "warning")}}


def _finding(verdict: Verdict, subject: Subject) -> Finding:
    evidence = {"expectation": verdict.expectation, **verdict.wants, "seen": verdict.observed}
    if verdict.offenders:
        evidence["offenders"] = verdict.offenders
    severity: Any = verdict.severity
    says = verdict.says[0].upper() + verdict.says[1:] + "."
    if verdict.why and severity != "passed":
        says += f" It is asked because: {verdict.why.rstrip('.')}."
    images = list(verdict.images)[:MOST_IMAGES]
    captions = {path: _caption(verdict, path, subject) for path in images}
    return Finding(verdict.id, severity, says, evidence, images, captions)


def _caption(verdict: Verdict, path: str, subject: Subject) -> str:
    """What is wrong with an image, and its label."""
    row = subject.rows.iloc[subject.paths.index(path)]
    told = verdict.images[path] or (f"in {row['split']}" if verdict.about == "splits" else "")
    return "\n".join(line for line in (told, str(row["label"])) if line)


def _write_page(output: Out, subject: Subject, verdicts: list[Verdict], findings: list[Finding]) -> None:
    broken = [finding for finding in findings if finding.severity != "passed"]
    worst_first = sorted(verdicts, key=lambda verdict: ORDER.index(verdict.severity))
    album = Album(subject.rows, subject.folder)
    write_page(
        output / "page.html",
        "checks.html.j2",
        images=len(subject.rows),
        labels=[WORDS[kind] for kind in KINDS if kind in subject.kinds],
        broken=cards(broken, album, most=MOST_IMAGES),
        chapters=[(HEADINGS[about], [v for v in worst_first if v.about == about]) for about in CHAPTERS],
    )


if __name__ == "__main__":
    run(main)
