"""Tests that a stage whose code is edited while it runs leaves no output."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.core.errors import UserError
from stages.runner import code_check
from stages.runner.code_check import CodeCheck, code_digest
from stages.runner.stage import In, Out, call, run


def copy(source: In, output: Out) -> dict[str, Any]:
    (output / "copy.txt").write_text(source.read_text())
    return {}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create the package `stages` of a project with one stage and an up-to-date record; return its folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "stages"
    folder.mkdir()
    (folder / "toy.py").write_text('"""Toy."""\nfrom stages import part\n')
    (folder / "part.py").write_text("LIMIT = 3\n")
    monkeypatch.setattr(code_check, "PACKAGE", folder)
    monkeypatch.setattr(code_check, "PAUSES", (0.0,))
    (tmp_path / "data/code").mkdir(parents=True)
    (tmp_path / "data/code/toy.txt").write_text(code_digest("toy"))
    (tmp_path / "in.txt").write_text("hello")
    return folder


def paths(package: Path) -> list[Path]:
    return [package.parent / "in.txt", package.parent / "out"]


def test_a_stage_with_unchanged_code_runs(package: Path) -> None:
    call(copy, paths(package), {}, CodeCheck("toy"))
    assert (package.parent / "out/copy.txt").exists()


def test_an_edit_before_the_stage_prevents_the_run(package: Path) -> None:
    (package / "part.py").write_text("LIMIT = 4\n")
    ran = []

    def main(source: In, output: Out) -> dict[str, Any]:
        ran.append(1)
        return {}

    with pytest.raises(UserError, match=r"code of `toy` has changed .*: stages/part\.py\. .*run `dvc repro` again"):
        call(main, paths(package), {}, CodeCheck("toy"))
    assert not ran and not (package.parent / "out").exists()


@pytest.mark.parametrize("edited", ["part.py", "new.py"])
def test_an_edit_while_the_stage_runs_leaves_no_output(package: Path, edited: str) -> None:
    def main(source: In, output: Out) -> dict[str, Any]:
        (output / "half.txt").write_text("")
        (package / edited).write_text("LIMIT = 4\n")
        (package / "toy.py").write_text("from stages import part, new\n")
        return {}

    with pytest.raises(UserError, match=rf"stages/{edited}"):
        call(main, paths(package), {}, CodeCheck("toy"))
    assert sorted(file.name for file in package.parent.iterdir()) == ["data", "in.txt", "stages", "work"]


def test_comments_and_unrelated_files_may_be_edited_during_a_stage(package: Path) -> None:
    def main(source: In, output: Out) -> dict[str, Any]:
        (package / "toy.py").write_text("# comment\nfrom stages import (part)\n")
        (package / "other.py").write_text("x = 1")
        return {}

    call(main, paths(package), {}, CodeCheck("toy"))
    assert (package.parent / "out").exists()


def test_a_file_that_an_editor_is_replacing_is_read_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (package / "part.py").read_text()
    (package / "part.py").write_text("")
    monkeypatch.setattr(code_check, "PAUSES", (0.0, 0.0))
    texts = iter(["", text])
    # Not `time.sleep` itself: threads of other tests, such as that of a process pool, call it too.
    clock = SimpleNamespace(sleep=lambda _: (package / "part.py").write_text(next(texts)))
    monkeypatch.setattr(code_check, "time", clock)
    CodeCheck("toy").compare()


def test_a_module_that_the_record_does_not_list_is_reported(package: Path) -> None:
    (package / "core").mkdir()
    (package / "core/errors.py").write_text("")  # this process has imported a module of that name
    check = CodeCheck("toy")
    check.compare()
    with pytest.raises(UserError, match=r"imported stages\.core\.errors, which .*toy\.txt does not list"):
        check.check_imports()


def test_the_code_is_checked_only_when_dvc_runs_the_stage(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(copy, [str(path) for path in paths(package)])
    assert (package.parent / "out/copy.txt").exists(), "a stage that is run by hand requires no record"
    monkeypatch.setenv("DVC_STAGE", "toy")
    with pytest.raises(SystemExit, match=r"error: data/code/.*test_code_check\.txt does not exist; add it to the deps"):
        run(copy, [str(path) for path in paths(package)])
    run(copy, [str(path) for path in paths(package)], check_code=False)
