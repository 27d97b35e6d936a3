"""Score which leaks configure and the audits find: `python -m benchmarks.leaks.find_leaks`, or `make bench-leaks`.

Each structure of `leak_structures` is written as a folder, for which `configure --quick` proposes params. The folder is
ingested with these params and audited. A leak is

- found, if a finding about leaks or duplicates warns or blocks, or a question of configure names related images;
- kept together, if the proposed groups keep the related images in one split;
- passed, if nothing is found and an audit passes that claims the absence of this leak, or if no finding about leaks
  says what was not checked;
- not checked otherwise.

`leak_structures.CONTROL` has no leak: there, a folder in which something is found is a false alarm.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accepted_groups import accept_groups
from benchmarks.leaks.leak_structures import CONTROL, STRUCTURES, LeakCase, LeakStructure
from benchmarks.result_pages import add_run_arguments, output_folder
from stages.audits import duplicates, leakage, sequence_leakage
from stages.audits.audit_data import AuditData
from stages.config.load import load
from stages.configure import ConfigureOptions
from stages.configure import main as configure
from stages.core.errors import UserError
from stages.core.findings import Finding
from stages.dataset.manifest import read_manifest
from stages.ingest import main as ingest
from stages.runner.stage import call

ROOT = Path(__file__).parents[2]
AUDITS = (duplicates, leakage, sequence_leakage)
ABOUT_COPIES = ("leakage/same-image", "leakage/near-duplicates", "duplicates/near-duplicates")
OUTCOMES = ("found", "kept together", "not checked", "passed", "refused")
MAX_APART = 0.1  # share of related pairs in different groups up to which the groups keep the images together
TINY = ("copies: mirrored",)


@dataclass(frozen=True)
class LeakOutcome:
    """Outcome for one folder."""

    outcome: str
    """One of `OUTCOMES`."""
    because: str
    """Findings, groups or question that decide."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Score all structures, strengths and seeds; write `leaks.json` and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks.find_leaks", description=__doc__)
    parser.add_argument("structures", nargs="*", default=list(STRUCTURES), help="names of structures; default: all")
    parser.add_argument("--seeds", type=int, default=2, help="number of folders for each structure and strength")
    add_run_arguments(parser)
    options = parser.parse_args(arguments)
    names, seeds = (TINY, 1) if options.tiny else (options.structures, options.seeds)
    file = output_folder(options.output, options.tiny) / "leaks.json"
    cases: list[dict[str, Any]] = []
    for name in names:
        for strength in STRUCTURES[name].strengths:
            for seed in range(seeds):
                result = score(STRUCTURES[name], strength, seed)
                cases.append({"structure": name, "strength": strength, "seed": seed} | vars(result))
                print(f"{name} {strength:g}, seed {seed}: {result.outcome} ({result.because})", flush=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True, cwd=ROOT
    )
    file.write_text(json.dumps({"commit": commit.stdout.strip(), "cases": cases}, indent=1) + "\n")
    print(summarize(cases))
    return file


def score(structure: LeakStructure, strength: float, seed: int) -> LeakOutcome:
    """Return the outcome for one folder.

    Args:
        structure: the structure.
        strength: one of its strengths.
        seed: seed of the images.
    """
    case = structure.write(strength, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as name, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            rows, findings, lines = _run(case, Path(name))
        except UserError as error:
            return LeakOutcome("refused", str(error))
    return judge(structure, case, rows, findings, lines)


def _run(case: LeakCase, folder: Path) -> tuple[pd.DataFrame, list[Finding], list[str]]:
    """Configure, ingest and audit a folder; return the manifest of all images, the findings, and configure's lines."""
    source = folder / "source"
    for path, content in case.files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "splits").mkdir()
    with chdir(folder):
        output = folder / "proposed.yaml"
        proposal = configure(ConfigureOptions(source, "", "", output, replace=True, minutes=1, quick=True))
        accept_groups(proposal)
        params = load(output)
        sections = {"ingest": params.ingest, "split": params.split}
        call(ingest, [source, folder / "splits", folder / "sealed", folder / "ingested"], sections)
        rows, sealed = read_manifest(folder / "ingested"), pd.read_parquet(folder / "ingested/sealed_index.parquet")
        data = AuditData(rows, sealed, folder / "ingested", params.audit.max_images)
        findings = [finding for audit in AUDITS for finding in audit.find(data, params.audit)]
        tested = read_manifest(folder / "sealed")
    return pd.concat([rows, tested]), findings, proposal.lines


def judge(
    structure: LeakStructure, case: LeakCase, rows: pd.DataFrame, findings: list[Finding], lines: list[str]
) -> LeakOutcome:
    """Return the outcome; see the module.

    Args:
        structure: the structure.
        case: the folder.
        rows: path and group of all images.
        findings: findings of the audits.
        lines: lines of configure.
    """
    alarms = [finding.id for finding in findings if finding.severity in ("warning", "blocking")]
    questions = [line.strip() for line in lines if "?" in line and any(path in line for path in case.shows)]
    if alarms or questions:
        return LeakOutcome("found", ", ".join(alarms) or questions[0])
    apart = share_apart(case, rows)
    if apart <= MAX_APART:
        return LeakOutcome("kept together", f"{apart:.0%} of the related pairs are in different groups")
    claimed = [f.id for f in findings if f.severity == "passed" and _claims(structure, f)]
    unchecked = [finding.id for finding in findings if finding.id.endswith("/not-checked")]
    if claimed or not unchecked:
        return LeakOutcome("passed", ", ".join(claimed))
    return LeakOutcome("not checked", ", ".join(unchecked))


def _claims(structure: LeakStructure, finding: Finding) -> bool:
    """Return whether a passed finding claims the absence of leaks of this kind."""
    if finding.id == "sequence_leakage/similar-neighbours":
        return structure.consecutive
    return finding.id in ABOUT_COPIES and any(kind in finding.message for kind in structure.kinds)


def share_apart(case: LeakCase, rows: pd.DataFrame) -> float:
    """Return the share of consecutive images of one object that are in different groups; 1 if no two show the same."""
    group_of = dict(zip(rows["path"], rows["group"], strict=True))
    last: dict[str, str] = {}
    apart = []
    for path, subject in case.shows.items():
        if path in group_of:
            if subject in last:
                apart.append(group_of[path] != group_of[last[subject]])
            last[subject] = path
    return float(np.mean(apart)) if apart else 1.0


def summarize(cases: list[dict[str, Any]]) -> str:
    """Return a Markdown table with the number of folders by structure and outcome, and the totals of the leaks."""
    lines = [
        "| structure, unit of the strength | strengths | folders | found | kept together | neither, at strength |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name in dict.fromkeys(case["structure"] for case in cases):
        own = [case for case in cases if case["structure"] == name]
        strengths = ", ".join(f"{strength:g}" for strength in dict.fromkeys(case["strength"] for case in own))
        lines.append(_line(name, strengths, own))
    lines.append(_line("**all leaks**", "", [case for case in cases if case["structure"] != CONTROL]))
    return "\n".join(lines)


def _line(name: str, strengths: str, cases: list[dict[str, Any]]) -> str:
    """Return a line of the table; the last column lists each outcome other than found and kept together."""
    counts = Counter(case["outcome"] for case in cases)
    others = Counter((case["outcome"], case["strength"]) for case in cases if case["outcome"] not in OUTCOMES[:2])
    neither = ", ".join(f"{number} {outcome} at {strength:g}" for (outcome, strength), number in others.items())
    return f"| {name} | {strengths} | {len(cases)} | {counts['found']} | {counts['kept together']} | {neither} |"


if __name__ == "__main__":
    main()
