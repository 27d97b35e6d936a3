"""Who runs trials: this process, some on this machine, or workers of Dask on many.

Which of them is no param, since the outcome does not hang on it: `TUNE_WORKERS=4`, or `TUNE_DASK=tcp://HOST:PORT`.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from stages.core.errors import UserError

Run = Callable[[Sequence[Any]], Iterator[tuple[int, Any]]]
"""Jobs to their places and outcomes, as they end."""


@contextmanager
def workers(run: Callable[[Any], Any]) -> Iterator[Run]:
    """Workers for `run`, to be used inside; they end with it.

    Raises:
        UserError: the environment asks for what cannot be had.
    """
    if address := os.environ.get("TUNE_DASK"):
        with _dask(run, address) as found:
            yield found
        return
    text = os.environ.get("TUNE_WORKERS", "1")
    if not text.isdigit() or not int(text):
        raise UserError(f"TUNE_WORKERS: {text!r}: a number of processes is needed, 1 or more")
    if int(text) == 1:
        yield lambda jobs: ((place, run(job)) for place, job in enumerate(jobs))
        return
    threads = max(1, (os.cpu_count() or 1) // int(text))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(int(text), mp_context=context, initializer=_few_threads, initargs=(threads,)) as pool:
        yield lambda jobs: _as_they_end([pool.submit(run, job) for job in jobs])


def _few_threads(threads: int) -> None:
    """The cores are shared out, unless the environment says how many threads each worker has."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)


def _as_they_end(futures: list[Future[Any]]) -> Iterator[tuple[int, Any]]:
    place = {future: i for i, future in enumerate(futures)}
    try:
        for future in as_completed(futures):
            yield place[future], future.result()
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _dask(run: Callable[[Any], Any], address: str) -> Iterator[Run]:
    try:
        from distributed import Client
        from distributed import as_completed as as_dask_completes
    except ImportError as error:
        raise UserError("TUNE_DASK needs the package distributed: install the extra `workers`") from error
    try:
        client = Client(address, timeout="20s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError(
            f"TUNE_DASK: no scheduler answers at {address} ({error}); start `dask scheduler` there"
        ) from error

    def all_of(jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        futures = [client.submit(run, job, pure=False) for job in jobs]
        place = {future.key: i for i, future in enumerate(futures)}
        for future, outcome in as_dask_completes(futures, with_results=True):  # type: ignore[no-untyped-call]
            yield place[future.key], outcome

    with client:
        yield all_of
