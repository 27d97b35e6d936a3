"""Images answered by child processes, each with the model at its own: a file that crashes one costs that file's row."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stages.batch_prediction.formats import FORMS, Row
from stages.batch_prediction.inputs import Asked
from stages.batch_prediction.prediction_images import write_answer, write_overlay
from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.images.sandbox import create_process_pool, stop_process_pool, wait_for_result
from stages.runtime import Model, digest_of
from stages.tasks import TASKS
from stages.tasks.task_spec import TaskSpec

CHUNK_SECONDS = 0.1  # of work that a process is given at once: what is said between processes is then no cost
CHUNK_MOST, CHUNK_BYTES = 256, 2**20  # images, and bytes of them that are held
CHUNK_LIMIT = 10.0  # seconds; after them each image of a chunk is answered alone, with all the time that it may take
AHEAD = 3  # chunks a process


@dataclass(frozen=True)
class Order:
    """What is done with every image."""

    model: Path
    form: str
    """Key of `FORMS`."""
    files: Path | None = None
    overlays: Path | None = None
    threads: int = 1
    """Of onnxruntime, a process."""
    engine: str = "auto"
    """See `Model`; a name that all processes are told, where each would choose by its own measurement."""
    precision: str = ""
    """See `Model`; told for the same reason."""
    workers: int = 1
    """Processes; 0: none, in this one, without bounds."""
    seconds: float = 120.0
    """That an image may take."""
    memory: int = 4 * 2**30
    """Bytes that an image may take."""
    digest: str = ""
    """See `digest_of`; where it is given, no process opens another model that took this one's place."""


class Line(NamedTuple):
    """A row as it is written."""

    text: bytes
    failed: bool


def answered(images: Iterator[Asked], order: Order, spec: TaskSpec) -> Iterator[tuple[Sequence[Asked], Sequence[Line]]]:
    """Some images and their rows at a time, in the order of the images, with few of them on the way.

    Raises:
        UserError: a file of `order.files` or `order.overlays` cannot be written; the model cannot be opened, or is no
            longer the one of `order.digest`.
    """
    if not order.workers:
        model = _opened(order)
        for image in images:
            yield [image], [_answer(model, order, image)]
        return
    pool = create_process_pool(order.workers, order.memory, partial(_prepare, order))
    try:
        waiting: deque[tuple[list[Asked], Any]] = deque()
        size = 1
        while True:
            chunk = _chunk(images, size)
            if chunk:
                waiting.append((chunk, _sent(chunk, order, pool)))
            if waiting and (not chunk or len(waiting) > AHEAD * order.workers):
                first, future = waiting.popleft()
                lines, seconds = _lines_of(first, future, order, spec, pool)
                size = min(CHUNK_MOST, max(1, int(CHUNK_SECONDS * len(first) / max(seconds, 1e-6))))
                yield first, lines
            elif not chunk:
                return
    finally:
        stop_process_pool(pool)


def _chunk(images: Iterator[Asked], size: int) -> list[Asked]:
    chunk: list[Asked] = []
    held = 0
    while len(chunk) < size and held < CHUNK_BYTES and (image := next(images, None)):
        chunk.append(image)
        held += image.held
    return chunk


def _sent(chunk: list[Asked], order: Order, pool: Any) -> Any:
    limit = order.seconds if len(chunk) == 1 else min(order.seconds, CHUNK_LIMIT)
    return pool.schedule(_work, (chunk,), timeout=limit)


def _lines_of(chunk: list[Asked], future: Any, order: Order, spec: TaskSpec, pool: Any) -> tuple[list[Line], float]:
    """What a process made of a chunk, and in how many seconds; where it was lost, what is made of each image alone."""
    try:
        return wait_for_result(future, order.seconds)
    except Unreadable as error:
        if len(chunk) == 1:
            return [_line({"path": chunk[0].path, "error": str(error)}, order, spec)], order.seconds
    except (RuntimeError, CancelledError) as error:
        raise UserError(f"the processes that answer cannot be kept running: {error}; try fewer --workers") from error
    alone = [_sent([image], order, pool) for image in chunk]
    parts = [_lines_of([image], one, order, spec, pool) for image, one in zip(chunk, alone, strict=True)]
    return [line for lines, _ in parts for line in lines], sum(seconds for _, seconds in parts)


def _opened(order: Order) -> Model:
    model = Model(order.model, order.threads, order.engine, order.precision)
    if order.digest and digest_of(order.model) != order.digest:
        raise UserError(f"model: {order.model} is another file than at the start; put that one back, or begin anew")
    return model


_own: dict[str, Any] = {}
"""Of a child process: its model and its order, or why there is no model."""


def _prepare(order: Order) -> None:
    try:
        _own.update(model=_opened(order), order=order)
    except Exception as error:  # raised here nobody would learn of it but that the process ended
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _own["failed"] = told


def _work(chunk: list[Asked]) -> tuple[list[Line], float]:
    if "failed" in _own:
        raise UserError(_own["failed"])
    started = time.perf_counter()
    return [_answer(_own["model"], _own["order"], image) for image in chunk], time.perf_counter() - started


def _answer(model: Model, order: Order, asked: Asked) -> Line:
    try:
        row = _row(model, order, asked)
    except UserError:
        raise
    except (Unreadable, OSError) as error:
        row = {"error": str(error)}
    except MemoryError:
        row = {"error": f"takes more than {order.memory / 2**30:g} GiB of memory; see --memory"}
    except Exception as error:  # onnxruntime's errors have no type in common; one image does not end the run
        row = {"error": f"the model fails on it: {type(error).__name__}: {error}"}
    return _line({"path": asked.path, **row}, order, model.spec)


def _line(row: Row, order: Order, spec: TaskSpec) -> Line:
    text = FORMS[order.form].row(row, spec)
    return Line(text.encode(errors="backslashreplace"), failed=bool(row["error"]))  # names may be no text


def _row(model: Model, order: Order, asked: Asked) -> Row:
    """Without its path."""
    try:
        image = model.decode_file(asked.read())
    except ValueError as error:  # a name that no file can have is one, too
        raise Unreadable(str(error)) from error
    answer = model.answer(image)
    row = {"size": image.shape[:2], "record": TASKS[model.spec.task].record(answer, model.spec), "error": ""}
    if order.files is not None:
        with _writing(order.files, asked, "--files"):
            row["file"] = str(write_answer(answer, model.spec, order.files / asked.name))
    if order.overlays is not None:
        with _writing(order.overlays, asked, "--overlays"):
            write_overlay(image, answer, model.spec, order.overlays / asked.name)
    return row


@contextmanager
def _writing(folder: Path, asked: Asked, option: str) -> Iterator[None]:
    """Nothing is written where an image may lie; and what cannot be written ends the run, which can go on later."""
    if asked.listed and Path(asked.path).resolve().is_relative_to(folder.resolve()):
        raise Unreadable(f"lies in {option} {folder}, where it could be overwritten; name another folder")
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Pillow's, of an image that has no such file
            raise
        raise UserError(f"{option} {folder}: cannot write {asked.name}: {error.strerror}") from error
