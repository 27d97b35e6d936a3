"""Folders and locks that the flows share: workspaces, fetched models and records of runs.

`MACULA_STATE` names the folder, `MACULA_REPOSITORY` the git repository of the project and `MACULA_CACHE` the DVC cache
that all workspaces share. Each has a default inside the current project.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = (*(os.strerror(code) for code in FULL), "Out of diskspace")
"""Texts of the system and of git for a full disk."""
LITTLE = 2**20
"""Number of free bytes below which a failure is explained by the full disk."""
FULL_SENTENCE = "the disk is full"
"""Text of the stages for a full disk."""


def folder() -> Path:
    """Return the folder for workspaces, fetched models and records of runs; it is created if it is missing."""
    path = Path(os.environ.get("MACULA_STATE") or "work/flows").absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def repository() -> str:
    """Return the path or URL of the git repository that contains params.yaml, the code and the tags of models."""
    return os.environ.get("MACULA_REPOSITORY") or str(Path.cwd())


def cache() -> Path:
    """Return the DVC cache that all workspaces share."""
    return Path(os.environ.get("MACULA_CACHE") or ".dvc/cache").absolute()


def full_disk_in(output: str, folder: Path | None = None) -> str:
    r"""Return a sentence that names the full disk if the output of a failed command contains this error.

    Args:
        output: output of the command.
        folder: folder to which the command wrote. DVC does not report each error of the system; therefore the sentence
            is also returned if less than `LITTLE` is free there.

    Returns:
        The sentence; empty if the disk is not full.

    >>> full_disk_in("fatal: write error: No space left on device\nfatal: the remote end hung up")
    'the disk is full (fatal: write error: No space left on device); free space and run again'
    """
    lines = [line.strip() for line in output.splitlines()]
    if own := [line for line in lines if FULL_SENTENCE in line]:
        return own[0].removeprefix("error: ")
    found = next((line for line in lines if any(words in line for words in FULL_WORDS)), "")
    if not found and folder is not None and (free := shutil.disk_usage(folder).free) < LITTLE:
        found = f"{free} bytes are free at {folder}"
    return found and f"{FULL_SENTENCE} ({found}); free space and run again"


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """Raise UserError that names the disk, instead of OSError, if a file cannot be written because the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"{FULL_SENTENCE} ({error}); free space and run again") from error


@contextmanager
def lock(name: str, use: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock among all processes on this machine that use the same state folder; it ends with the process.

    Args:
        name: name of the lock.
        use: what the lock protects, for the message.
        patience: time limit in seconds for another process to release the lock.

    Raises:
        UserError: another process holds the lock.
    """
    file = folder() / "locks" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        deadline = time.monotonic() + patience
        while not try_lock(stream.fileno()):
            if time.monotonic() >= deadline:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                raise UserError(
                    f"another run (pid {holder}) is using {use}; wait until it has ended, or stop it with "
                    f"`kill {holder}`"
                )
            time.sleep(0.2)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def try_lock(descriptor: int) -> bool:
    """Take an exclusive lock of an open file; return False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
