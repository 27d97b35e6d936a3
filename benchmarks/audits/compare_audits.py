"""Compare Macula's audits with other libraries on injected faults and on clean data: `make bench-audits`.

Faults of graded strength are injected into real images (`injected_faults`, `base_datasets`). Macula's audits and the
other libraries audit the same files, each with its defaults. The other libraries are slow and run with fewer seeds;
`seeds` records how many. `audit_speed` measures their speed. Results are written as soon as they are measured, so that
an interrupted run resumes; delete the file to measure everything again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.audits import audit_speed
from benchmarks.audits.audit_cases import PARTS, TINY, AuditRun, AuditSizes
from benchmarks.audits.audit_competitors import PYTHON, LibraryProcess
from benchmarks.audits.audit_tables import all_tables
from benchmarks.result_pages import add_run_arguments, installed, output_folder

ALL_PARTS = [*PARTS, "speed"]


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure the requested parts, write them and print the tables; return the file with the results."""
    asked = _parse(arguments)
    file = output_folder(asked.output, asked.tiny) / "audits.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    sizes = TINY if asked.tiny else AuditSizes(asked.seeds, asked.library_seeds, few=min(10, asked.seeds))
    libraries = LibraryProcess(PYTHON.absolute()) if installed(PYTHON, "the other libraries' part of audits") else None
    if libraries:
        kept["versions"] = libraries.versions
    for name in asked.parts:
        if name == "speed":
            speed_sizes = audit_speed.TINY if asked.tiny else audit_speed.SpeedSizes(rounds=asked.rounds)
            kept[name] = audit_speed.measure(asked.data, speed_sizes)
        else:
            run = AuditRun(sizes, asked.data, libraries, kept.get(name, []))
            found = []
            for cell in PARTS[name](run):
                found.append(cell)
                kept[name] = found + [one for one in run.done if one not in found]
                file.write_text(json.dumps(kept, indent=1) + "\n")
            kept[name] = found
        file.write_text(json.dumps(kept, indent=1) + "\n")
    print(all_tables(kept))
    return file


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits.compare_audits", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=ALL_PARTS, help=f"parts to measure: {', '.join(ALL_PARTS)}; default: all"
    )
    parser.add_argument("--data", type=Path, help="folder of the reference data; without it, only the digits are used")
    parser.add_argument("--seeds", type=int, default=AuditSizes.seeds, help="number of data sets per case")
    parser.add_argument(
        "--library-seeds",
        type=int,
        default=AuditSizes.library_seeds,
        help="number of data sets per case for the other libraries, which are slow",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the part `speed`")
    add_run_arguments(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
