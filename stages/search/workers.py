"""Workers that run trials: this process, several processes on this machine, or Dask workers on many machines.

The choice is not a param, because results do not depend on it: set `TUNE_WORKERS=4` or `TUNE_DASK=tcp://HOST:PORT`.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from stages.core.dask_client import connect
from stages.core.errors import UserError

RunJobs = Callable[[Sequence[Any]], Iterator[tuple[int, Any]]]
"""Function that runs jobs and yields the position and outcome of each as it ends."""


@contextmanager
def workers(run: Callable[[Any], Any]) -> Iterator[RunJobs]:
    """Yield a function that calls `run` on each job, in the workers that `TUNE_WORKERS` or `TUNE_DASK` selects.

    Worker processes on this machine end with the block; Dask workers do not.

    Raises:
        UserError: `TUNE_WORKERS` is invalid, or `TUNE_DASK` is set but the package distributed is missing or no
            scheduler runs at the address.
    """
    if address := os.environ.get("TUNE_DASK"):
        with _dask(run, address) as run_jobs:
            yield run_jobs
        return
    text = os.environ.get("TUNE_WORKERS", "1")
    if not text.isdigit() or not int(text):
        raise UserError(f"TUNE_WORKERS: {text!r} is not a number of processes; use 1 or more")
    if int(text) == 1:
        yield lambda jobs: ((position, run(job)) for position, job in enumerate(jobs))
        return
    threads = max(1, (os.cpu_count() or 1) // int(text))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(int(text), mp_context=context, initializer=_limit_threads, initargs=(threads,)) as pool:
        yield lambda jobs: _as_completed([pool.submit(run, job) for job in jobs])


def _limit_threads(threads: int) -> None:
    """Limit the threads of a worker to its share of the cores, unless the environment sets their number."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)


def _as_completed(futures: list[Future[Any]]) -> Iterator[tuple[int, Any]]:
    position = {future: i for i, future in enumerate(futures)}
    try:
        for future in as_completed(futures):
            yield position[future], future.result()
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _dask(run: Callable[[Any], Any], address: str) -> Iterator[RunJobs]:
    client = connect(address, "TUNE_DASK")
    from distributed import as_completed as dask_as_completed

    def run_jobs(jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        futures = [client.submit(run, job, pure=False) for job in jobs]
        position = {future.key: i for i, future in enumerate(futures)}
        for future, outcome in dask_as_completed(futures, with_results=True):  # type: ignore[no-untyped-call]
            yield position[future.key], outcome

    with client:
        yield run_jobs
