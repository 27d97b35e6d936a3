"""Stop the pipeline if a finding blocks: `python -m stages.gate INGESTED VALIDATED AUDITED OUTPUT`."""

import json
from pathlib import Path
from typing import Any

from stages.config.schema_data import Gate
from stages.core.errors import UserError
from stages.core.findings import Finding, read_findings
from stages.dataset.manifest import decode_images, read_manifest
from stages.images.contact_sheet import contact_sheet
from stages.runner.stage import In, Out, run

BLOCKED_FOLDER = Path("work/gate")
"""Folder of `blocked.md` and `blocked.png`, outside the output, because DVC discards the output of a failed stage."""
MAX_IMAGES = 24


def main(ingested: In, validated: In, audited: In, output: Out, *, gate: Gate) -> dict[str, Any]:
    """Write `gate.json`: number of passed findings, warnings, waived findings with their reasons, and unused waivers.

    Args:
        ingested: output folder of ingest, whose images are shown.
        validated: output folder of validate.
        audited: output folder of audit.
        output: folder to write to.
        gate: params of the gate, with the reason for each waiver by finding id.

    Returns:
        Numbers of passed findings, warnings and waived findings.

    Raises:
        UserError: a blocking finding is not waived in `gate.waive`; the message lists all such findings.
    """
    findings = [f for folder in (validated, audited) for f in read_findings(folder / "findings.json")]
    blocking = [f for f in findings if f.severity == "blocking"]
    stopping = [f for f in blocking if f.id not in gate.waive]
    if stopping:
        _write_blocked(stopping, ingested)
        raise UserError(_error_message(stopping))
    passed = sum(f.severity == "passed" for f in findings)
    warnings = [f.id for f in findings if f.severity == "warning"]
    waived = [{"id": f.id, "reason": gate.waive[f.id]} for f in blocking]
    unused = sorted(set(gate.waive) - {f.id for f in blocking})
    for finding in unused:
        print(f"gate.waive: {finding} does not block; remove the waiver")
    result = {"passed": passed, "warnings": warnings, "waived": waived, "unused_waivers": unused}
    (output / "gate.json").write_text(json.dumps(result, indent=1) + "\n")
    return {"passed": passed, "warnings": len(warnings), "waived": len(waived)}


def _error_message(stopping: list[Finding]) -> str:
    count = "1 finding blocks" if len(stopping) == 1 else f"{len(stopping)} findings block"
    found = "\n".join(f"  {f.id}: {f.message}" for f in stopping)
    picture = f"{BLOCKED_FOLDER / 'blocked.png'}, " if any(f.images for f in stopping) else ""
    return (
        f"the gate stopped the pipeline: {count}\n{found}\n"
        f"See {picture}data/audit/page.html and data/validate/page.html. Fix the data, or "
        f"accept a finding with a reason in params.yaml:\n  gate:\n    waive:\n      {stopping[0].id}: the reason"
    )


def _write_blocked(stopping: list[Finding], ingested: Path) -> None:
    """Write the messages of the blocking findings, and a contact sheet of their images."""
    BLOCKED_FOLDER.mkdir(parents=True, exist_ok=True)
    bullets = "\n".join(f"- **{f.id}**: {f.message}" for f in stopping)
    (BLOCKED_FOLDER / "blocked.md").write_text(f"The gate stopped the pipeline:\n\n{bullets}\n")
    picture = BLOCKED_FOLDER / "blocked.png"
    picture.unlink(missing_ok=True)
    shown = list(dict.fromkeys(path for f in stopping for path in f.images))[:MAX_IMAGES]
    if shown:
        rows = read_manifest(ingested).set_index("path", drop=False).loc[shown]
        captions = [f"{r.label}: {Path(r.path).name}" for r in rows.itertuples()]
        contact_sheet([p.image for p in decode_images(rows, ingested)], captions).save(picture)


if __name__ == "__main__":
    run(main)
