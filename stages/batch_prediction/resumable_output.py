"""Write rows as they are predicted, so that an interrupted run can resume."""

import fcntl
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from stages.batch_prediction.formats import OutputFormat
from stages.batch_prediction.inputs import InputImage
from stages.batch_prediction.worker_pool import OutputRow
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.tasks.task_spec import TaskSpec

RECORD_INTERVAL = 1.0  # seconds between two writes of the progress record
RESTART_HINT = "use --restart to discard it"


class RowWriter:
    """Writer of rows that records how many are complete."""

    def __init__(
        self, stream: BinaryIO, format_: OutputFormat, spec: TaskSpec, record: Path | None, began: dict[str, Any]
    ):
        """Create a writer to a stream.

        Args:
            stream: binary stream; open for reading and writing, at its start, if `record` or `format_.finish` is given.
            format_: output format.
            spec: task specification of the model.
            record: JSON file with the progress; None if the run cannot be resumed.
            began: model and options; a run resumes only if they are the same.
        """
        self.rows = self.failed = 0
        self._stream, self._format, self._spec, self._record, self._began = stream, format_, spec, record, began
        self._paths, self._saved_at = hashlib.sha256(), 0.0
        self._done: dict[str, Any] = {}

    def start(self, images: Iterator[InputImage]) -> None:
        """Write the header; or, to resume, go to the end of the recorded rows and skip their images.

        Raises:
            UserError: the unfinished run had other options or images, or rows are missing.
        """
        if self._record is None or not self._record.exists():
            if self._record is not None:
                self._stream.truncate(0)  # rows without a record
            self._stream.write(self._format.head(self._spec).encode())
            self._update_progress()
            return self.save_progress()
        known = json.loads(self._record.read_text())
        changed = [key for key in self._began if known["began"].get(key) != self._began[key]]
        if changed:
            differences = ", ".join(
                f"{key} {known['began'].get(key) or 'none'} (now {self._began[key] or 'none'})" for key in changed
            )
            raise UserError(f"{self._record}: the unfinished run used {differences}; {RESTART_HINT}")
        while self.rows < known["rows"] and (image := next(images, None)):
            self._count_image(image)
        if self._paths.hexdigest() != known["paths"]:
            several = f"{known['rows']:,} images differ from those"
            differ = "image differs from that" if known["rows"] == 1 else several
            raise UserError(f"{self._record}: the first {differ} of the unfinished run; {RESTART_HINT}")
        if self._stream.seek(0, os.SEEK_END) < known["bytes"]:
            raise UserError(
                f"{self._record} records {quantity(known['bytes'], 'byte')} of rows, but {self._record.stem} has "
                f"fewer; {RESTART_HINT}"
            )
        self._stream.seek(known["bytes"])
        self._stream.truncate()  # incomplete and unrecorded rows
        self.failed = known["failed"]
        return self._update_progress()

    def add(self, images: Sequence[InputImage], lines: Sequence[OutputRow]) -> None:
        """Write the rows of images.

        Raises:
            OSError: the rows cannot be written.
        """
        between = self._format.between.encode()
        text = b"".join((between if self.rows + n else b"") + line.text for n, line in enumerate(lines))
        self._stream.write(text)
        self.failed += sum(line.failed for line in lines)
        for image in images:
            self._count_image(image)
        self._update_progress()
        if self._record is None:
            self._stream.flush()
        elif time.monotonic() - self._saved_at > RECORD_INTERVAL:
            self.save_progress()

    def finish(self, file: BinaryIO | None = None) -> None:
        """Write the end of the rows and, for a format with `OutputFormat.finish`, the final output.

        Args:
            file: binary stream for the final output; None to write the rows only.
        """
        self.save_progress()
        self._stream.write(self._format.tail.encode())
        if self._format.finish is not None and file is not None:
            self._format.finish(self._stream, self._spec, file)
        self._stream.flush()

    def _count_image(self, image: InputImage) -> None:
        self.rows += 1
        self._paths.update(os.fsencode(image.path) + b"\0")

    def _update_progress(self) -> None:
        """Update the progress in one assignment, so that an interrupt cannot leave it inconsistent."""
        if self._record is not None:
            known = {"rows": self.rows, "failed": self.failed, "bytes": self._stream.tell()}
            self._done = {"began": self._began, **known, "paths": self._paths.hexdigest()}

    def save_progress(self) -> None:
        """Write the rows to the disk, then the progress record; do nothing if the run cannot be resumed."""
        if self._record is None or not self._done:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        draft = self._record.with_name(f"{self._record.name}.new")
        with draft.open("w") as stream:
            stream.write(json.dumps(self._done, indent=1))
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self._record)
        self._saved_at = time.monotonic()


@contextmanager
def open_output(
    file: Path | None, format_: OutputFormat, spec: TaskSpec, began: dict[str, Any], restart: bool
) -> Iterator[RowWriter]:
    """Open the output for rows: a file, or standard output.

    Rows are written to FILE.part, and the progress to FILE.part.json. FILE is created when the context ends without an
    error; after an error the next run resumes.

    Args:
        file: output file; None for standard output.
        format_: output format.
        spec: task specification of the model.
        began: model and options; a run resumes only if they are the same.
        restart: discard an unfinished run.

    Raises:
        UserError: the file cannot be written, or another process is writing it.
    """
    if file is None:
        with _to_stdout(format_, spec, began) as output:
            yield output
        return
    part, record = _with_suffix(file, ".part"), _with_suffix(file, ".part.json")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _lock(part) as stream:
            if restart or not part.stat().st_size:  # or a finished run was killed before it removed the record
                record.unlink(missing_ok=True)
            output = RowWriter(stream, format_, spec, record, began)
            try:
                yield output
            except (KeyboardInterrupt, UserError):
                output.save_progress()
                raise
            complete = part
            if format_.finish is None:
                output.finish()
            else:
                complete = _with_suffix(file, ".new")
                with complete.open("wb") as made:
                    output.finish(made)
            complete.replace(file)
            record.unlink(missing_ok=True)
            if complete is not part:  # otherwise FILE.part was renamed, and may now belong to another run
                part.unlink()
    except OSError as error:
        raise UserError(f"--output {file} cannot be written: {error.strerror}") from error


def read_run_settings(file: Path | None) -> dict[str, Any]:
    """Return the model and options of the unfinished run for this file; empty if there is none."""
    record = file and _with_suffix(file, ".part.json")
    began: dict[str, Any] = json.loads(record.read_text())["began"] if record and record.is_file() else {}
    return began


@contextmanager
def _to_stdout(format_: OutputFormat, spec: TaskSpec, began: dict[str, Any]) -> Iterator[RowWriter]:
    if format_.finish is None:
        yield (output := RowWriter(sys.stdout.buffer, format_, spec, None, began))
        output.finish()
        return
    with tempfile.TemporaryFile() as rows:
        yield (output := RowWriter(rows, format_, spec, None, began))
        output.finish(sys.stdout.buffer)
        sys.stdout.flush()


@contextmanager
def _lock(part: Path) -> Iterator[BinaryIO]:
    part.touch()
    with part.open("r+b") as stream:
        busy = UserError(f"{part} is being written by another process; wait for it, or name another file")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        if not (part.exists() and os.path.samestat(part.stat(), os.fstat(stream.fileno()))):
            raise busy  # the other process has ended: the open file is now its finished output
        yield stream


def _with_suffix(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)
