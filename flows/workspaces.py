"""Clones in which flows work, so that no flow changes a checkout; they share one DVC cache."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows import state
from flows.git_commands import CommandFailed, dvc, git
from flows.registry import Version
from flows.restored_outputs import md5
from stages.core.errors import UserError

AUTHOR = {"user.name": "Macula", "user.email": "macula@localhost"}
"""Author of commits of flows on a machine where git does not know one."""
MODEL_OUTPUTS = ("data/export", "data/audit", "data/validate", "data/evaluate")
"""Outputs that describe a registered model: its file, scores and findings."""
BLOCK = 2**20
LOCK_SECONDS = 5.0
"""Pause in seconds before a lock file of git is regarded as that of a killed process."""


def clone(repository: str, revision: str, folder: Path) -> str:
    """Clone a revision of the project into a folder, which is removed first if it exists; return the commit.

    The clone uses the shared cache by copies, so that a stage which writes into an output does not change the cache. If
    it has a default DVC remote, downloads from it are verified. `MACULA_REMOTE` names another one by its URL.

    Args:
        repository: path or URL of the git repository.
        revision: branch, tag or commit.
        folder: folder of the clone.

    Raises:
        UserError: the repository or the revision does not exist, or the folder of `MACULA_CACHE` cannot be created.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    state.cache().mkdir(parents=True, exist_ok=True)
    git("clone", "--quiet", "--no-checkout", repository, str(folder), cwd=folder.parent)
    commit = _commit_of(folder, revision)
    git("checkout", "--quiet", "--detach", commit, cwd=folder)
    for key, value in AUTHOR.items():
        try:
            git("config", key, cwd=folder)
        except CommandFailed:
            git("config", key, value, cwd=folder)
    _write_dvc_config(folder)
    return commit


def remote(clone: Path) -> str:
    """Return the name of the default DVC remote of a clone; empty if it has none."""
    from dvc.repo import Repo

    with Repo(str(clone)) as repo:
        name: str = repo.config["core"].get("remote", "")
    return name


def remove_stale_locks(clone: Path) -> None:
    """Remove the lock files that a killed git left in a clone of this run; without this, git would refuse to work.

    A git command that a killed run has started may still be running. In a clone, it ends within a second.
    """
    locks = list((clone / ".git").rglob("*.lock"))
    if locks:
        time.sleep(LOCK_SECONDS)
    for lock in locks:
        lock.unlink(missing_ok=True)


@contextmanager
def temporary_clone(repository: str, revision: str, name: str) -> Iterator[Path]:
    """Clone a revision into a folder below the state folder, and remove it at the end.

    Args:
        repository: path or URL of the git repository.
        revision: branch, tag or commit.
        name: name of the folder; only one process may use it at a time.

    Raises:
        UserError: another process uses the name, or see `clone`.
    """
    folder = state.folder() / "clones" / name
    with state.lock(f"clone-{name}", str(folder)):
        try:
            clone(repository, revision, folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def model_of(repository: str, version: Version, outputs: Sequence[str] = MODEL_OUTPUTS) -> Path:
    """Return a clone of a registered version with some outputs of its run, from the cache or the remote.

    The clone is made once per version. The bytes of the outputs are compared with the digests in `dvc.lock` each time.

    Args:
        repository: path or URL of the git repository.
        version: registered version.
        outputs: outputs of stages, relative to the project.

    Raises:
        UserError: an output is neither in the cache nor in the remote, or its bytes differ from those of the run.
    """
    folder = state.folder() / "models" / version.name / version.number
    with state.lock(f"model-{version.name}-{version.number}", f"{version.tag} in {folder}", 600):
        if not _is_clone_of(folder, version.commit):
            clone(repository, version.commit, folder)
        check_out(folder, outputs, version)
    return folder


def check_out(folder: Path, outputs: Sequence[str], version: Version) -> None:
    """Write outputs of the run of a version into its clone, from the cache or the remote, and compare their bytes.

    Args:
        folder: clone of the commit of the version.
        outputs: outputs of stages, relative to the project.
        version: registered version, for the message.

    Raises:
        UserError: an output is neither in the cache nor in the remote, or its bytes differ from those of the run.
    """
    _check_out(folder, outputs)
    if damaged := [output for output in outputs if _damage(folder, output)]:
        _forget(folder, damaged)
        _check_out(folder, damaged)
    for output in damaged:
        if problem := _damage(folder, output):
            raise UserError(
                f"{version.tag}: {problem}, also in the remote; repair it with `macula doctor --remote`, or "
                f"run the pipeline at {version.commit[:10]} again"
            )


def _commit_of(folder: Path, revision: str) -> str:
    for name in (f"origin/{revision}", revision):
        with suppress(CommandFailed):
            return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=folder)
    raise UserError(f"the repository has no branch, tag or commit {revision!r}")


def _write_dvc_config(folder: Path) -> None:
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        name = repo.config["core"].get("remote", "")
        with repo.config.edit("local") as local:
            local["cache"] = {"dir": str(state.cache()), "type": "reflink,copy"}
            if url := os.environ.get("MACULA_REMOTE"):
                name = local["core"]["remote"] = "flows"
                local["remote"]["flows"] = {"url": url}
            if name:
                local["remote"].setdefault(name, {})["verify"] = True


def _is_clone_of(folder: Path, commit: str) -> bool:
    with suppress(CommandFailed, FileNotFoundError):
        return git("rev-parse", "HEAD", cwd=folder) == commit and (folder / ".dvc/config.local").is_file()
    return False


def _check_out(folder: Path, outputs: Sequence[str]) -> None:
    for digest in _locked(folder, outputs).values():
        listing = _object(digest)
        if digest.endswith(".dir") and listing.is_file() and f"{md5(listing)}.dir" != digest:
            listing.unlink()  # a damaged list of files; DVC reads it without a check
    if remote(folder):
        dvc("fetch", *outputs, cwd=folder)
    dvc("checkout", "--force", *outputs, cwd=folder)


def _locked(folder: Path, outputs: Sequence[str]) -> dict[str, str]:
    """Return the MD5 digests in hex that the run recorded for some outputs; those of folders end in `.dir`."""
    locked: dict[str, Any] = YAML(typ="safe").load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    recorded = {out["path"]: out["md5"] for stage in locked.values() for out in stage.get("outs", [])}
    return {output: recorded[output] for output in outputs}


def _entries(folder: Path, output: str) -> dict[Path, str]:
    """Return the MD5 digests in hex that the run recorded for the files of an output, by their paths in the clone."""
    digest = _locked(folder, [output])[output]
    if not digest.endswith(".dir"):
        return {folder / output: digest}
    listed = json.loads(_object(digest).read_text())
    return {folder / output / entry["relpath"]: entry["md5"] for entry in listed}


def _object(digest: str) -> Path:
    return state.cache() / "files/md5" / digest[:2] / digest[2:]


def _damage(folder: Path, output: str) -> str:
    """Return the first difference between the files of an output and their recorded digests; empty if there is none."""
    for file, digest in _entries(folder, output).items():
        if not file.is_file():
            return f"{file} is missing"
        if (found := md5(file)) != digest:
            return f"{file} has the MD5 {found} instead of {digest}"
    return ""


def _forget(folder: Path, outputs: Sequence[str]) -> None:
    """Remove damaged files of outputs from the clone and from the cache, so that they are fetched again."""
    for output in outputs:
        for file, digest in _entries(folder, output).items():
            if file.is_file() and md5(file) != digest:
                file.unlink()
            cached = _object(digest)
            if cached.is_file() and md5(cached) != digest:
                cached.unlink()
