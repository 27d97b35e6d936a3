"""Predict the images of a batch in parts on a Dask cluster; the rows and their order are those of one machine.

A Dask worker runs a part in a process of its own (`part_process`), which predicts the images in further processes with
limits of time and memory. An image that crashes its process therefore ends neither the part nor the worker.
"""

import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from socket import gethostname
from typing import Any

from stages.batch_prediction.inputs import InputImage
from stages.batch_prediction.worker_pool import OutputRow, PredictionJob
from stages.core.dask_client import connect
from stages.core.errors import UserError
from stages.tasks.task_spec import TaskSpec

PART_SECONDS = 30.0  # target duration of a part, in addition to the start of its processes, which takes seconds
FIRST_PART_IMAGES, MAX_PART_IMAGES, MAX_PART_BYTES = 32, 4096, 2**25
PARTS_PER_THREAD = 2  # submitted ahead per thread of the Dask workers
PATIENCE = 120.0  # seconds without any worker, after which the run ends
CHECK_SECONDS = 5.0  # between two checks of whether there are workers
RETRIES = 2  # of a part whose process ended unexpectedly
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class PartRequest:
    """Images of a part, and all that their prediction depends on."""

    images: Sequence[InputImage]
    job: PredictionJob
    spec: TaskSpec
    folder: str
    """Current folder of the run, to which its paths are relative."""
    sources: Sequence[str]
    """Paths that must exist on the machine of the worker."""


@dataclass(frozen=True)
class PartResult:
    """Rows of a part."""

    rows: list[OutputRow] = field(default_factory=list)
    seconds: float = 0.0
    """Duration without the start of the processes."""
    problem: str = ""
    """Error of the user that ended the part."""


def predict_on_cluster(
    images: Iterator[InputImage], job: PredictionJob, spec: TaskSpec, address: str, sources: Sequence[str]
) -> Iterator[tuple[Sequence[InputImage], Sequence[OutputRow]]]:
    """Yield parts of the images with their rows, in the order of the images.

    A part whose Dask worker is lost is predicted by another one.

    Args:
        images: images to predict.
        job: model, outputs and limits; `job.workers` is the number of processes of each part.
        spec: task specification of the model.
        address: address of the Dask scheduler.
        sources: paths that the workers must be able to read: the model, and the sources of the images.

    Raises:
        UserError: the cluster is not available or has no workers; its machines lack the files; a part cannot be
            predicted; or see `predict_images`.
    """
    with connect(address, "--dask") as client:
        waiting: deque[tuple[list[InputImage], Any]] = deque()
        size = FIRST_PART_IMAGES
        while True:
            if part := _next_part(images, size):
                request = PartRequest(part, job, spec, str(Path.cwd()), sources)
                waiting.append((part, client.submit(run_part, request, pure=False, retries=RETRIES)))
            if waiting and (not part or len(waiting) > PARTS_PER_THREAD * _threads(client)):
                first, future = waiting.popleft()
                result = _result(client, future)
                if result.problem:
                    raise UserError(result.problem)
                size = max(1, min(MAX_PART_IMAGES, int(PART_SECONDS * len(first) / max(result.seconds, 1e-6))))
                yield first, result.rows
            elif not part:
                return


def run_part(request: PartRequest) -> PartResult:
    """Predict the images of a part in a process of its own; this is the task of a Dask worker.

    Raises:
        RuntimeError: the process was killed or failed, so that the part should be tried again.
    """
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.batch_prediction.part_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=request.folder, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
    except FileNotFoundError:
        return PartResult(problem=missing(request.folder))
    assert process.stdin is not None and process.stdout is not None
    with process:
        with suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps(request))
            process.stdin.flush()
        # Standard input stays open until the process has ended: when it is closed, the worker has ended.
        answer = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the process of a part ended with status {process.returncode} on {gethostname()}")
    result: PartResult = pickle.loads(answer)  # noqa: S301  written by our own process
    return result


def missing(path: str) -> str:
    """Return the message for a path that the machine of a Dask worker lacks."""
    return f"--dask: {path} does not exist on {gethostname()}; the machines of the workers require the same files"


def _next_part(images: Iterator[InputImage], size: int) -> list[InputImage]:
    part: list[InputImage] = []
    held = 0
    for image in islice(images, size):
        part.append(image)
        held += image.held
        if held > MAX_PART_BYTES:
            break
    return part


def _threads(client: Any) -> int:
    """Return the number of threads of all Dask workers, at least 1."""
    return max(1, sum(client.nthreads().values()))


def _result(client: Any, future: Any) -> PartResult:
    """Return the result of a part; raise UserError if it failed, or if there is no worker for `PATIENCE` seconds."""
    deadline = None
    while True:
        try:
            result: PartResult = future.result(timeout=CHECK_SECONDS)
        except TimeoutError:
            if client.nthreads():
                deadline = None
            elif deadline is None:
                deadline = time.monotonic() + PATIENCE
            elif time.monotonic() > deadline:
                raise UserError(
                    f"--dask: the cluster has had no worker for {PATIENCE:.0f} s; start `dask worker` on its machines"
                ) from None
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--dask: a part cannot be predicted ({type(error).__name__}: {reason})") from error
        else:
            return result
