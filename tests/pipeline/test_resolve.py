"""Tests of the stage `resolve` in DVC: it runs first and reruns exactly the stages whose section changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOY = """
stages:
  resolve:
    cmd: cp given.yaml resolved.yaml
    deps: [given.yaml]
    outs: [resolved.yaml]
  first:
    cmd: cp resolved.yaml first.txt
    params:
      - resolved.yaml: [one]
    outs: [first.txt]
  second:
    cmd: cp resolved.yaml second.txt
    params:
      - resolved.yaml: [two]
    outs: [second.txt]
"""


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the names of the stages that DVC ran, in order."""
    assert done.returncode == 0, done.stderr
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")]


def test_resolved_params_rerun_only_stages_of_the_changed_section(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(TOY)
    (tmp_path / "given.yaml").write_text("one: {a: 1}\ntwo: {b: 1}\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert dvc(tmp_path, "init", "-q").returncode == 0
    first = ran(dvc(tmp_path, "repro"))
    assert first[0] == "resolve" and sorted(first[1:]) == ["first", "second"]
    (tmp_path / "given.yaml").write_text("one: {a: 1} # a comment\ntwo: {b: 1}\n")
    assert ran(dvc(tmp_path, "repro")) == ["resolve"]
    (tmp_path / "given.yaml").write_text("one: {a: 1}\ntwo: {b: 2}\n")
    assert ran(dvc(tmp_path, "repro")) == ["resolve", "second"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of this project in which no stage has run."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_all_mistakes_are_reported_before_any_data_are_written(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text().replace("epochs: 12", "epochs: none").replace("size: 32", "size: 4")
    params.write_text(text)
    done = dvc(project, "repro")
    assert done.returncode != 0
    assert "error: 2 mistakes in params.yaml:" in done.stderr
    assert "prepare.size: 4" in done.stderr and "train.epochs: 'none'" in done.stderr
    written = {path.name for path in (project / "data").iterdir()} - {"code"}
    assert written == {path.name for path in (ROOT / "data").iterdir() if path.name in TRACKED}


TRACKED = {"dvc.yaml", "image_features.txt", "openings.csv", "sealed", "splits", "weights", ".gitignore"}
