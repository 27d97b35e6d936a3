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

from stages.frame.cores import cores
from stages.frame.memory import keep_freed_memory
from stages.images.reading import Unreadable

MEMORY = 4 * 2**30  # bytes a child may take, beside what it has from the start
SECONDS = 60.0  # for one file
WORKERS = cores()


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in one of `WORKERS` child processes; function and arguments are pickled.

    Raises:
        Unreadable: the function says so; or its process died, took longer than `SECONDS` or more than `MEMORY`.
    """
    try:
        return _pool().schedule(function, arguments, timeout=SECONDS).result()
    except ProcessExpired as error:
        raise Unreadable(f"the decoder crashed on it ({_cause(error.exitcode)})") from error
    except futures.TimeoutError as error:
        raise Unreadable(f"its decoding took longer than {SECONDS:g} s and was stopped") from error
    except MemoryError as error:
        raise Unreadable(f"its decoding takes more than {MEMORY / 2**30:g} GiB of memory") from error


def _cause(exitcode: int) -> str:
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


@cache
def _pool() -> ProcessPool:
    """Of processes that share no memory with this one, started when the first file is decoded."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=WORKERS, initializer=_bounded, context=context)
    atexit.register(_end, pool)
    return pool


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _bounded() -> None:
    """In a child: bound its memory, and leave interrupts to the parent, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what libraries say, `Unreadable` says better
    if sys.platform != "linux":
        return  # elsewhere the limit is not kept
    import resource

    with open("/proc/self/statm") as sizes:  # noqa: PTH123  # a file of the kernel's
        taken = int(sizes.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
