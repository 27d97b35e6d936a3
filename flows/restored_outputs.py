"""Compare the outputs that DVC restores from its cache with their digests.

DVC does not read an object of the cache again before it restores it: damaged bytes get the correct name, and the stages
after it would work with them.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from flows.dvc_graph import CHECKING


def remove_damaged(stage: str) -> list[str]:
    """Remove the restored files of a stage whose bytes differ from the recorded digests, also from the cache.

    Returns:
        Paths of the removed files; the stage must be run again if there are any.
    """
    from dvc.repo import Repo

    removed = []
    with CHECKING, Repo(str(Path.cwd()), _wait_for_lock=True) as repo, repo.lock:
        (collected,) = repo.stage.collect(stage)
        for out in collected.outs:
            if not out.use_cache or out.hash_info is None or not out.hash_info.value:
                continue
            for digest, file in _files(repo.cache.local, out.hash_info.value, Path(out.fs_path)):
                if file.is_file() and md5(file) != digest.removesuffix(".dir"):
                    removed.append(str(file))
                    file.unlink()
                    Path(repo.cache.local.oid_to_path(digest)).unlink(missing_ok=True)
    return removed


def remove_damaged_lists(cache: Path) -> list[Path]:
    """Remove the lists of the files of folders whose bytes differ from their names from a cache; return them.

    DVC would restore what such a list contains, and record it as the output of the stage.
    """
    damaged = [file for file in (cache / "files/md5").glob("*/*.dir") if md5(file) != file.parent.name + file.stem]
    for file in damaged:
        file.unlink(missing_ok=True)
    return damaged


def md5(file: Path) -> str:
    """Return the MD5 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(cache: object, digest: str, path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the digest and path of each file of an output."""
    if not digest.endswith(".dir"):
        yield digest, path
        return
    listed = json.loads(Path(cache.oid_to_path(digest)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    yield from ((entry["md5"], path / entry["relpath"]) for entry in listed)
