"""Tests of the progress of long work: lines appear at once where output goes to a pipe."""

import io
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.core import progress
from stages.runner.stage import In, Out, run


def test_the_start_is_printed_before_the_first_item(capsys: pytest.CaptureFixture[str]) -> None:
    items = progress.track(iter("ab"), "ingest", 1200)
    assert next(items) == "a" and capsys.readouterr().err == "ingest: 1,200 images\n"


def test_progress_is_printed_at_most_once_per_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 4.0, 11.0, 20.0, 40.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    work = progress.Progress("ingest", 2000)
    for _ in range(4):
        work.advance(500)
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["ingest: 2,000 images", "ingest: 1,000 of 2,000 images, 50%"]


def test_work_of_unknown_length_is_reported_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, repeated = list[str](), threading.Event()

    def record(line: str) -> None:
        printed.append(line)
        if len(printed) > 1:
            repeated.set()

    monkeypatch.setattr(progress, "_print", record)
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    with progress.announce("audit 1 of 9: outliers"):
        assert repeated.wait(30)
    assert printed[:2] == ["audit 1 of 9: outliers", "audit 1 of 9: outliers: running for 0 s"]


def test_a_stage_writes_every_line_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    seen: list[bytes] = []

    def report(source: In, output: Out) -> dict[str, Any]:
        print("passed  copies")
        seen.append(written.getvalue())
        return {}

    run(report, [str(tmp_path), str(tmp_path / "out")], check_code=False)
    assert seen == [b"passed  copies\n"]
