"""The model file that a server watches: its replacement by rename, the previous file, and the record of deployments.

Beside `model.onnx` lies the folder `model.onnx.deployments`:

    deployments.jsonl       one row per finished change
    pending.json            the change in progress; a killed deployment leaves it
    next.onnx               the complete new file, before the change
    DIGEST.onnx             copies of the current file and of previous ones, by the first digits of their SHA-256
    DIGEST.golden.zip       golden images of each
    lock                    locked while a deployment runs

Replacing and restoring are renames on one file system: they need no space, and the server sees the old file or the new
one, never a part. Files are identified by digest only.
"""

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

from stages.core.errors import UserError

KEPT = 2
"""Previous models that are kept."""
SHORT = 12
"""Digits of a digest in names and messages."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Change:
    """A replacement of the deployed file."""

    id: str
    """Time of the start; it identifies the change in the record."""
    before: str
    """SHA-256 of the file that is replaced; empty if there was none."""
    after: str
    """SHA-256 of the new file."""
    label: str
    """Version or path of the new model, for the record."""


class ReplacedByOthers(UserError):
    """Another program has replaced the deployed file during a deployment."""


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file in hex; empty if the file does not exist."""
    try:
        with file.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


class DeployedFile:
    """The deployed model file and the folder with its record. Every method may be repeated after a crash."""

    def __init__(self, file: Path) -> None:
        self.file = file.absolute()
        self.folder = self.file.with_name(f"{self.file.name}.deployments")
        self.record = self.folder / "deployments.jsonl"
        self.next = self.folder / "next.onnx"
        self._pending = self.folder / "pending.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the deployed file for one deployment.

        The lock is released when the process ends, however it ends. On NFS it is valid for all machines.

        Raises:
            UserError: another deployment is running, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = (self.folder / "lock").open("a+")
        except OSError as error:
            raise UserError(f"deploy: {self.folder} cannot be written: {error}; nothing was changed") from error
        with stream:
            try:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "unknown process"
                raise UserError(
                    f"deploy: another deployment of {self.file} is running ({holder}); run again when it has finished"
                ) from None
            with suppress(OSError):  # the text is for the message only; the disk may be full
                stream.truncate(0)
                stream.write(f"pid {os.getpid()} on {socket.gethostname()}, since {_now()}\n")
                stream.flush()
            yield

    def current(self) -> str:
        """Return the SHA-256 of the deployed file; empty if there is none."""
        return digest_of(self.file)

    def kept(self, digest: str) -> Path:
        """Return the path of the copy of a model."""
        return self.folder / f"{digest[:SHORT]}.onnx"

    def golden(self, digest: str) -> Path:
        """Return the path of the golden images of a model."""
        return self.folder / f"{digest[:SHORT]}.golden.zip"

    def prepare(self, model: Path, golden: Path, label: str) -> Change:
        """Copy the new model and its golden images into the folder, and keep a copy of the current model.

        Args:
            model: new model file.
            golden: its golden images.
            label: version or path of the model, for the record.

        Raises:
            UserError: the disk is full, a file cannot be read or written, or a copy differs. Nothing was changed.
        """
        try:
            before, after = self.current(), digest_of(model)
            if before and digest_of(self.kept(before)) != before:
                _copy(self.file, self.kept(before), before)
            _copy(model, self.next, after)
            if golden.absolute() != self.golden(after):
                _copy(golden, self.golden(after), digest_of(golden))
        except OSError as error:
            self._remove_parts()
            reason = "the disk is full" if error.errno in FULL else "copying failed"
            raise UserError(
                f"deploy: {reason} ({error}); nothing was changed: free space in {self.folder} and run again"
            ) from error
        return Change(_now(), before, after, label)

    def begin(self, change: Change) -> None:
        """Write down the change that is about to be made.

        Raises:
            UserError: the disk is full.
        """
        try:
            _write(self._pending, json.dumps(asdict(change)) + "\n")
        except OSError as error:
            raise UserError(
                f"deploy: {self._pending} cannot be written ({error}); nothing was changed: free space and run again"
            ) from error

    def pending(self) -> Change | None:
        """Return the change of a deployment that was killed; None if there is none."""
        try:
            return Change(**json.loads(self._pending.read_text()))
        except FileNotFoundError:
            return None

    def replace(self, change: Change) -> None:
        """Rename the new file to the deployed one.

        Raises:
            ReplacedByOthers: the deployed file is neither the old nor the new one.
        """
        now = self.current()
        if now == change.after:
            return
        if now != change.before:
            raise ReplacedByOthers(self._replaced(now))
        self.next.rename(self.file)
        _sync(self.file.parent)

    def restore(self, change: Change) -> None:
        """Rename the copy of the previous file to the deployed one; without a previous file, remove the new one.

        Raises:
            ReplacedByOthers: the deployed file is neither the old nor the new one.
            UserError: the copy of the previous file is damaged.
        """
        now = self.current()
        if now == change.before:
            return
        if now not in (change.after, ""):
            raise ReplacedByOthers(self._replaced(now))
        if not change.before:
            self.file.unlink()
        elif digest_of(self.kept(change.before)) != change.before:
            raise UserError(
                f"deploy: {self.kept(change.before)} is missing or damaged, so {self.file} was not restored; deploy "
                "another model"
            )
        else:
            self.kept(change.before).rename(self.file)
        _sync(self.file.parent)

    def finish(self, change: Change, outcome: str, message: str) -> None:
        """Add the change to the record, unless it is recorded already, and remove what is no longer needed.

        Args:
            change: finished change.
            outcome: one of the outcomes of a deployment.
            message: reason, for people.

        Raises:
            OSError: the record cannot be written.
        """
        if not any(row["id"] == change.id for row in self.history()):
            row = {**asdict(change), "finished": _now(), "outcome": outcome, "message": message}
            with self.record.open("a+b") as stream:
                end = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, end - 1))
                torn = end > 0 and stream.read(1) != b"\n"  # the last row of a process that was killed
                stream.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        self._pending.unlink(missing_ok=True)
        self._remove_parts()
        self._remove_old()

    def history(self) -> list[dict[str, Any]]:
        """Return the finished changes, oldest first, without rows that a killed process did not complete."""
        rows = []
        for line in self.record.read_text().splitlines() if self.record.exists() else []:
            with suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def _remove_parts(self) -> None:
        for file in [self.next, *self.folder.glob("*.part")]:
            file.unlink(missing_ok=True)

    def _remove_old(self) -> None:
        """Remove copies of models other than the current one and the `KEPT` that were deployed before it."""
        deployed = [row["before"] for row in reversed(self.history()) if row["outcome"] == "deployed"]
        recent = list(dict.fromkeys(digest for digest in deployed if digest))[:KEPT]
        wanted = {digest[:SHORT] for digest in [self.current(), *recent]}
        for file in [*self.folder.glob("*.onnx"), *self.folder.glob("*.golden.zip")]:
            if file.name.partition(".")[0] not in wanted:
                file.unlink()

    def _replaced(self, now: str) -> str:
        return (
            f"deploy: {self.file} was replaced by another program during the deployment (now {now[:SHORT] or 'gone'}); "
            "it is left as it is: find out which program writes it, then deploy again"
        )


def _copy(source: Path, target: Path, digest: str) -> None:
    """Copy a file so that the copy is complete or absent; raise OSError if its digest differs from the given one."""
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, part)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    if digest_of(part) != digest:
        raise OSError(f"the copy of {source} differs from the original")
    part.rename(target)
    _sync(target.parent)


def _write(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    with part.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    """Write a folder to the disk, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
