"""Tests of Ctrl-C while a command imports its modules: one line and exit code 130, without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.interrupts import INTERRUPTED

INTERRUPTING = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException as error:
    raise ImportError("a compiled module reports an interrupt in this way") from error
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["stages.audit", "data", "features", "out"], "pandas"),
        (["stages", "params"], "typer"),
        (["stages.configure", "folder"], "typer"),
        (["flows.pipeline"], "ruamel"),
        (["flows.retrain"], "ruamel"),
    ],
)
def test_an_interrupt_during_imports_ends_with_one_line(
    root: Path, tmp_path: Path, command: list[str], module: str
) -> None:
    (tmp_path / f"{module}.py").write_text(INTERRUPTING)
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, timeout=60,
        env=environment | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (INTERRUPTED, "interrupted\n")


def test_below_dvc_the_command_that_started_it_reports_the_interrupt(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text(INTERRUPTING)
    done = subprocess.run(
        [sys.executable, "-m", "stages.audit", "data", "features", "out"], cwd=root, capture_output=True, text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "DVC_STAGE": "audit"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (INTERRUPTED, "")
