"""Find and repair objects of DVC that are missing or wrong in the default remote or in the cache.

DVC regards a folder as complete while the list of its files exists: `dvc push` never uploads a missing file of such a
folder again, and `dvc pull` then delivers none of its files. Objects are therefore compared one by one.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fsspec.implementations.local import LocalFileSystem
from ruamel.yaml import YAML

from flows import state
from flows.git_commands import CommandFailed, git
from stages.core.errors import UserError

LOCK_FILES = ("dvc.lock", "data/dvc.lock", "data/sealed/dvc.lock")
BLOCK = 2**20
MD5 = re.compile(r"[0-9a-f]{32}")

Fault = Literal["missing in the remote", "wrong in the remote", "wrong in the cache", "lost"]


@dataclass(frozen=True)
class Problem:
    """An object that is missing or has other bytes than its name states."""

    digest: str
    """MD5 in hex, with the suffix .dir for the list of the files of a folder."""
    fault: Fault
    """Kind of the fault; lost: no place has the right bytes."""
    used_by: str
    """Path of the file or folder, and the revision that uses it."""
    repaired: bool
    """Whether the object was replaced by the right bytes."""


class Store:
    """The default remote and the cache of a DVC project."""

    def __init__(self, root: Path) -> None:
        """Open the default remote of the project in a folder; `MACULA_REMOTE` and `MACULA_CACHE` replace its settings.

        Raises:
            UserError: the project has no default remote, or the remote cannot be opened.
        """
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo(str(root), config=_settings_of_flows()) as repo:
                remote = repo.cloud.get_remote_odb()
                self._cache = Path(repo.cache.local.path)
        except DvcException as error:
            raise UserError(f"{root} has no default remote of DVC, or it cannot be opened: {error}") from error
        local = remote.fs.protocol == "local"  # DVC's own class for local files does not return details
        self._fs, self._root = LocalFileSystem() if local else remote.fs.fs, remote.path.rstrip("/")
        self.name = self._root if local else f"{remote.fs.protocol}://{self._root}"

    def listing(self) -> dict[str, dict[str, Any]]:
        """Return what the remote reports of each object, by its digest."""
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            found = {}
        paths = ((path.replace("\\", "/").rsplit("/", 2), about) for path, about in found.items())
        return {parts[-2] + parts[-1]: about for parts, about in paths if len(parts) == 3}

    def cached(self, digest: str) -> Path:
        """Return the path of an object in the cache, whether or not it exists."""
        return self._cache / digest[:2] / digest[2:]

    def is_right_in_cache(self, digest: str) -> bool:
        """Return whether the cache has an object with the bytes that its name states."""
        file = self.cached(digest)
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return _md5(iter(lambda: stream.read(BLOCK), b"")) == digest.removesuffix(".dir")

    def is_right_in_remote(self, digest: str, about: dict[str, Any], read: bool) -> bool:
        """Return whether an object in the remote has the bytes that its name states.

        The ETag of a store that is an MD5 proves it without reading. Otherwise the object is read if `read` is true, or
        if size or ETag differ from those expected.

        Args:
            digest: digest of the object.
            about: what the remote reports of it.
            read: whether to read objects whose ETag proves nothing.
        """
        expected = digest.removesuffix(".dir")
        tag = str(about.get("ETag", "")).strip('"')
        if tag == expected:
            return True
        cached = self.cached(digest)
        differs = MD5.fullmatch(tag) is not None or (cached.is_file() and cached.stat().st_size != about.get("size"))
        if not (read or differs):
            return True
        with self._fs.open(self._path(digest), "rb") as stream:
            return _md5(iter(lambda: stream.read(BLOCK), b"")) == expected

    def upload(self, digest: str) -> None:
        """Replace an object of the remote by that of the cache."""
        self._fs.makedirs(self._path(digest).rpartition("/")[0], exist_ok=True)
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(digest))  # local files of DVC are read-only
        self._fs.put_file(str(self.cached(digest)), self._path(digest))

    def download(self, digest: str) -> bool:
        """Replace an object of the cache by that of the remote; return whether its bytes are right."""
        file = self.cached(digest)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
            target = Path(part.name)
        try:
            self._fs.get_file(self._path(digest), str(target))
            with target.open("rb") as stream:
                right = _md5(iter(lambda: stream.read(BLOCK), b"")) == digest.removesuffix(".dir")
            if right:
                target.chmod(0o444)
                target.replace(file)
        except FileNotFoundError:
            return False
        else:
            return right
        finally:
            target.unlink(missing_ok=True)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:]}"


def _settings_of_flows() -> dict[str, Any]:
    """Return the settings of DVC that the environment of the flows replaces."""
    settings: dict[str, Any] = {}
    if url := os.environ.get("MACULA_REMOTE"):
        settings |= {"core": {"remote": "flows"}, "remote": {"flows": {"url": url}}}
    if os.environ.get("MACULA_CACHE"):
        settings["cache"] = {"dir": str(state.cache())}
    return settings


def check_remote(root: Path, *, read: bool, repair: bool) -> tuple[str, int, list[Problem]]:
    """Compare the objects that a project uses with its default remote.

    Used are the outputs in the `dvc.lock` files of the current commit, of all registered versions and of all branches
    `retrain/...`. An object that is only in the remote is not a problem.

    Args:
        root: folder of the project.
        read: read every object in the remote and in the cache, and compare its bytes with its name. Otherwise sizes and
            ETags are compared.
        repair: upload what the remote lacks, and replace wrong bytes by right ones.

    Returns:
        Address of the remote, number of objects, and problems.

    Raises:
        UserError: the project has no default remote, or the remote does not respond.
    """
    store = Store(root)
    try:
        listed = store.listing()
        used = dict(_used_objects(root, store))
        problems = [
            problem
            for digest, user in used.items()
            if (problem := _check(store, digest, user, listed.get(digest), read, repair))
        ]
    except Exception as error:  # fsspec, botocore and aiohttp have no common base class of exceptions
        if isinstance(error, UserError):
            raise
        raise UserError(f"the remote {store.name} cannot be checked: {type(error).__name__}: {error}") from error
    return store.name, len(used), problems


def _check(
    store: Store, digest: str, user: str, about: dict[str, Any] | None, read: bool, repair: bool
) -> Problem | None:
    """Return the problem of an object, or None; repair it if `repair` is true."""
    remote_right = about is not None and store.is_right_in_remote(digest, about, read)
    cached = store.cached(digest).is_file()
    doubtful = read or not remote_right
    cache_right = cached and (not doubtful or store.is_right_in_cache(digest))
    if remote_right and (cache_right or not cached):
        return None
    if remote_right:
        return Problem(digest, "wrong in the cache", user, repair and store.download(digest))
    if not cache_right:
        return Problem(digest, "lost", user, repaired=False)
    if repair:
        store.upload(digest)
    return Problem(digest, "missing in the remote" if about is None else "wrong in the remote", user, repair)


def _used_objects(root: Path, store: Store) -> Iterator[tuple[str, str]]:
    """Yield the digest of each object that a revision uses, and by what it is used."""
    seen: set[str] = set()
    for revision in _revisions(root):
        for digest, path in _outputs(root, revision):
            if digest in seen:
                continue
            seen.add(digest)
            yield digest, f"{path} ({revision})"
            if digest.endswith(".dir"):
                for entry in _files(store, digest):
                    if entry["md5"] not in seen:
                        seen.add(entry["md5"])
                        yield entry["md5"], f"{path}/{entry['relpath']} ({revision})"


def _files(store: Store, digest: str) -> list[dict[str, str]]:
    """Return the files of a folder from its list; empty if no place has the list, which is then reported as lost."""
    if not store.is_right_in_cache(digest) and not store.download(digest):
        return []
    listed: list[dict[str, str]] = json.loads(store.cached(digest).read_text())
    return listed


def _revisions(root: Path) -> list[str]:
    """Return HEAD, the tags of versions and the branches of retraining runs."""
    listed = git("for-each-ref", "--format=%(refname:short)", "refs/tags", "refs/heads/retrain", cwd=root).splitlines()
    return ["HEAD", *(name for name in listed if "@" in name or name.startswith("retrain/"))]


def _outputs(root: Path, revision: str) -> Iterable[tuple[str, str]]:
    """Yield digest and path of each cached output that the lock files of a revision list."""
    for file in LOCK_FILES:
        if revision == "HEAD" and (root / file).is_file():
            text = (root / file).read_text(encoding="utf-8")
        else:
            try:
                text = git("show", f"{revision}:{file}", cwd=root)
            except CommandFailed:
                continue
        for stage in (YAML(typ="safe").load(text).get("stages") or {}).values():
            yield from ((out["md5"], out["path"]) for out in stage.get("outs", []) if "md5" in out)


def _md5(blocks: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
