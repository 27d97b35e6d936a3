"""Decode untrusted files in worker processes: a crash, a hang or excessive memory loses only that file."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import cache
from multiprocessing import resource_tracker
from typing import Any

from pebble import ProcessExpired, ProcessPool

from stages.core.cpu import cores
from stages.core.memory import bound, keep_freed_memory
from stages.images.decode import Unreadable

MEMORY_BYTES = 4 * 2**30  # bytes a worker may allocate in addition to its memory at the start
TIMEOUT_SECONDS = 60.0  # for one file
WORKERS = cores()
_uses_workers = True
_pool_lock = threading.Lock()


@contextmanager
def without_isolation() -> Iterator[None]:
    """Run what `run_isolated` is given in this process within the block, also in its threads.

    `configure` decodes a few images and masks in any case, for which workers take longer to start than to decode.
    """
    global _uses_workers  # noqa: PLW0603  # threads of the block have no context variables
    _uses_workers = False
    try:
        yield
    finally:
        _uses_workers = True


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run `function(*arguments)` in one of `WORKERS` worker processes; function and arguments are pickled.

    Within `without_isolation`, the function runs in this process.

    Raises:
        Unreadable: the function raised it, or the worker crashed or exceeded `TIMEOUT_SECONDS` or `MEMORY_BYTES`.
        Exception: any other exception that the function raised.
    """
    if not _uses_workers:
        return function(*arguments)
    with _pool_lock:  # threads that call a cached function at the same time would each start a pool
        pool = _pool()
    return wait_for_result(pool.schedule(function, arguments, timeout=TIMEOUT_SECONDS), TIMEOUT_SECONDS)


def wait_for_result(future: Any, seconds: float) -> Any:
    """Return the result of a task, or raise its exception.

    Args:
        future: future of a task in a pool of `create_process_pool`.
        seconds: timeout of the task, for the message.

    Raises:
        Unreadable: the worker crashed, or exceeded its limit of time or memory.
        Exception: any other exception of the task.
    """
    try:
        return future.result()
    except ProcessExpired as error:
        raise Unreadable(f"crashed the worker process ({_cause(error.exitcode)})") from error
    except futures.TimeoutError as error:
        raise Unreadable(f"took longer than {seconds:g} s to process") from error
    except MemoryError as error:
        raise Unreadable(f"requires more than {MEMORY_BYTES / 2**30:g} GiB of memory") from error


def _cause(exitcode: int) -> str:
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


def create_process_pool(workers: int, memory: int, prepare: Callable[[], None] | None = None) -> ProcessPool:
    """Start a pool of spawned processes, which are replaced when they are lost and ignore interrupts.

    Args:
        workers: number of processes.
        memory: bytes that each may allocate in addition to its memory after `prepare`.
        prepare: called in each process before its first task.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=workers, initializer=_initialize_worker, initargs=(memory, prepare), context=context)
    # A process can ignore interrupts only once its interpreter has started; until then Ctrl-C would print a traceback.
    # The processes, and the threads of the pool that replace them, inherit the signal mask of this thread. The resource
    # tracker starts first, because starting it unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        assert pool.active  # reading this property starts the pool
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pool


def stop_process_pool(pool: ProcessPool) -> None:
    """Stop all processes of a pool, including running tasks."""
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


@cache
def _pool() -> ProcessPool:
    pool = create_process_pool(WORKERS, MEMORY_BYTES)
    atexit.register(stop_process_pool, pool)
    return pool


def _initialize_worker(memory: int, prepare: Callable[[], None] | None) -> None:
    """Initialize a worker: ignore interrupts, which the parent handles, hide standard error, prepare, limit memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    os.dup2(
        os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno()
    )  # hide messages of libraries; `Unreadable` reports the error
    if prepare is not None:
        prepare()
    bound(memory)
