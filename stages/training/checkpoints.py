"""Periodic checkpoints, from which a killed training resumes.

They are stored outside the stage's outputs, which DVC deletes before it runs a stage again. A checkpoint file is
complete or absent.
"""

import errno
import fcntl
import hashlib
import os
import pickle
import shutil
import time
import weakref
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import BaseModel

from stages.core.errors import UserError
from stages.core.provenance import content, digest
from stages.runner.code_check import code_digest
from stages.training.model_file import write_state

FOLDER = Path("work/train")
KEPT_FOLDERS = 4  # unfinished trainings that are kept in addition to the current one; older ones are deleted
PACKAGES = ("torch", "torchvision", "timm", "numpy")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Checkpoints:
    """Checkpoint file of one training, replaced atomically, and a lock against a second process."""

    def __init__(self, folder: Path, seconds: float, is_writer: bool = True) -> None:
        """Create the folder; the process that writes also locks it.

        Args:
            folder: folder of this training only.
            seconds: time between two checkpoints.
            is_writer: False in all but one of the processes that share a training.

        Raises:
            UserError: another process runs the same training.
        """
        self.folder, self.seconds, self.is_writer = folder, seconds, is_writer
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder) if is_writer else None
        if self._lock is not None:
            weakref.finalize(self, self._lock.close)
        self._file, self._saved_at = folder / "checkpoint.pt", time.monotonic()

    def of_member(self, number: int) -> "Checkpoints":
        """Return the checkpoints of a member of `train.folds`, counted from 1, in a folder inside this one.

        They are deleted together with this folder.
        """
        return Checkpoints(self.folder / f"member-{number}", self.seconds, self.is_writer)

    def load(self) -> dict[str, Any] | None:
        """Return the last checkpoint; None if there is none, or if it cannot be read, which is printed."""
        if not self._file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            print(f"train: checkpoint {self._file} is not readable ({why}); the training starts again", flush=True)
            return None
        return state

    def is_due(self) -> bool:
        """Return whether the time between two checkpoints has passed."""
        return time.monotonic() - self._saved_at >= self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the previous checkpoint, which remains if writing fails; do nothing unless `is_writer`.

        Raises:
            UserError: the disk is full.
            OSError: the file cannot be written for another reason.
        """
        if not self.is_writer:
            return
        part = self._file.with_suffix(".part")
        try:
            with part.open("wb") as file:
                write_state(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._file)
        except OSError as error:
            written = part.stat().st_size if part.exists() else 0
            part.unlink(missing_ok=True)
            if error.errno not in DISK_FULL:
                raise
            kept = "the previous checkpoint is kept" if self._file.exists() else "there is no previous checkpoint"
            advice = "run again to resume" if self._file.exists() else "run again"
            raise UserError(
                f"checkpoint {self._file} was not written: the disk is full after {written / 1e6:.0f} MB "
                f"({error}); {kept}; free disk space and {advice}"
            ) from error
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        """Delete the folder and release the lock, once the results are written; do nothing unless `is_writer`."""
        if self._lock is not None:
            shutil.rmtree(self.folder)
            self._lock.close()


def open_checkpoints(
    stage: str, sections: Mapping[str, BaseModel], inputs: Sequence[Path], seconds: float, is_writer: bool = True
) -> Checkpoints:
    """Open the checkpoints of the training that these params, input files and code define.

    Folders of other trainings are deleted, except the newest `KEPT_FOLDERS` and those in use.

    Args:
        stage: name of the stage that trains, such as `train`; its code includes all code that it imports.
        sections: params sections of the training.
        inputs: files, and folders of files, that the training reads.
        seconds: time between two checkpoints.
        is_writer: False in all but one of the processes that share a training.

    Raises:
        UserError: another process runs the same training.
    """
    name = content([digest(sections), *inputs, code_version(stage)])
    checkpoints = Checkpoints(FOLDER / name, seconds, is_writer)
    if is_writer:
        _delete_oldest(name)
    return checkpoints


def code_version(stage: str) -> str:
    """Return a digest of a stage's code and of the package versions under which its work can resume.

    The code is that on which the stage depends in `dvc.yaml`: an edit that makes DVC run the stage again also makes its
    checkpoints invalid, and an edit of comments, docstrings or formatting keeps them.

    Args:
        stage: name of the module below `stages`, such as `train`.
    """
    versions = [metadata.version(package) for package in PACKAGES]
    return hashlib.sha256(f"{code_digest(stage)}{versions}".encode()).hexdigest()


def _delete_oldest(own_name: str) -> None:
    """Delete all but the newest folders of other trainings, unless a process holds their lock."""
    others = sorted((one for one in FOLDER.iterdir() if one.name != own_name), key=lambda one: one.stat().st_mtime)
    for folder in others[:-KEPT_FOLDERS]:
        try:
            lock = _lock(folder)
        except UserError:
            continue
        shutil.rmtree(folder)
        lock.close()


def _lock(folder: Path) -> IO[str]:
    """Lock a folder until the returned file is closed or the process ends.

    Raises:
        UserError: another process holds the lock.
    """
    lock = (folder / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with lock:
            lock.seek(0)
            process = lock.read() or "unknown"
        raise UserError(
            f"the same training is already running (process {process}, {folder}); wait until it ends"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
