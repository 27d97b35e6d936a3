"""Tests of the stage runner: an output is complete or absent, and errors for users have no traceback."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.config.schema_data import Gate
from stages.core.errors import UserError
from stages.runner.stage import In, Out, call, run, when_complete


def copy(source: In, output: Out) -> dict[str, Any]:
    (output / "copy.txt").write_text(source.read_text())
    return {"characters": len(source.read_text())}


def fail_halfway(source: In, output: Out) -> dict[str, Any]:
    (output / "half.txt").write_text("half")
    raise UserError("the second half is missing; write it")


def count_waivers(source: In, output: Out, *, gate: Gate) -> dict[str, Any]:
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


def test_metrics_that_are_not_finite_are_null(source: Path, tmp_path: Path) -> None:
    def measure(source: In, output: Out) -> dict[str, Any]:
        return {"score": float("nan"), "of": {"classes": [1.5, float("inf")]}}

    written = {"score": None, "of": {"classes": [1.5, None]}}
    assert call(measure, [source, tmp_path / "out"], {}) == written
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == written


@pytest.mark.parametrize("fails", [False, True])
def test_an_action_is_called_once_the_outputs_are_complete(source: Path, tmp_path: Path, fails: bool) -> None:
    found: list[bool] = []

    def act(source: In, output: Out) -> dict[str, Any]:
        when_complete(lambda: found.append((tmp_path / "out/metrics.json").exists()))
        if fails:
            raise UserError("failed after the action was registered")
        return {"images": 1}

    if fails:
        with pytest.raises(UserError):
            call(act, [source, tmp_path / "out"], {})
        call(copy, [source, tmp_path / "out"], {})
    else:
        call(act, [source, tmp_path / "out"], {})
    assert found == [True] * (not fails)


def test_a_failed_stage_leaves_the_output_unchanged(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        call(fail_halfway, [source, tmp_path / "new"], {})
    assert not (tmp_path / "new").exists()
    call(copy, [source, tmp_path / "old"], {})
    with pytest.raises(UserError):
        call(fail_halfway, [source, tmp_path / "old"], {})
    assert (tmp_path / "old" / "copy.txt").exists()


def test_partial_output_of_a_killed_run_is_discarded(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "stale.txt").write_text("from a killed run")
    call(copy, [source, tmp_path / "out"], {})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["copy.txt", "metrics.json"]


def test_a_missing_input_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source: .*absent.* does not exist"):
        call(copy, [tmp_path / "absent", tmp_path / "out"], {})


def test_the_command_line_passes_paths_and_params_sections(source: Path, workspace: Path) -> None:
    run(count_waivers, [str(source), "out"])
    assert (workspace / "out" / "waived.txt").read_text() == "0"


def test_a_stage_requires_resolved_params(source: Path, workspace: Path) -> None:
    (workspace / "data/params.resolved.yaml").unlink()
    with pytest.raises(SystemExit, match="data/params.resolved.yaml does not exist; `dvc repro resolve` writes it"):
        run(count_waivers, [str(source), "out"])
    assert not (workspace / "out").exists()


def test_an_error_for_the_user_is_one_line_without_traceback(source: Path, workspace: Path) -> None:
    with pytest.raises(SystemExit, match="^error: the second half is missing; write it$"):
        run(fail_halfway, [str(source), "out"])


def test_a_full_disk_is_reported_and_leaves_no_output(source: Path, workspace: Path) -> None:
    def fill_the_disk(source: In, output: Out) -> dict[str, Any]:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        return {}

    with pytest.raises(SystemExit, match="error: the disk is full"):
        run(fill_the_disk, [str(source), "out"])
    assert not (workspace / "out").exists()


def test_wrong_arguments_show_the_usage(workspace: Path) -> None:
    with pytest.raises(SystemExit, match="usage: .* SOURCE OUTPUT"):
        run(copy, ["only-one"])
