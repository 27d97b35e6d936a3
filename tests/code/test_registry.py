"""Tests of the registry of models in git tags, and of clones in which flows work."""

import shutil
from pathlib import Path

import pytest

from flows import state, workspaces
from flows.git_commands import CommandFailed, dvc, git
from flows.registry import Conflict, Version, assign, assigned, model_name, publish, refresh, register, versions
from stages.core.errors import UserError

CONTENT = "the model"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository with one stage of DVC that has run; tests must not change it."""
    root = tmp_path_factory.mktemp("template") / "project"
    root.mkdir()
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    for key, value in workspaces.AUTHOR.items():
        git("config", key, value, cwd=root)
    dvc("init", "--quiet", cwd=root)
    command = f"mkdir -p data/export && echo '{CONTENT}' > data/export/model.onnx"
    (root / "dvc.yaml").write_text(f"stages:\n  export:\n    cmd: {command}\n    outs: [data/export]\n")
    dvc("repro", "--quiet", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "--message", "run", cwd=root)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the repository, and a state folder for the flows."""
    root = shutil.copytree(template, tmp_path / "project", symlinks=True)
    monkeypatch.setenv("MACULA_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MACULA_CACHE", str(root / ".dvc/cache"))
    monkeypatch.delenv("MACULA_REMOTE", raising=False)
    return root


def head(clone: Path) -> str:
    return git("rev-parse", "HEAD", cwd=clone)


def new_clone(project: Path, name: str) -> Path:
    folder = state.folder() / name
    workspaces.clone(str(project), "main", folder)
    return folder


def commit(clone: Path) -> str:
    git("commit", "--quiet", "--allow-empty", "--message", f"run in {clone.name}", cwd=clone)
    return head(clone)


def test_versions_count_up_and_a_commit_has_one(project: Path) -> None:
    clone = new_clone(project, "a")
    first = register(clone, "digits", head(clone), "first run")
    assert first == Version("digits", "v0.0.1", head(clone)) == register(clone, "digits", head(clone), "again")
    second = register(clone, "digits", commit(clone), "second run")
    assert second.tag == "digits@v0.0.2"
    assert versions(clone, "digits") == [first, second] and versions(clone, "unknown") == []


def test_the_newest_assignment_counts_also_within_one_second(project: Path) -> None:
    clone = new_clone(project, "a")
    old, new = (register(clone, "digits", revision, "run") for revision in (head(clone), commit(clone)))
    assert assigned(clone, "digits", "champion") is None
    for version in (old, new, old):
        assert assign(clone, version, "champion", "better") is not None
        assert assigned(clone, "digits", "champion") == version
    assert assign(clone, old, "champion", "again") is None
    assert assigned(clone, "digits", "released") is None


