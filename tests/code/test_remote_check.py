"""Tests of the comparison of DVC's objects with the remote."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.git_commands import dvc, git
from flows.remote_check import Problem, check_remote
from flows.workspaces import AUTHOR
from stages.command_line.service_checks import remote_objects
from stages.core.errors import UserError
from tests.s3_server import running_store, use_store

FILES = {name: f"content of {name}" for name in ("a.txt", "b.txt", "c.txt")}
MD5 = {name: hashlib.md5(text.encode()).hexdigest() for name, text in FILES.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository with one stage that has written a folder of three files."""
    root = tmp_path_factory.mktemp("template") / "project"
    (root / "data").mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    for key, value in AUTHOR.items():
        git("config", key, value, cwd=root)
    dvc("init", "--quiet", cwd=root)
    writes = "; ".join(f"printf %s '{text}' > data/out/{name}" for name, text in FILES.items())
    (root / "dvc.yaml").write_text(f"stages:\n  write:\n    cmd: mkdir data/out; {writes}\n    outs: [data/out]\n")
    dvc("repro", "--quiet", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "--message", "run", cwd=root)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """Copy of the repository whose outputs were pushed to a folder."""
    root = shutil.copytree(template, tmp_path / "project", symlinks=True)
    dvc("remote", "add", "--default", "folder", str(tmp_path / "remote"), cwd=root)
    dvc("push", "--quiet", cwd=root)
    return root


def remote_file(project: Path, name: str) -> Path:
    return project.parent / "remote/files/md5" / MD5[name][:2] / MD5[name][2:]


def cached_file(project: Path, name: str) -> Path:
    return project / ".dvc/cache/files/md5" / MD5[name][:2] / MD5[name][2:]


def overwrite(file: Path, text: str) -> None:
    file.chmod(0o644)
    file.write_text(text)


def check(project: Path, *, read: bool = False, repair: bool = False) -> list[Problem]:
    _, count, problems = check_remote(project, read=read, repair=repair)
    assert count == 4, "the list of files and three files"
    return problems


def test_a_complete_remote_has_no_problem(project: Path) -> None:
    assert check(project) == check(project, read=True) == []


def test_a_missing_object_that_a_push_does_not_restore_is_found_and_uploaded(project: Path) -> None:
    remote_file(project, "b.txt").unlink()
    dvc("push", "--quiet", cwd=project)
    assert not remote_file(project, "b.txt").exists(), "DVC regards the folder as complete"
    (problem,) = check(project)
    assert problem == Problem(MD5["b.txt"], "missing in the remote", "data/out/b.txt (HEAD)", repaired=False)
    assert check(project, repair=True)[0].repaired
    assert remote_file(project, "b.txt").read_text() == FILES["b.txt"] and check(project, read=True) == []


@pytest.mark.parametrize("wrong", ["shorter", "content of B.txt"])
def test_wrong_bytes_in_the_remote_are_replaced(project: Path, wrong: str) -> None:
    overwrite(remote_file(project, "b.txt"), wrong)
    same_size = len(wrong) == len(FILES["b.txt"])
    assert bool(check(project)) != same_size, "without reading, only another size is noticed"
    (problem,) = check(project, read=True, repair=True)
    assert problem.fault == "wrong in the remote" and problem.repaired
    assert remote_file(project, "b.txt").read_text() == FILES["b.txt"]


def test_wrong_bytes_in_the_cache_are_replaced_and_not_uploaded(project: Path) -> None:
    overwrite(cached_file(project, "a.txt"), "content of A.txt")
    (problem,) = check(project, read=True, repair=True)
    assert problem.fault == "wrong in the cache" and problem.repaired
    assert cached_file(project, "a.txt").read_text() == remote_file(project, "a.txt").read_text() == FILES["a.txt"]


def test_an_object_that_no_place_has_is_lost(project: Path) -> None:
    overwrite(cached_file(project, "c.txt"), "content of C.txt")
    remote_file(project, "c.txt").unlink()
    (problem,) = check(project, repair=True)
    assert problem.fault == "lost" and not problem.repaired and not remote_file(project, "c.txt").exists()


def test_a_missing_list_of_files_is_uploaded(project: Path) -> None:
    (listed,) = (project.parent / "remote").rglob("*.dir")
    listed.unlink()
    (problem,) = check(project, repair=True)
    assert problem.digest.endswith(".dir") and problem.repaired and listed.is_file()


def test_a_registered_version_is_checked_although_the_checkout_has_another_lock(project: Path) -> None:
    git("tag", "--annotate", "digits@v0.0.1", "--message", "version", cwd=project)
    git("rm", "--quiet", "dvc.lock", cwd=project)
    git("commit", "--quiet", "--message", "no lock", cwd=project)
    remote_file(project, "b.txt").unlink()
    assert check(project)[0].used_by == "data/out/b.txt (digits@v0.0.1)"


@pytest.fixture
def bucket(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, object]]:
    """Copy of the repository whose outputs were pushed to a bucket, and a client of the store."""
    root = shutil.copytree(template, tmp_path / "project", symlinks=True)
    with running_store() as store:
        use_store(store, monkeypatch)
        store.client().create_bucket(Bucket="remote")
        dvc("remote", "add", "--default", "bucket", "s3://remote/dvc", cwd=root)
        dvc("push", "--quiet", cwd=root)
        yield root, store.client()


def test_the_etag_of_a_bucket_shows_wrong_bytes_without_reading_all_objects(bucket: tuple[Path, object]) -> None:
    root, client = bucket
    key = f"dvc/files/md5/{MD5['b.txt'][:2]}/{MD5['b.txt'][2:]}"
    client.put_object(Bucket="remote", Key=key, Body=b"content of B.txt")  # type: ignore[attr-defined]
    (problem,) = check(root, repair=True)
    assert problem.fault == "wrong in the remote" and problem.repaired and check(root) == []


def test_doctor_names_each_problem_and_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote_file(project, "b.txt").unlink()
    monkeypatch.chdir(project)
    total, problem = remote_objects(read=False, repair=False)
    assert total.found.endswith("4 objects compared by sizes and ETags, 1 with a problem")
    assert (problem.state, problem.advice) == ("error", "`macula doctor --remote --repair` replaces it")
    _, repaired = remote_objects(read=False, repair=True)
    assert repaired.state == "warning" and repaired.found.endswith("; repaired")


def test_a_project_without_a_remote_is_named(template: Path) -> None:
    with pytest.raises(UserError, match="has no default remote of DVC"):
        check_remote(template, read=False, repair=False)
