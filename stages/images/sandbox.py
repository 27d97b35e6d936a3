"""Foreign bytes are decoded in child processes: a decoder that crashes, hangs or swells takes one file with it."""

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent import futures
from functools import cache
from typing import Any

from pebble import ProcessExpired, ProcessPool

from stages.core.cpu import cores
from stages.core.memory import bound, keep_freed_memory
from stages.images.decode import Unreadable

MEMORY_BYTES = 4 * 2**30  # bytes a child may take, beside what it has from the start
TIMEOUT_SECONDS = 60.0  # for one file
WORKERS = cores()


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in one of `WORKERS` child processes; function and arguments are pickled.

    Raises:
        Unreadable: the function says so; or its process died, took longer than `SECONDS` or more than `MEMORY`.
    """
    return wait_for_result(_pool().schedule(function, arguments, timeout=TIMEOUT_SECONDS), TIMEOUT_SECONDS)


def wait_for_result(future: Any, seconds: float) -> Any:
    """What a task of `children` returned; raises what it raised, or Unreadable where it was lost."""
    try:
        return future.result()
    except ProcessExpired as error:
        raise Unreadable(f"the decoder crashed on it ({_cause(error.exitcode)})") from error
    except futures.TimeoutError as error:
        raise Unreadable(f"its decoding took longer than {seconds:g} s and was stopped") from error
    except MemoryError as error:
        raise Unreadable(f"its decoding takes more than {MEMORY_BYTES / 2**30:g} GiB of memory") from error


def _cause(exitcode: int) -> str:
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


def create_process_pool(workers: int, memory: int, prepare: Callable[[], None] | None = None) -> ProcessPool:
    """Processes that share no memory with this one, started with the first task, replaced when they are lost.

    Args:
        workers: how many.
        memory: bytes that each may take, beside what it has after it was prepared.
        prepare: called in each before its first task.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPool(max_workers=workers, initializer=_begin, initargs=(memory, prepare), context=context)


def stop_process_pool(pool: ProcessPool) -> None:
    """Stop the processes, whatever they are at."""
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


@cache
def _pool() -> ProcessPool:
    pool = create_process_pool(WORKERS, MEMORY_BYTES)
    atexit.register(stop_process_pool, pool)
    return pool


def _begin(memory: int, prepare: Callable[[], None] | None) -> None:
    """In a child: bound its memory, and leave interrupts to the parent, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what libraries say, `Unreadable` says better
    if prepare is not None:
        prepare()
    bound(memory)
