"""Records of retraining runs on branches of the repository, and the requests that they belong to.

Each run that ends is one commit on its own branch `retrain/TIME-KEY`. Its parent is the commit of the project that was
trained. It contains dvc.lock, the split table and `data/retrain.json`. KEY identifies commit and data, so that the same
data are not trained on twice.
"""

import hashlib
import json
import posixpath
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from flows import registry, source_listing, state
from flows.git_commands import CommandFailed, git
from flows.remote_files import is_remote
from stages.core.errors import UserError

RECORD = "data/retrain.json"


@dataclass(frozen=True)
class Request:
    """Commit and data of a retraining run."""

    repository: str
    commit: str
    """Commit of the project."""
    data: str
    """Name of the data set, `ingest.name`."""
    source: str
    """URL or absolute path of the images; empty if the repository contains them, or a stage of DVC creates them."""
    files: source_listing.Listing
    """Size and tag of each file of the source; empty if `source` is."""

    @property
    def key(self) -> str:
        """12 hexadecimal digits that identify commit and data."""
        text = json.dumps([self.commit, self.source, source_listing.digest(self.files)])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Record:
    """Result of a retraining run."""

    key: str
    data: str
    commit: str
    """Commit of the project that was trained."""
    source: str
    files: int
    """Number of files of the source."""
    decision: dict[str, Any]
    """Content of `Decision`."""
    version: str | None
    """Registered version, such as v0.0.3; None if the pipeline did not complete."""
    champion: str | None
    """Version with which it was compared; None if there was none."""
    ended: str
    """Time of the decision, ISO 8601 in UTC."""
    metrics: dict[str, Any]
    """Metrics of each stage that completed."""

    def as_json(self) -> str:
        """Return the record as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def refreshed_mirror(repository: str) -> Path:
    """Return a bare mirror of the repository below the state folder, brought up to date.

    Args:
        repository: path or URL of the git repository.

    Raises:
        UserError: the repository cannot be read.
    """
    folder = state.folder() / "repository.git"
    with state.lock("repository", str(folder), 120):
        try:
            _fetch(repository, folder)
        except CommandFailed:
            # A killed git leaves locks, and a full disk incomplete files. If the repository can be read, start afresh.
            draft = folder.with_suffix(".new")
            shutil.rmtree(draft, ignore_errors=True)
            _fetch(repository, draft)
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
    return folder


def _fetch(repository: str, folder: Path) -> None:
    if not (folder / "HEAD").is_file():
        git("init", "--quiet", "--bare", str(folder), cwd=folder.parent)
    git("fetch", "--quiet", "--prune", "--no-tags", repository, "+refs/*:refs/*", "+HEAD:refs/HEAD", cwd=folder)


def request_for(repository: str, revision: str, source: str) -> Request:
    """Return the request for a revision and a source; files are listed, but not read.

    Args:
        repository: path or URL of the git repository.
        revision: branch, tag or commit; HEAD for the default branch.
        source: folder, archive or URL; empty for `ingest.source` of params.yaml.

    Raises:
        UserError: the repository, the revision or the source cannot be read, or the source is empty.
    """
    mirror = refreshed_mirror(repository)
    name = "refs/HEAD" if revision == "HEAD" else revision
    try:
        commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=mirror)
    except CommandFailed:
        raise UserError(f"{repository} has no branch, tag or commit {revision!r}") from None
    params = YAML(typ="safe", pure=True).load(git("show", f"{commit}:params.yaml", cwd=mirror))["ingest"]
    used = source or params["source"]
    if not source and _is_in_clones(mirror, commit, used):
        return Request(repository, commit, params["name"], "", {})
    used = used if is_remote(used) else str(Path(used).absolute())
    files = source_listing.listing(used)
    if not files:
        raise UserError(f"the source {used} contains no files; check the path or URL")
    return Request(repository, commit, params["name"], used, files)


def _is_in_clones(mirror: Path, commit: str, source: str) -> bool:
    """Return whether a clone of the commit contains the source or creates it: in git, or as an output of DVC."""
    path = PurePosixPath(source)
    if is_remote(source) or path.is_absolute():
        return False
    if git("ls-tree", commit, "--", str(path), cwd=mirror):
        return True
    tracked = git("ls-tree", "-r", "--name-only", commit, cwd=mirror).splitlines()
    for file in (name for name in tracked if PurePosixPath(name).name == "dvc.yaml" or name.endswith(".dvc")):
        content = YAML(typ="safe", pure=True).load(git("show", f"{commit}:{file}", cwd=mirror)) or {}
        for stage in [content, *(content.get("stages") or {}).values()]:
            for out in stage.get("outs") or []:
                name = out.get("path") or next(iter(out)) if isinstance(out, dict) else out
                if path.is_relative_to(_normal(PurePosixPath(file).parent / stage.get("wdir", ".") / name)):
                    return True
    return False


def _normal(path: PurePosixPath) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(path))


def find(mirror: Path, key: str) -> Record | None:
    """Return the newest record with a key; None if there is none.

    Args:
        mirror: result of `refreshed_mirror`.
        key: key of a request.
    """
    return next((read(mirror, branch) for branch in _branches(mirror) if branch.endswith(f"-{key}")), None)


def read(mirror: Path, branch: str) -> Record:
    """Return the record of a branch."""
    return Record(**json.loads(git("show", f"refs/heads/{branch}:{RECORD}", cwd=mirror)))


def split_table(mirror: Path, request: Request) -> str | None:
    """Return the split table of the last completed run, which contains that of the request's commit; None if not.

    If the table of the project was changed since that run, the project's table is used, and the result is None.

    Args:
        mirror: result of `refreshed_mirror`.
        request: request that is about to run.
    """
    file = f"data/splits/{request.data}.json"
    # The number of the version is the order of the runs: a clock that was wrong once gives a branch a wrong time.
    for version in reversed(registry.versions(mirror, registry.model_name(request.data))):
        text = _content(mirror, version.commit, RECORD)
        record = Record(**json.loads(text)) if text else None  # a version can also be registered by hand
        if record is not None and record.data == request.data:
            before, now = (_content(mirror, commit, file) for commit in (record.commit, request.commit))
            return _content(mirror, version.commit, file) if before == now else None
    return None


def new_branch(key: str) -> str:
    """Return the name of the branch for the record of a run that ends now."""
    return f"retrain/{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{key}"


def _branches(mirror: Path) -> list[str]:
    """Return the branches of records, the newest first."""
    listed = git("for-each-ref", "--format=%(refname:strip=2)", "refs/heads/retrain", cwd=mirror)
    return sorted(listed.splitlines(), reverse=True)


def _content(mirror: Path, commit: str, file: str) -> str | None:
    try:
        return git("show", f"{commit}:{file}", cwd=mirror) + "\n"
    except CommandFailed:
        return None
