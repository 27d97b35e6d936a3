"""What a killed training goes on from: whole or absent, outside of the outputs, which are deleted before a rerun."""

import errno
import fcntl
import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import BaseModel

from stages.core.errors import UserError
from stages.core.provenance import content, digest
from stages.training.model_file import write

TRAININGS = Path("work/train")
KEPT = 4  # unfinished trainings beside the one that runs; older ones are forgotten
CODE = (
    "articulation",
    "augmentations",
    "core",
    "dataset",
    "images",
    "training",
    "networks",
    "preprocessing",
    "tasks",
)
PACKAGES = ("torch", "torchvision", "timm", "numpy")
FULL = (errno.ENOSPC, errno.EDQUOT)


class Restarts:
    """The checkpoints of one training: each replaces the one before once it is on the disk."""

    def __init__(self, folder: Path, seconds: float, writes: bool = True) -> None:
        """`folder` is this training's own; `seconds` lie between two checkpoints; of several processes one `writes`.

        Raises:
            UserError: another process trains the same.
        """
        self.folder, self.seconds, self.writes = folder, seconds, writes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder) if writes else None
        self._file, self._saved = folder / "checkpoint.pt", time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint; None where there is none, or where it cannot be read, which is said."""
        if not self._file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
            print(f"train: {self._file} cannot be read ({error}); training begins anew", flush=True)
            return None
        return state

    def due(self) -> bool:
        """Whether the last checkpoint is long ago."""
        return time.monotonic() - self._saved >= self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the last checkpoint, which stays where this one cannot be written.

        Raises:
            UserError: the disk is full.
        """
        if not self.writes:
            return
        part = self._file.with_suffix(".part")
        try:
            with part.open("wb") as file:
                write(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._file)
        except OSError as error:
            written = part.stat().st_size if part.exists() else 0
            part.unlink(missing_ok=True)
            if error.errno not in FULL:
                raise
            raise UserError(
                f"the checkpoint {self._file} cannot be written: the disk is full after {written / 1e6:.0f} MB of it "
                f"({error}); the one before is kept: make room and run again to go on from it"
            ) from error
        self._saved = time.monotonic()

    def finish(self) -> None:
        """The training has ended and its results are written: nothing is to be gone on from."""
        if self._lock is not None:
            shutil.rmtree(self.folder)
            self._lock.close()


def restarts(sections: Mapping[str, BaseModel], given: Sequence[Path], seconds: float, writes: bool = True) -> Restarts:
    """Those of a training by its params, by the files it reads, and by all code that it runs.

    Args:
        sections: of params, as the training takes them.
        given: files, and folders of files.
        seconds: between two checkpoints.
        writes: false in all but the first of several processes.

    Raises:
        UserError: another process trains the same.
    """
    name = content([digest(sections), *given, code()])
    found = Restarts(TRAININGS / name, seconds, writes)
    if writes:
        _forget(name)
    return found


def code() -> str:
    """A digest of the code, and the versions below it: other code would not go on as it began."""
    total, stages = hashlib.sha256(), Path(__file__).parents[1]
    for noun in CODE:
        for file in sorted((stages / noun).glob("*.py")):
            total.update(file.read_bytes())
    total.update(repr([metadata.version(package) for package in PACKAGES]).encode())
    return total.hexdigest()


def _forget(mine: str) -> None:
    """Delete the oldest of the other trainings that nobody ended or goes on with."""
    others = sorted((one for one in TRAININGS.iterdir() if one.name != mine), key=lambda one: one.stat().st_mtime)
    for folder in others[:-KEPT]:
        try:
            lock = _locked(folder)
        except UserError:
            continue
        shutil.rmtree(folder)
        lock.close()


def _locked(folder: Path) -> IO[str]:
    """Held until it is closed, or the process ends in whatever way."""
    lock = (folder / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise UserError(f"the same training runs already (process {lock.read()}, {folder}); wait for it") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
