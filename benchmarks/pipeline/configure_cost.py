"""Measure processor time and memory of `configure` for large folders and for large images.

Run `python -m benchmarks.pipeline.configure_cost`, or `make bench-configure`. Each folder is generated and inspected in
its own process, with `--quick`; those of at most 100 files also without. Importing the packages takes about 2 CPU
seconds, which are included; their compiled bytecode is written to a temporary folder by a run that is not measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pipeline.cost_folders import FOLDERS, CostFolder, write_folder
from benchmarks.result_pages import add_run_arguments, output_folder, replace_block

ROOT = Path(__file__).parents[2]
SMALL = 100  # files up to which `--quick` may take 5 CPU seconds, and which are also measured without it
TINY = ("50 images and masks",)
PAGE = "configure-cost.md"


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure the folders, write configure-cost.json and the table of configure-cost.md, and return the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.configure_cost", description=__doc__)
    parser.add_argument("--only", default="", help="measure only folders whose description contains this text")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    chosen = [one for one in FOLDERS if asked.only in one.name and (not asked.tiny or one.name in TINY)]
    runs = []
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": bytecode}
        for folder in [chosen[0], *chosen] if chosen else []:
            runs.append(_measure(folder, environment))
            print(json.dumps(runs[-1]), flush=True)
    runs = runs[1:]
    output = output_folder(asked.output, asked.tiny)
    file = output / "configure-cost.json"
    file.write_text(json.dumps(runs, indent=1) + "\n")
    page = output / PAGE
    if page.exists():
        page.write_text(replace_block(page.read_text(), "configure-cost", table(runs)))
    print(table(runs))
    return file


def table(runs: list[dict[str, Any]]) -> str:
    """Tabulate processor seconds and peak memory with and without `--quick`, in Markdown."""
    lines = [
        "| folder | files | CPU s with --quick | peak MiB | CPU s without | peak MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        figures = [_figures(run[kind]) if kind in run else "| |" for kind in ("quick", "timed")]
        lines.append(f"| {run['folder']} | {run['files']:,} {' '.join(figures)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def _figures(used: dict[str, float]) -> str:
    return f"| {used['cpu_seconds']:.1f} | {used['mib']:.0f}"


def _measure(folder: CostFolder, environment: dict[str, str]) -> dict[str, Any]:
    """Generate a folder and return the cost of `configure` with --quick, and without if it has few files."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        write_folder(folder, folder.count, source)
        files = sum(path.is_file() for path in source.rglob("*"))
        run: dict[str, Any] = {
            "folder": folder.name,
            "files": files,
            "quick": configure(source, environment, "--quick"),
        }
        return run | ({"timed": configure(source, environment)} if files <= SMALL + 1 else {})


def configure(source: Path, environment: dict[str, str], *options: str) -> dict[str, float]:
    """Run `configure` and return its processor seconds, its highest resident memory in MiB and its exit status.

    Args:
        source: folder of images.
        environment: environment variables of the process.
        *options: options of `configure`.
    """
    command = [sys.executable, "-m", "stages", "configure", str(source), *options]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, "--output", str(Path(folder) / "params.yaml")],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "mib": round(used.ru_maxrss / 1024),
        "status": process.returncode,
    }


if __name__ == "__main__":
    main()
