"""Run `configure --quick` and `ingest` on a miniature folder, and collect what they propose and state."""

import contextlib
import io
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks.accepted_groups import accept_groups
from benchmarks.layouts.layout_answers import Layout
from stages import configure, ingest
from stages.config.load import load
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.manifest import read_manifest
from stages.runner.stage import call


@dataclass(frozen=True)
class Outcome:
    """Result of `configure` on a layout, and of `ingest` with the proposed params."""

    refusal: str = ""
    """Message of a refusal; empty if params were proposed."""
    params: Params | None = None
    lines: tuple[str, ...] = ()
    """Text summary of the proposal."""
    manifest: pd.DataFrame | None = None
    """All images with path, label, group, split and annotation; None if `ingest` failed."""
    ingest_error: str = ""
    cpu_seconds: float = 0.0
    """Processor time of `configure` alone, with its worker processes."""


def run_layout(layout: Layout, folder: Path) -> Outcome:
    """Write a layout to a new folder and return the outcome; the current folder is changed meanwhile.

    Args:
        layout: the layout.
        folder: empty folder for the source and the outputs.
    """
    layout.build().write(folder / "source")
    (folder / "splits").mkdir()
    (folder / "params.yaml").write_text("ingest:\n  name: zoo\n  source: source\n")
    started = _cpu_seconds()
    options = configure.ConfigureOptions(
        Path("source"), inside="", format="", output=Path("proposed.yaml"), replace=True, minutes=15, quick=True
    )
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        try:
            proposal = configure.main(options)
        except UserError as error:
            return Outcome(refusal=str(error), cpu_seconds=_cpu_seconds() - started)
        used = _cpu_seconds() - started
        accept_groups(proposal)
        params, lines = load(Path("proposed.yaml")), tuple(proposal.lines)
        try:
            manifest = _ingest(params)
        except UserError as error:
            return Outcome(params=params, lines=lines, ingest_error=str(error), cpu_seconds=used)
    return Outcome(params=params, lines=lines, manifest=manifest, cpu_seconds=used)


def _ingest(params: Params) -> pd.DataFrame:
    """Return the manifest of all images, including those of the sealed test split."""
    paths = [Path(params.ingest.source), Path("splits"), Path("sealed"), Path("ingested")]
    call(ingest.main, paths, {"ingest": params.ingest, "split": params.split})
    return pd.concat([read_manifest(Path(name)) for name in ("ingested", "sealed")], ignore_index=True)


def _cpu_seconds() -> float:
    """Return the processor seconds of this process and its workers, which end with it."""
    own = psutil.Process(os.getpid())
    return sum(times.user + times.system for times in _times([own, *own.children(recursive=True)]))


def _times(processes: list[psutil.Process]) -> Iterator[Any]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield process.cpu_times()


def peak_memory_mib() -> float:
    """Return the highest memory of this process so far in MiB, without its workers."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
