"""Rows written as they come, so that a run that was ended in the middle goes on where it stopped."""

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

from stages.batch_prediction.formats import Form
from stages.batch_prediction.inputs import Asked
from stages.batch_prediction.worker_pool import Line
from stages.core.errors import UserError
from stages.tasks.task_spec import TaskSpec

EVERY = 1.0  # seconds between two records of what is done
ANEW = "--restart begins anew, without what is done"


class Output:
    """A growing table of rows, and how much of it is to be believed."""

    def __init__(self, stream: BinaryIO, form: Form, spec: TaskSpec, record: Path | None, began: dict[str, Any]):
        """Rows go to a stream.

        Args:
            stream: open for reading and writing, at its start, where `record` or `form.finish` is given.
            form: of the rows.
            spec: of the model.
            record: JSON file that says what is done; None where the run cannot go on later.
            began: model and options; only a run with the same ones goes on.
        """
        self.rows = self.failed = 0
        self._stream, self._form, self._outline, self._record, self._began = stream, form, spec, record, began
        self._paths, self._kept_at = hashlib.sha256(), 0.0
        self._done: dict[str, Any] = {}

    def start(self, images: Iterator[Asked]) -> None:
        """Write what stands before the rows; or go on behind the rows that are recorded, and pass over their images.

        Raises:
            UserError: other options or images began the rows, or they are shorter than the record says.
        """
        if self._record is None or not self._record.exists():
            if self._record is not None:
                self._stream.truncate(0)  # rows of which nothing is known
            self._stream.write(self._form.head(self._outline).encode())
            self._done_so_far()
            return self.keep()
        known = json.loads(self._record.read_text())
        changed = [key for key in self._began if known["began"].get(key) != self._began[key]]
        if changed:
            were = ", ".join(f"{key} {known['began'].get(key)}, now {self._began[key]}" for key in changed)
            raise UserError(f"{self._record}: an unfinished run began with {were}; {ANEW}")
        while self.rows < known["rows"] and (image := next(images, None)):
            self._passed(image)
        if self._paths.hexdigest() != known["paths"]:
            raise UserError(f"{self._record}: the first {known['rows']} images are not those of the rows; {ANEW}")
        if self._stream.seek(0, os.SEEK_END) < known["bytes"]:
            raise UserError(f"{self._record} tells of {known['bytes']} bytes, but there are fewer; {ANEW}")
        self._stream.seek(known["bytes"])
        self._stream.truncate()  # a row that was half written, and those that were not recorded
        self.failed = known["failed"]
        return self._done_so_far()

    def add(self, images: Sequence[Asked], lines: Sequence[Line]) -> None:
        """Write rows; raises OSError."""
        between = self._form.between.encode()
        text = b"".join((between if self.rows + n else b"") + line.text for n, line in enumerate(lines))
        self._stream.write(text)
        self.failed += sum(line.failed for line in lines)
        for image in images:
            self._passed(image)
        self._done_so_far()
        if self._record is None:
            self._stream.flush()
        elif time.monotonic() - self._kept_at > EVERY:
            self.keep()

    def finish(self, file: BinaryIO | None = None) -> None:
        """Write what stands behind the rows; or, of forms that are made of all rows, the file."""
        self.keep()
        self._stream.write(self._form.tail.encode())
        if self._form.finish is not None and file is not None:
            self._form.finish(self._stream, self._outline, file)
        self._stream.flush()

    def _passed(self, image: Asked) -> None:
        self.rows += 1
        self._paths.update(os.fsencode(image.path) + b"\0")

    def _done_so_far(self) -> None:
        """All at once, so that an interrupt leaves nothing that does not fit together."""
        if self._record is not None:
            known = {"rows": self.rows, "failed": self.failed, "bytes": self._stream.tell()}
            self._done = {"began": self._began, **known, "paths": self._paths.hexdigest()}

    def keep(self) -> None:
        """Record what is done: first the rows reach the disk, then what is said of them."""
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
        self._kept_at = time.monotonic()


@contextmanager
def output_to(file: Path | None, form: Form, spec: TaskSpec, began: dict[str, Any], anew: bool) -> Iterator[Output]:
    """Rows to a file, or to standard output.

    While it grows the file is called FILE.part, beside it FILE.part.json says what is done; it is there as a whole when
    the context is left without an error. After one the next run goes on, unless it is told to begin `anew`.

    Raises:
        UserError: the file cannot be written, or another process writes it.
    """
    if file is None:
        with _to_stdout(form, spec, began) as output:
            yield output
        return
    part, record = _beside(file, ".part"), _beside(file, ".part.json")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as stream:
            if anew or not part.stat().st_size:  # or killed when all was done
                record.unlink(missing_ok=True)
            output = Output(stream, form, spec, record, began)
            try:
                yield output
            except (KeyboardInterrupt, UserError):
                output.keep()
                raise
            whole = part
            if form.finish is None:
                output.finish()
            else:
                whole = _beside(file, ".new")
                with whole.open("wb") as made:
                    output.finish(made)
            whole.replace(file)
            record.unlink(missing_ok=True)
            if whole is not part:  # where it is, there may be another run's by now
                part.unlink()
    except OSError as error:
        raise UserError(f"--output {file} cannot be written: {error.strerror}") from error


def began_with(file: Path | None) -> dict[str, Any]:
    """What an unfinished run to this file began with; empty where there is none."""
    record = file and _beside(file, ".part.json")
    began: dict[str, Any] = json.loads(record.read_text())["began"] if record and record.is_file() else {}
    return began


@contextmanager
def _to_stdout(form: Form, spec: TaskSpec, began: dict[str, Any]) -> Iterator[Output]:
    if form.finish is None:
        yield (output := Output(sys.stdout.buffer, form, spec, None, began))
        output.finish()
        return
    with tempfile.TemporaryFile() as rows:
        yield (output := Output(rows, form, spec, None, began))
        output.finish(sys.stdout.buffer)
        sys.stdout.flush()


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    part.touch()
    with part.open("r+b") as stream:
        other = UserError(f"{part} is being written by another process; wait for it, or name another file")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise other from None
        if not (part.exists() and os.path.samestat(part.stat(), os.fstat(stream.fileno()))):
            raise other  # which ended meanwhile: what is open here is its file of answers
        yield stream


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)
