"""Look for what is wrong with the data: `python -m stages.audit INGESTED OUTPUT`."""

from collections import Counter
from typing import Any

import pandas as pd

from stages.audits import AUDITS
from stages.audits.subject import Subject
from stages.frame import In, Out, run
from stages.frame.findings import write_findings
from stages.frame.sections import Audit
from stages.images.manifest import read_manifest


def main(ingested: In, output: Out, *, audit: Audit) -> dict[str, Any]:
    """Run every audit and write `findings.json`; findings stop nothing here: that is the gate's."""
    subject = Subject(read_manifest(ingested), pd.read_parquet(ingested / "sealed_index.parquet"), ingested)
    findings = [finding for find in AUDITS.values() for finding in find(subject, audit)]
    write_findings(findings, output / "findings.json")
    for finding in findings:
        print(f"{finding.severity:8}  {finding.id}: {finding.says}")
    severities = Counter(finding.severity for finding in findings)
    return {severity: severities[severity] for severity in ("passed", "info", "warning", "blocking")}


if __name__ == "__main__":
    run(main)
