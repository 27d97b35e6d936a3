"""Audit the ingested data: `python -m stages.audit INGESTED FEATURES OUTPUT`."""

from collections import Counter
from typing import Any

import pandas as pd

from stages.audits import AUDITS
from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.config.schema_task import Task
from stages.core.findings import Finding, write_findings
from stages.core.progress import announce
from stages.dataset.manifest import read_manifest, sorted_labels
from stages.networks.feature_record import uses_pretrained
from stages.reports import Album, make_cards, write_page
from stages.runner.stage import In, Out, run


def main(ingested: In, features: In, output: Out, *, audit: Audit, task: Task) -> dict[str, Any]:
    """Run every audit and write `findings.json` and `page.html`; only the gate stops the pipeline.

    Raises:
        UserError: the manifest was written by another version, or the file `features` names features that cannot be
            computed.
    """
    rows = read_manifest(ingested)
    grades = (task.classes or tuple(sorted_labels(rows))) if task.name == "ordinal" else ()
    sealed = pd.read_parquet(ingested / "sealed_index.parquet")
    data = AuditData(rows, sealed, ingested, audit.max_images, grades, uses_pretrained(features))
    findings: list[Finding] = []
    for number, (name, find) in enumerate(AUDITS.items(), 1):
        with announce(f"audit {number} of {len(AUDITS)}: {name}"):
            found = find(data, audit)
        for finding in found:
            print(f"{finding.severity:8}  {finding.id}: {finding.message}", flush=True)
        findings += found
    write_findings(findings, output / "findings.json")
    severities = Counter(finding.severity for finding in findings)
    album = Album(rows, ingested)
    shown = make_cards(findings, album)
    blocking = severities["blocking"]
    write_page(
        output / "page.html",
        "audit.html.j2",
        cards=shown,
        blocking=blocking,
        images=len(rows),
        levels_note=album.note if shown else "",
    )
    return {severity: severities[severity] for severity in ("passed", "info", "warning", "blocking")}


if __name__ == "__main__":
    run(main)
