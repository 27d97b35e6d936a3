"""Predict images in worker processes: a crash, a hang or excessive memory loses only that image."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stages.batch_prediction.formats import FORMATS, Row
from stages.batch_prediction.inputs import InputImage
from stages.batch_prediction.prediction_images import write_overlay, write_prediction
from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.images.image_statistics import compute_statistics, select_statistics
from stages.images.sandbox import create_process_pool, stop_process_pool, wait_for_result
from stages.runtime import Model, compute_digest
from stages.tasks import TASKS
from stages.tasks.task_spec import TaskSpec

CHUNK_SECONDS = 0.1  # target duration of a chunk, long enough to make communication negligible
MAX_CHUNK_IMAGES, MAX_CHUNK_BYTES = 256, 2**20  # limits of a chunk: images, and bytes in memory
CHUNK_LIMIT = 10.0  # seconds per chunk; after that each of its images runs alone, with the full time limit
CHUNKS_PER_WORKER = 3  # submitted ahead


@dataclass(frozen=True)
class PredictionJob:
    """Model, outputs and limits of a batch prediction."""

    model: Path
    format: str
    """Key of `FORMATS`."""
    files: Path | None = None
    """Folder for predicted masks or images; None to write none."""
    overlays: Path | None = None
    """Folder for images with the prediction drawn over them; None to draw none."""
    threads: int = 1
    """Threads of the engine per process."""
    engine: str = "auto"
    """See `Model`; set to one name, so that all processes use the same engine."""
    precision: str = ""
    """See `Model`; set, so that all processes use the same precision."""
    workers: int = 1
    """Number of processes; 0 to predict in this process, without limits."""
    seconds: float = 120.0
    """Time limit per image in seconds; none if `workers` is 0."""
    memory: int = 4 * 2**30
    """Memory limit per process in bytes; none if `workers` is 0."""
    digest: str = ""
    """See `compute_digest`; if set, a process refuses a model file with another digest."""
    statistics: bool = False
    """Whether rows contain statistics of the images, for `macula drift`; JSON formats only."""


class OutputRow(NamedTuple):
    """One row of the output, formatted."""

    text: bytes
    failed: bool


def predict_images(
    images: Iterator[InputImage], job: PredictionJob, spec: TaskSpec
) -> Iterator[tuple[Sequence[InputImage], Sequence[OutputRow]]]:
    """Yield chunks of images with their rows, in the order of the images.

    At most `CHUNKS_PER_WORKER` chunks per process are pending.

    Args:
        images: images to predict.
        job: model, outputs and limits.
        spec: task specification of the model.

    Raises:
        UserError: a file of `job.files` or `job.overlays` cannot be written; the model cannot be opened, or its digest
            is not `job.digest`; or the worker processes cannot be restarted.
    """
    if not job.workers:
        model = _open_model(job)
        for image in images:
            yield [image], [_predict(model, job, image)]
        return
    pool = create_process_pool(job.workers, job.memory, partial(_prepare, job))
    try:
        waiting: deque[tuple[list[InputImage], Any]] = deque()
        size = 1
        while True:
            chunk = _chunk(images, size)
            if chunk:
                waiting.append((chunk, _submit(chunk, job, pool)))
            if waiting and (not chunk or len(waiting) > CHUNKS_PER_WORKER * job.workers):
                first, future = waiting.popleft()
                rows, seconds = _collect_rows(first, future, job, spec, pool)
                size = min(MAX_CHUNK_IMAGES, max(1, int(CHUNK_SECONDS * len(first) / max(seconds, 1e-6))))
                yield first, rows
            elif not chunk:
                return
    finally:
        stop_process_pool(pool)


def _chunk(images: Iterator[InputImage], size: int) -> list[InputImage]:
    chunk: list[InputImage] = []
    size_bytes = 0
    while len(chunk) < size and size_bytes < MAX_CHUNK_BYTES and (image := next(images, None)):
        chunk.append(image)
        size_bytes += image.held
    return chunk


def _submit(chunk: list[InputImage], job: PredictionJob, pool: Any) -> Any:
    limit = job.seconds if len(chunk) == 1 else min(job.seconds, CHUNK_LIMIT)
    return pool.schedule(_predict_chunk, (chunk,), timeout=limit)


def _collect_rows(
    chunk: list[InputImage], future: Any, job: PredictionJob, spec: TaskSpec, pool: Any
) -> tuple[list[OutputRow], float]:
    """Return the rows of a chunk and its duration in seconds; if the process was lost, run each image alone.

    The row of an image that was lost alone has the reason as its error, and its duration is the time limit.
    """
    try:
        return wait_for_result(future, job.seconds)
    except Unreadable as error:
        if len(chunk) == 1:
            return [_format_row({"path": chunk[0].path, "error": str(error)}, job, spec)], job.seconds
    except (RuntimeError, CancelledError) as error:
        raise UserError(f"the worker processes cannot be restarted: {error}; try fewer --workers") from error
    alone = [_submit([image], job, pool) for image in chunk]
    parts = [_collect_rows([image], single, job, spec, pool) for image, single in zip(chunk, alone, strict=True)]
    return [row for rows, _ in parts for row in rows], sum(seconds for _, seconds in parts)


def _open_model(job: PredictionJob) -> Model:
    model = Model(job.model, job.threads, job.engine, job.precision)
    if job.digest and compute_digest(job.model) != job.digest:
        raise UserError(f"model: {job.model} has changed since the start; restore the file, or use --restart")
    return model


_worker: dict[str, Any] = {}
"""State of a worker process: its model and job, or the error that prevented opening the model."""


def _prepare(job: PredictionJob) -> None:
    try:
        _worker.update(model=_open_model(job), job=job)
    except Exception as error:  # an error raised here would only be reported as the end of the process
        unexpected = f"model: {job.model} cannot be opened ({type(error).__name__}: {error})"
        _worker["failed"] = str(error) if isinstance(error, UserError) else unexpected


def _predict_chunk(chunk: list[InputImage]) -> tuple[list[OutputRow], float]:
    if "failed" in _worker:
        raise UserError(_worker["failed"])
    started = time.perf_counter()
    return [_predict(_worker["model"], _worker["job"], image) for image in chunk], time.perf_counter() - started


def _predict(model: Model, job: PredictionJob, source: InputImage) -> OutputRow:
    try:
        row = _row(model, job, source)
    except UserError:
        raise
    except Unreadable as error:
        row = {"error": str(error)}
    except OSError as error:
        row = {"error": f"cannot be read: {error.strerror}" if error.strerror else str(error)}
    except MemoryError:
        row = {"error": f"requires more than {job.memory / 2**30:g} GiB of memory; raise --memory"}
    except Exception as error:  # onnxruntime's errors have no common base class; one image must not end the run
        row = {"error": f"cannot be predicted ({type(error).__name__}: {error})"}
    return _format_row({"path": source.path, **row}, job, model.spec)


def _format_row(row: Row, job: PredictionJob, spec: TaskSpec) -> OutputRow:
    text = FORMATS[job.format].row(row, spec)
    # File names may not be valid text.
    return OutputRow(text.encode(errors="backslashreplace"), failed=bool(row["error"]))


def _row(model: Model, job: PredictionJob, source: InputImage) -> Row:
    """Predict an image, write its file and its overlay if requested, and return its row without the path."""
    try:
        picture = model.decode_picture(source.read())
        image = model.to_input(picture)
    except Unreadable:
        raise
    except ValueError as error:  # such as a file name with a null byte
        raise Unreadable(f"cannot be read: {error}") from error
    prediction = model.predict(image)
    row = {"size": image.shape[:2], "record": TASKS[model.spec.task].record(prediction, model.spec), "error": ""}
    if job.statistics:
        row["image_statistics"] = select_statistics(compute_statistics(picture))
    if job.files is not None:
        with _guard_write(job.files, source, "--files"):
            row["file"] = str(write_prediction(prediction, model.spec, job.files / source.name))
    if job.overlays is not None:
        with _guard_write(job.overlays, source, "--overlays"):
            write_overlay(image, prediction, model.spec, job.overlays / source.name)
    return row


@contextmanager
def _guard_write(folder: Path, source: InputImage, option: str) -> Iterator[None]:
    """Refuse to overwrite an image of a list; turn a failed write into a `UserError`, which ends the run."""
    if source.listed and Path(source.path).resolve().is_relative_to(folder.resolve()):
        raise Unreadable(f"lies in {option} {folder}, where it could be overwritten; name another folder")
    try:
        yield
    except OSError as error:
        if error.errno is None:  # raised by Pillow for an image that the format cannot store
            raise
        raise UserError(f"{option} {folder}: cannot write {source.name}: {error.strerror}") from error
