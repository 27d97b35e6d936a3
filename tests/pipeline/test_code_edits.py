"""Tests of the stages that DVC reruns after edits of code, with dvc.yaml and commands that only create files."""

import ast
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages.importers.group_table import name_group_table
from stages.networks import feature_record
from tests.code.test_graph import FILES as DVC_FILES
from tests.conftest import ROOT

PIPELINE = ["dvc.yaml", "data/sealed/dvc.yaml"]
REAL = {"fingerprint", "resolve"}
"""Stages whose real commands run."""
LOWEST = "stages/core/errors.py"
"""Module that every stage imports and that imports no other module of the project."""
USED_BY_ONE = "stages/probes/power_law.py"
USED_BY_FIVE = "stages/training/batch_loader.py"
TEMPLATE = "stages/reports/report.html.j2"
NOT_IN_THE_PIPELINE = "stages/serve.py"
FIVE = {"augment", "tune", "train", "evaluate", "benchmark"}
EDITED_BY_ITSELF = """
from pathlib import Path
from stages.runner.stage import Out, run

def main(output: Out):
    from stages import helper
    (output / "result.txt").write_text(str(helper.VALUE))
    Path("stages/helper.py").write_text("VALUE = 2  # edited\\n")
    return {}

if __name__ == "__main__":
    run(main)
"""


def dvc(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=200)


def repro(project: Path) -> set[str]:
    """Run the equivalent of `dvc repro`, and return the stages whose commands were run."""
    (project / "ran.txt").write_text("")
    with chdir(project), Repo() as repo:
        reproduced = {stage.name for stage in repo.reproduce(PIPELINE)}
    ran = set((project / "ran.txt").read_text().split())
    assert ran == reproduced - REAL
    return reproduced


@pytest.fixture(scope="module", autouse=True)
def _python() -> Iterator[None]:
    """Make `python` in the commands of `dvc.yaml` the Python of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the project in which all stages have run. Tests must not change it."""
    project = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(ROOT / "stages", project / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in [*DVC_FILES, ".dvcignore", "params.yaml", "data/openings.csv", "data/image_features.txt"]:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    for name in ("splits", "weights"):
        (project / "data" / name).mkdir()
    yaml, count = YAML(), 0
    for name in DVC_FILES:
        graph = yaml.load(project / name)
        for stage, definition in graph["stages"].items():
            if stage not in REAL:
                definition["cmd"], count = _stub(stage, definition["outs"]), count + 1
        yaml.dump(graph, project / name)
    assert count > 10
    assert dvc(project, "init", "-q", "--no-scm").returncode == 0
    assert len(repro(project)) == count + len(REAL)
    assert repro(project) == set()
    return project


def _stub(stage: str, outs: list[str]) -> str:
    """Return a command that records its stage and always writes the same outputs."""
    commands = [f"mkdir -p {shlex.quote(out)} && echo {stage} > {shlex.quote(out)}/made.txt" for out in outs]
    return " && ".join([f"echo {stage} >> ran.txt", *commands])


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Copy of `finished` for tests that change it."""
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def edit_docstring(file: Path) -> None:
    """Change the first docstring of a function or class."""
    text = file.read_text()
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    line = next(n.body[0].lineno for n in nodes if ast.get_docstring(n))
    lines = text.splitlines(keepends=True)
    assert '"""' in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace('"""', '"""Edited. ', 1)
    file.write_text("".join(lines))


def edit_function(file: Path) -> None:
    """Add a statement to the first function."""
    text = file.read_text()
    function = next(n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
    first = next(n for n in function.body if not isinstance(n, ast.Expr))
    lines = text.splitlines(keepends=True)
    lines.insert(first.lineno - 1, " " * first.col_offset + "edited = 1\n")
    ast.parse("".join(lines))
    file.write_text("".join(lines))


def all_stages(project: Path) -> set[str]:
    return {name for file in DVC_FILES for name in YAML(typ="safe").load(project / file)["stages"]}


def test_an_edited_docstring_reruns_only_the_fingerprint_stage(project: Path) -> None:
    edit_docstring(project / LOWEST)
    assert repro(project) == {"fingerprint"}
    assert repro(project) == set()


def test_edited_comments_and_formatting_rerun_only_the_fingerprint_stage(project: Path) -> None:
    files = list((project / "stages").rglob("*.py"))
    assert len(files) > 200
    for file in files:
        file.write_text(f"# Edited.\n{ast.unparse(ast.parse(file.read_text()))}\n")
    assert repro(project) == {"fingerprint"}


@pytest.mark.parametrize(
    ("files", "stages"),
    [([USED_BY_ONE], {"audit"}), ([USED_BY_FIVE], FIVE), ([TEMPLATE, NOT_IN_THE_PIPELINE], {"report"})],
)
def test_an_edit_of_code_reruns_only_the_stages_that_use_it(project: Path, files: list[str], stages: set[str]) -> None:
    for file in files:
        if file.endswith(".py"):
            edit_function(project / file)
        else:
            (project / file).write_text(f"{(project / file).read_text()}<hr>\n")
    assert repro(project) == {"fingerprint"} | stages


def test_an_added_or_changed_table_of_groups_reruns_ingest(project: Path) -> None:
    for text in ("path,group\na.png,1\n", "path,group\na.png,2\n"):
        (project / name_group_table("flowers")).write_text(text)
        assert repro(project) == {"ingest"}
        assert repro(project) == set()


def test_installed_weights_rerun_the_stages_that_use_their_features_and_removed_ones_restore_the_results(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = project / "data/image_features.txt"
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: None)
    feature_record.record_features(record)
    repro(project)
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: Path("w.pth"))
    feature_record.record_features(record)
    assert repro(project) == {"audit", "baseline"}
    assert repro(project) == set()
    monkeypatch.setattr(feature_record, "weights_file", lambda _network: None)
    feature_record.record_features(record)
    (project / "ran.txt").write_text("")
    with chdir(project), Repo() as repo:
        assert {stage.name for stage in repo.reproduce(PIPELINE)} == {"audit", "baseline"}
    assert (project / "ran.txt").read_text() == "", "the earlier results are in the run cache"


def test_an_edit_of_the_lowest_module_reruns_every_stage(project: Path) -> None:
    edit_function(project / LOWEST)
    assert repro(project) == all_stages(project)


def test_a_stage_edited_during_its_run_keeps_no_output_and_reruns(project: Path) -> None:
    (project / "stages/itself.py").write_text(EDITED_BY_ITSELF)
    (project / "stages/helper.py").write_text("VALUE = 1\n")
    graph = "stages:\n  itself:\n    cmd: python -m stages.itself data/itself\n"
    graph += "    deps: [data/code/itself.txt]\n    outs: [data/itself]\n"
    (project / "itself").mkdir()
    (project / "itself/dvc.yaml").write_text(graph.replace("    cmd", "    wdir: ..\n    cmd"))
    first = dvc(project, "repro", "itself/dvc.yaml")
    assert first.returncode != 0
    assert "the code of `itself` has changed" in first.stderr and "stages/helper.py" in first.stderr
    assert not (project / "data/itself").exists() and not (project / "data/itself.part").exists()
    assert not (project / "itself/dvc.lock").exists()
    single_item = dvc(project, "repro", "--single-item", "itself/dvc.yaml:itself")
    assert single_item.returncode != 0 and "run `dvc repro` again" in single_item.stderr, "the digests are outdated"
    again = dvc(project, "repro", "itself/dvc.yaml")
    assert again.returncode == 0, again.stderr
    assert (project / "data/itself/result.txt").read_text() == "2"
