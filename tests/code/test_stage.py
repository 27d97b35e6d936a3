"""The stage runner: an output is complete or absent, and errors for users have no traceback."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.config.schema_data import Gate
from stages.core.errors import UserError
from stages.runner.stage import In, Out, call, run


def copy(source: In, output: Out) -> dict[str, Any]:
    (output / "copy.txt").write_text(source.read_text())
    return {"characters": len(source.read_text())}


def fails_halfway(source: In, output: Out) -> dict[str, Any]:
    (output / "half.txt").write_text("half")
    raise UserError("the second half is missing; write it")


def wants_params(source: In, output: Out, *, gate: Gate) -> dict[str, Any]:
    (output / "waived.txt").write_text(str(len(gate.waive)))
    return {}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "in.txt"
    file.write_text("hello")
    return file


def test_metrics_are_written_beside_the_output(source: Path, tmp_path: Path) -> None:
    call(copy, [source, tmp_path / "out"], {})
    assert (tmp_path / "out" / "copy.txt").read_text() == "hello"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == {"characters": 5}


def test_a_failed_stage_leaves_no_output_and_keeps_the_old_one(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        call(fails_halfway, [source, tmp_path / "new"], {})
    assert not (tmp_path / "new").exists()
    call(copy, [source, tmp_path / "old"], {})
    with pytest.raises(UserError):
        call(fails_halfway, [source, tmp_path / "old"], {})
    assert (tmp_path / "old" / "copy.txt").exists()


def test_what_a_killed_run_left_behind_does_not_get_into_the_next(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "stale.txt").write_text("from a killed run")
    call(copy, [source, tmp_path / "out"], {})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["copy.txt", "metrics.json"]


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source: .*absent.* does not exist"):
        call(copy, [tmp_path / "absent", tmp_path / "out"], {})


def test_an_output_that_is_no_number_fails_instead_of_writing_broken_json(source: Path, tmp_path: Path) -> None:
    def not_a_number(source: In, output: Out) -> dict[str, Any]:
        return {"score": float("nan")}

    with pytest.raises(ValueError, match="JSON"):
        call(not_a_number, [source, tmp_path / "out"], {})
    assert not (tmp_path / "out").exists()


def test_the_command_line_gives_paths_and_sections(source: Path, workspace: Path) -> None:
    run(wants_params, [str(source), "out"])
    assert (workspace / "out" / "waived.txt").read_text() == "0"


def test_without_resolved_params_a_stage_does_not_run(source: Path, workspace: Path) -> None:
    (workspace / "data/params.resolved.yaml").unlink()
    with pytest.raises(SystemExit, match="data/params.resolved.yaml does not exist; `dvc repro resolve` writes it"):
        run(wants_params, [str(source), "out"])
    assert not (workspace / "out").exists()


def test_an_error_for_the_user_is_one_line_without_traceback(source: Path, workspace: Path) -> None:
    with pytest.raises(SystemExit, match="^error: the second half is missing; write it$"):
        run(fails_halfway, [str(source), "out"])


def test_a_full_disk_is_said_and_leaves_no_output(source: Path, workspace: Path) -> None:
    def fills_the_disk(source: In, output: Out) -> dict[str, Any]:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        return {}

    with pytest.raises(SystemExit, match="error: the disk is full"):
        run(fills_the_disk, [str(source), "out"])
    assert not (workspace / "out").exists()


def test_wrong_arguments_show_the_usage(workspace: Path) -> None:
    with pytest.raises(SystemExit, match="usage: .* SOURCE OUTPUT"):
        run(copy, ["only-one"])