def test_the_newest_assignment_counts_although_the_clock_was_set_back(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = new_clone(project, "a")
    old, new = (register(clone, "digits", revision, "run") for revision in (head(clone), commit(clone)))
    for version, seconds in ((old, 2_000_000_000), (new, 2_000_000_100), (old, 1_800_000_000)):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{seconds} +0000")
        assert assign(clone, version, "champion", "better") is not None
        assert assigned(clone, "digits", "champion") == version
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1700000000 +0000")
    assert register(clone, "digits", commit(clone), "third run").number == "v0.0.3"
    git("tag", "-a", "digits#champion!#4", "-m", "withdrawn", f"{old.tag}^{{}}", cwd=clone)
    assert assigned(clone, "digits", "champion") == new, "a withdrawn stage is that of the version before"


def test_of_two_runs_that_register_at_the_same_time_one_is_refused_and_pushes_nothing(project: Path) -> None:
    clones = [new_clone(project, name) for name in "ab"]
    refs = []
    for clone in clones:
        version = register(clone, "digits", commit(clone), "run")
        tag = assign(clone, version, "champion", "better")
        git("branch", f"retrain/{clone.name}", cwd=clone)
        refs.append([f"refs/tags/{version.tag}", f"refs/tags/{tag}", f"refs/heads/retrain/{clone.name}"])
    publish(clones[0], refs[0])
    publish(clones[0], refs[0])  # repeating it changes nothing
    with pytest.raises(Conflict, match=r"digits@v0\.0\.1, refs/tags/digits#champion#1 was pushed by another run"):
        publish(clones[1], refs[1])
    assert git("branch", "--list", "retrain/*", "--format=%(refname:short)", cwd=project) == "retrain/a"
    refresh(clones[1])
    assert assigned(clones[1], "digits", "champion") == Version("digits", "v0.0.1", head(clones[0]))
    assert register(clones[1], "digits", head(clones[1]), "run").number == "v0.0.2"


def test_a_data_set_has_a_valid_model_name() -> None:
    assert model_name("mouse_joints__2") == "mouse-joints-2"


def test_a_clone_does_not_change_the_checkout_and_names_an_unknown_revision(project: Path) -> None:
    (project / "notes.txt").write_text("mine")
    before = git("status", "--porcelain", cwd=project), head(project)
    with workspaces.temporary_clone(str(project), "main", "work") as clone:
        assert head(clone) == head(project) and not (clone / "notes.txt").exists()
        commit(clone)
    assert not clone.exists() and (git("status", "--porcelain", cwd=project), head(project)) == before
    with pytest.raises(UserError, match="no branch, tag or commit 'nowhere'"):
        new = state.folder() / "new"
        workspaces.clone(str(project), "nowhere", new)


def test_locks_that_a_killed_git_left_in_a_clone_are_removed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "LOCK_SECONDS", 0.0)
    clone = new_clone(project, "a")
    for lock in ("index.lock", "HEAD.lock", "refs/heads/retrain.lock"):
        (clone / ".git" / lock).touch()
    with pytest.raises(CommandFailed, match=r"index\.lock|HEAD\.lock"):
        commit(clone)
    workspaces.remove_stale_locks(clone)
    made = commit(clone)
    assert made == head(clone)


def test_a_workspace_is_used_by_one_run_at_a_time(project: Path) -> None:
    with (
        workspaces.temporary_clone(str(project), "main", "work"),
        pytest.raises(UserError, match="another run .* is using .*clones/work"),
        workspaces.temporary_clone(str(project), "main", "work"),
    ):
        pass


def with_remote(project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    """Push the outputs of a project to a remote, and register its commit."""
    monkeypatch.setenv("MACULA_REMOTE", str(folder))
    clone = new_clone(project, "a")
    dvc("push", "--quiet", cwd=clone)
    return register(clone, "digits", head(clone), "run")


def object_of(folder: Path) -> Path:
    """Return the file in a cache or remote that holds the model."""
    found = [file for file in (folder / "files/md5").rglob("*") if file.is_file() and not file.suffix]
    assert len(found) == 1
    return found[0]


def test_a_model_comes_from_the_cache_or_from_the_remote(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = with_remote(project, tmp_path / "remote", monkeypatch)
    outputs = ["data/export"]
    file = workspaces.model_of(str(project), version, outputs) / "data/export/model.onnx"
    assert file.read_text() == f"{CONTENT}\n"
    monkeypatch.setenv("MACULA_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("MACULA_STATE", str(tmp_path / "another"))
    file = workspaces.model_of(str(project), version, outputs) / "data/export/model.onnx"
    assert file.read_text() == f"{CONTENT}\n" and file.is_relative_to(tmp_path / "another")


@pytest.mark.parametrize("place", ["clone", "cache", "list of files"])
def test_damaged_files_of_a_model_are_fetched_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    version = with_remote(project, tmp_path / "remote", monkeypatch)
    folder = workspaces.model_of(str(project), version, ["data/export"])
    file = folder / "data/export/model.onnx"
    damaged = {
        "clone": file,
        "cache": object_of(state.cache()),
        "list of files": next((state.cache() / "files/md5").rglob("*.dir")),
    }[place]
    damaged.chmod(0o644)
    damaged.write_text(damaged.read_text()[:-3] + "...")
    if place != "clone":
        shutil.rmtree(folder)
    workspaces.model_of(str(project), version, ["data/export"])
    assert file.read_text() == f"{CONTENT}\n"


def test_a_model_that_is_damaged_everywhere_is_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = with_remote(project, tmp_path / "remote", monkeypatch)
    for folder in (tmp_path / "remote", state.cache()):
        file = object_of(folder)
        file.chmod(0o644)
        file.write_text("another model")
    with pytest.raises(UserError):
        workspaces.model_of(str(project), version, ["data/export"])
