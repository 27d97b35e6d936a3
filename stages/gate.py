"""Stop the line where a finding blocks: `python -m stages.gate INGESTED VALIDATED AUDITED OUTPUT`."""

import json
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.findings import Finding, read_findings
from stages.dataset.manifest import pictures, read_manifest
from stages.frame.sections import Gate
from stages.images.contact_sheet import contact_sheet
from stages.runner.stage import In, Out, run

LEFT_BEHIND = Path("work/gate")
"""A stopped gate has no output, so its words and picture go where the flow and the user find them."""
MOST_PICTURES = 24


def main(ingested: In, validated: In, audited: In, output: Out, *, gate: Gate) -> dict[str, Any]:
    """Write `gate.json`: what warned, what was waived and why.

    Raises:
        UserError: a blocking finding is not waived in `gate.waive`; names each in words.
    """
    findings = [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")]
    blocking = [f for f in findings if f.severity == "blocking"]
    stopping = [f for f in blocking if f.id not in gate.waive]
    if stopping:
        _leave_behind(stopping, ingested)
        raise UserError(_in_words(stopping))
    passed = sum(f.severity == "passed" for f in findings)
    warnings = [f.id for f in findings if f.severity == "warning"]
    waived = [{"id": f.id, "reason": gate.waive[f.id]} for f in blocking]
    unused = sorted(set(gate.waive) - {f.id for f in blocking})
    for finding in unused:
        print(f"gate.waive: {finding} does not block; the waiver can go")
    verdict = {"passed": passed, "warnings": warnings, "waived": waived, "unused_waivers": unused}
    (output / "gate.json").write_text(json.dumps(verdict, indent=1) + "\n")
    return {"passed": passed, "warnings": len(warnings), "waived": len(waived)}


def _in_words(stopping: list[Finding]) -> str:
    count = "1 finding blocks" if len(stopping) == 1 else f"{len(stopping)} findings block"
    found = "\n".join(f"  {f.id}: {f.says}" for f in stopping)
    return (
        f"the gate stops the line: {count}\n{found}\n"
        f"Look at {LEFT_BEHIND / 'blocked.png'}, data/audit/page.html and data/validate/page.html. Mend the data; or "
        f"accept a finding, with the reason, in params.yaml:\n  gate:\n    waive:\n      {stopping[0].id}: the reason"
    )


def _leave_behind(stopping: list[Finding], ingested: Path) -> None:
    LEFT_BEHIND.mkdir(parents=True, exist_ok=True)
    bullets = "\n".join(f"- **{f.id}**: {f.says}" for f in stopping)
    (LEFT_BEHIND / "blocked.md").write_text(f"The gate stops the line:\n\n{bullets}\n")
    picture = LEFT_BEHIND / "blocked.png"
    picture.unlink(missing_ok=True)
    shown = list(dict.fromkeys(path for f in stopping for path in f.images))[:MOST_PICTURES]
    if shown:
        rows = read_manifest(ingested).set_index("path", drop=False).loc[shown]
        captions = [f"{r.label}: {Path(r.path).name}" for r in rows.itertuples()]
        contact_sheet([p.image for p in pictures(rows, ingested)], captions).save(picture)


if __name__ == "__main__":
    run(main)
