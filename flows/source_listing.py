"""List the files of a folder, an archive or a bucket cheaply, and keep a local copy of them up to date.

A source is a path, or a URL of fsspec such as `s3://bucket/prefix`. Credentials and the address of the store are read
from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from flows.remote_files import fetcher, is_remote, list_objects, retried, shown
from stages.core.errors import UserError
from stages.core.plurals import quantity

Listing = dict[str, tuple[int, str]]
"""Size in bytes and tag (ETag, or time of modification in nanoseconds) of each file, by its path below the source."""

DOWNLOADS = 8  # at a time


def listing(url: str) -> Listing:
    """Return size and tag of each file of a source without reading the files; hidden files are left out.

    A bucket is listed with one request per 1,000 objects. A source that is one file, such as an archive, has one entry.
    A folder without files, or a prefix without objects, gives an empty listing.

    Raises:
        UserError: the source does not exist, cannot be read, does not respond, or contains a name that cannot be the
            path of a file below a folder.
    """
    found = list_objects(url) if is_remote(url) else _list_local(_local(url))
    visible = {name: found[name] for name in sorted(found) if not _is_hidden(name)}
    _refuse_conflicts(visible, url)
    return visible


def refuse_what_dvc_cannot_read(source: Path) -> None:
    """Raise UserError if a folder contains an entry of which DVC cannot compute a digest.

    DVC reads every entry of the folder before a stage starts. It waits forever for the writer of a named pipe, and it
    fails without naming a solution at a link without a target and at a name that is not UTF-8.

    Args:
        source: folder of the images; nothing is done if it is not a folder.
    """
    folders = [source] if source.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file() and not entry.is_dir():
                    kind = "a link without a target" if entry.is_symlink() else "neither a file nor a folder"
                    raise UserError(f"{entry.path!r} is {kind}, which DVC cannot read; remove it from the source")
                if not entry.name.isprintable() and any("\udc80" <= letter <= "\udcff" for letter in entry.name):
                    raise UserError(f"the name of {entry.path!r} is not UTF-8, which DVC cannot store; rename the file")


def digest(files: Listing) -> str:
    """Return a SHA-256 that changes if a file is added, removed, renamed or modified."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def mirror(url: str, folder: Path, files: Listing) -> Path:
    """Bring the copy of a source in `folder` up to date.

    Only files whose size or tag has changed since the last call are copied. Each is written beside the folder, checked
    against the size in the listing, and then renamed. Files that the listing lacks are removed. A killed call is
    resumed by the next one: `FOLDER.jsonl` contains the size and tag of each complete file.

    Args:
        url: source.
        folder: folder of the copy, which contains nothing else.
        files: result of `listing`.

    Returns:
        The folder, or the file in it if the source is one file.

    Raises:
        UserError: a file cannot be copied or written, is incomplete, or changed meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder.with_name(f"{folder.name}.jsonl")
    known = {name: entry for name, entry in _read_journal(journal).items() if _is_complete(folder / name, entry)}
    _remove_vanished(folder, files)
    changed = [name for name, entry in files.items() if known.get(name) != entry]
    if changed:
        _write_journal(journal, known)
        _copy_all(url, folder, {name: files[name] for name in changed}, journal)
        known |= {name: files[name] for name in changed}
    _write_journal(journal, {name: entry for name, entry in known.items() if name in files})
    return folder / next(iter(files)) if is_single_file(url, files) else folder


def is_single_file(url: str, files: Listing) -> bool:
    """Return whether a source is one file, such as an archive, and not a folder that contains only that file.

    Args:
        url: source.
        files: result of `listing`.
    """
    return list(files) == [PurePosixPath(url.rstrip("/")).name] and (
        not url.endswith("/") if is_remote(url) else _local(url).is_file()
    )


def _copy_all(url: str, folder: Path, changed: Listing, journal: Path) -> None:
    staging = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    fetch = fetcher(url) if is_remote(url) else _local_fetcher(_local(url))
    try:
        with journal.open("a", encoding="utf-8") as record, ThreadPoolExecutor(DOWNLOADS) as pool:
            copies = pool.map(partial(_copy, fetch, staging, folder), range(len(changed)), changed, changed.values())
            try:
                for name, entry in copies:
                    record.write(json.dumps([name, *entry]) + "\n")
                    record.flush()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        now = listing(url)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if moved := [name for name, entry in changed.items() if now.get(name) != entry]:
        for name in moved:
            (folder / name).unlink(missing_ok=True)
        raise UserError(
            f"{quantity(len(moved), 'file')} of {shown(url)} changed while being copied, such as {moved[0]}; run again "
            "when no process writes to the source"
        )


def _copy(
    fetch: Callable[[str, Path], object], staging: Path, folder: Path, number: int, name: str, entry: tuple[int, str]
) -> tuple[str, tuple[int, str]]:
    part = staging / str(number)

    def attempt() -> None:
        fetch(name, part)
        if (size := part.stat().st_size) != entry[0]:
            raise OSError(errno.EIO, f"{size} of {entry[0]} bytes were received")

    retried(attempt, name)
    try:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    except OSError as error:
        raise UserError(f"{name!r} cannot be written below {folder}: {error.strerror}") from error
    return name, entry


def _local_fetcher(root: Path) -> Callable[[str, Path], object]:
    single = root.is_file()
    return lambda name, part: shutil.copyfile(root if single else root / name, part)


def _list_local(root: Path) -> Listing:
    if root.is_file():
        return {root.name: _local_entry(root)}
    if not root.is_dir():
        raise UserError(f"{root} does not exist; name a folder, an archive or a URL such as s3://bucket/prefix")

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be listed: {error.strerror}") from error

    found: Listing = {}
    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(folder, name)
            relative = file.relative_to(root).as_posix()
            with suppress(FileNotFoundError):  # it vanished meanwhile
                found[relative] = _local_entry(file)
    return found


def _local_entry(file: Path) -> tuple[int, str]:
    try:
        about = file.stat()
    except OSError:  # a dangling link: whatever reads it states the reason
        about = file.lstat()
    return about.st_size, str(about.st_mtime_ns)


def _local(url: str) -> Path:
    return Path(url.removeprefix("file://"))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/")) or name.startswith(
        "__MACOSX/"
    )


def _refuse_conflicts(names: Iterable[str], url: str) -> None:
    """Raise UserError if a name would leave the folder of a copy, or needs a folder where another one is a file."""
    known = set(names)
    for name in known:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in name or len(os.fsencode(name)) > 4000:
            raise UserError(
                f"{shown(url)} contains {name[:200]!r}, which is not the path of a file; rename or remove it"
            )
        for end in range(1, len(parts)):
            if (parent := "/".join(parts[:end])) in known:
                raise UserError(
                    f"{shown(url)} contains {parent!r} as a file and as the folder of {name!r}; rename one of them"
                )


def _is_complete(file: Path, entry: tuple[int, str]) -> bool:
    return file.is_file() and not file.is_symlink() and file.stat().st_size == entry[0]


def _remove_vanished(folder: Path, files: Listing) -> None:
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(parent, name)
            if file.relative_to(folder).as_posix() not in files:
                file.unlink()
        for name in folders:
            with suppress(OSError):  # it is not empty
                Path(parent, name).rmdir()


def _read_journal(journal: Path) -> Listing:
    known: Listing = {}
    with suppress(FileNotFoundError):
        for line in journal.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # the last line of a killed call
                name, size, tag = json.loads(line)
                known[name] = (size, tag)
    return known


def _write_journal(journal: Path, known: Listing) -> None:
    draft = journal.with_name(f"{journal.name}.new")
    draft.write_text("".join(json.dumps([name, *entry]) + "\n" for name, entry in known.items()), encoding="utf-8")
    draft.replace(journal)
