"""Tests of the requests and records of retraining runs, without a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows import retrain_records
from flows.git_commands import CommandFailed, git
from flows.retrain_records import Record, Request, find, refreshed_mirror, request_for, split_table
from flows.workspaces import AUTHOR
from stages.core.errors import UserError

TABLE = "data/splits/photos.json"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Repository with params.yaml and a split table; it is the current folder."""
    root = tmp_path / "project"
    (root / "data/splits").mkdir(parents=True)
    (root / TABLE).write_text('{"splits": {"a": "train"}}\n')
    (root / ".gitignore").write_text("/photos\n/state\n")
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    for key, value in AUTHOR.items():
        git("config", key, value, cwd=root)
    commit(root, source="photos")
    monkeypatch.chdir(root)
    monkeypatch.setenv("MACULA_STATE", str(tmp_path / "state"))
    return root


def commit(root: Path, source: str = "photos", **files: str) -> str:
    (root / "params.yaml").write_text(f"ingest: {{name: photos, source: {source}}}\n")
    for name, text in files.items():
        (root / name.replace("__", "/")).write_text(text)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "--allow-empty", "--message", "change", cwd=root)
    return git("rev-parse", "HEAD", cwd=root)


def add_image(folder: Path, name: str = "1.png") -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes(name.encode())


def test_a_relative_source_that_git_ignores_is_that_of_the_project(project: Path) -> None:
    add_image(project / "photos")
    request = request_for(str(project), "HEAD", "")
    assert request.source == str(project / "photos") and list(request.files) == ["1.png"]
    add_image(project / "photos", "2.png")
    assert request_for(str(project), "HEAD", "").key != request.key


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dvc.yaml", "stages: {fetch: {cmd: x, outs: [photos]}}"),
        ("dvc.yaml", "stages: {fetch: {cmd: x, outs: [{photos: {cache: false}}]}}"),
        ("data__dvc.yaml", "stages: {fetch: {wdir: .., cmd: x, outs: [photos]}}"),
        ("photos.dvc", "outs: [{md5: 0, path: photos}]"),
    ],
)
def test_a_source_that_dvc_creates_is_made_in_the_clone(project: Path, file: str, text: str) -> None:
    commit(project, "photos/inner", **{file: text})
    request = request_for(str(project), "HEAD", "")
    assert (request.source, request.files) == ("", {})


def test_a_source_in_git_is_that_of_the_clone(project: Path) -> None:
    add_image(project / "images")
    commit(project, "images")
    assert request_for(str(project), "HEAD", "").source == ""


def test_a_source_that_is_missing_or_empty_is_named(project: Path) -> None:
    with pytest.raises(UserError, match="photos"):
        request_for(str(project), "HEAD", "")
    (project / "photos").mkdir()
    with pytest.raises(UserError, match="photos contains no files"):
        request_for(str(project), "HEAD", "")


def test_commit_and_data_decide_whether_a_run_is_repeated(project: Path) -> None:
    add_image(project / "photos")
    first = request_for(str(project), "HEAD", "")
    assert request_for(str(project), "main", "").key == first.key
    commit(project)
    assert request_for(str(project), "HEAD", "").key != first.key
    with pytest.raises(UserError, match="no branch, tag or commit 'nowhere'"):
        request_for(str(project), "nowhere", "")


def record_run(project: Path, request: Request, time: str, version: str | None, table: str) -> Record:
    """Commit the record of a run with a split table on its branch, as the flow does."""
    record = Record(request.key, "photos", request.commit, "", 1, {"result": "kept"}, version, None, time, {})
    git("checkout", "--quiet", "-b", f"retrain/{time}-{request.key}", request.commit, cwd=project)
    (project / TABLE).write_text(table)
    (project / retrain_records.RECORD).write_text(record.as_json())
    git("add", ".", cwd=project)
    git("commit", "--quiet", "--message", "run", cwd=project)
    if version:
        git("tag", "--annotate", "--message", "run", f"photos@{version}", cwd=project)
    git("checkout", "--quiet", "main", cwd=project)
    return record


def test_the_newest_record_of_a_request_is_found(project: Path) -> None:
    add_image(project / "photos")
    request = request_for(str(project), "HEAD", "")
    assert find(refreshed_mirror(str(project)), request.key) is None
    record_run(project, request, "2026-01-01T000000Z", "v0.0.1", "{}")
    newest = record_run(project, request, "2026-01-02T000000Z", "v0.0.2", "{}")
    assert find(refreshed_mirror(str(project)), request.key) == newest


def test_the_split_table_of_the_last_completed_run_is_used_unless_the_project_changed_it(project: Path) -> None:
    add_image(project / "photos")
    request = request_for(str(project), "HEAD", "")
    assert split_table(refreshed_mirror(str(project)), request) is None
    grown = json.dumps({"splits": {"a": "train", "b": "val"}}) + "\n"
    record_run(project, request, "2026-01-01T000000Z", "v0.0.1", grown)
    record_run(project, request, "2026-01-02T000000Z", None, '{"splits": {"bad": "test"}}\n')  # the data stopped it
    assert split_table(refreshed_mirror(str(project)), request) == grown
    other = replace(request, commit=commit(project, notes="another commit"))
    assert split_table(refreshed_mirror(str(project)), other) == grown
    (project / TABLE).write_text('{"splits": {}}\n')
    changed = replace(request, commit=commit(project))
    assert split_table(refreshed_mirror(str(project)), changed) is None


def test_a_run_while_the_clock_was_wrong_does_not_stay_the_last_one(project: Path) -> None:
    add_image(project / "photos")
    request = request_for(str(project), "HEAD", "")
    record_run(project, request, "2040-01-01T000000Z", "v0.0.9", "{}\n")  # years ahead
    grown = json.dumps({"splits": {"a": "train", "b": "val"}}) + "\n"
    record_run(project, request, "2026-01-01T000000Z", "v0.0.10", grown)
    assert split_table(refreshed_mirror(str(project)), request) == grown


def test_a_version_that_was_registered_by_hand_has_no_split_table(project: Path) -> None:
    add_image(project / "photos")
    request = request_for(str(project), "HEAD", "")
    record_run(project, request, "2026-01-01T000000Z", "v0.0.1", "{}\n")
    git("tag", "--annotate", "--message", "by hand", "photos@v0.0.2", cwd=project)
    assert split_table(refreshed_mirror(str(project)), request) == "{}\n"


@pytest.mark.parametrize("damaged", ["refs/heads/main.lock", "HEAD", "config"])
def test_a_mirror_that_a_killed_git_or_a_full_disk_left_damaged_is_made_again(project: Path, damaged: str) -> None:
    mirror = refreshed_mirror(str(project))
    (mirror / damaged).write_text("")
    latest = commit(project, notes="another commit")
    assert git("rev-parse", "refs/heads/main", cwd=refreshed_mirror(str(project))) == latest
    assert not mirror.with_suffix(".new").exists()


def test_a_mirror_is_kept_if_the_repository_cannot_be_read(project: Path) -> None:
    mirror = refreshed_mirror(str(project))
    with pytest.raises(CommandFailed, match="does not appear to be a git repository"):
        refreshed_mirror(str(project / "missing"))
    assert git("rev-parse", "refs/heads/main", cwd=mirror) == git("rev-parse", "main", cwd=project)
