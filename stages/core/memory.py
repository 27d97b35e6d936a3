"""Memory of a process: its limit, its use, and the release of freed memory."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from stages.core.cpu import GROUPS

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # from malloc.h of glibc
_PAGES = 1 << 16
_KEPT_BLOCK, _KEPT = 32 << 20, 64 << 20


def allowed(groups: Path = GROUPS) -> int:
    """Return the memory limit of the container in bytes; the memory of the machine if there is no lower limit."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # version 2 of control groups, and version 1
        try:
            return min(most, int((groups / file).read_text()))
        except (OSError, ValueError):  # the file does not exist, or contains `max`
            continue
    return most


def bound(more: int) -> None:
    """Limit the address space of this process to `more` bytes above its current size; Linux only."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + more, resource.RLIM_INFINITY))


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        return _pages(1)
    except OSError:
        return 0


def _pages(column: int) -> int:
    """Return the size of the address space (column 0) or of the resident memory (1) of this process in bytes."""
    with open("/proc/self/statm") as sizes:  # noqa: PTH123  # a file of the kernel
        return int(sizes.read().split()[column]) * os.sysconf("SC_PAGE_SIZE")


@cache
def keep_freed_memory() -> None:
    """Keep freed memory in this process instead of returning it to the system, if the C library is glibc.

    Otherwise large blocks, such as the pixels of a photo or a batch of images, are returned each time, and the system
    provides them again page by page, zeroed. That took half of the time of augmentation, 4 to 8 % of a training step on
    two CPU cores, and two fifths of the time of ingest for a photo of 640x480.
    """
    _keep_all()


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """Return freed memory to the system immediately within the block; afterwards keep up to 64 MiB of it.

    This applies to allocations of at least 64 KiB. If `keep_freed_memory` was called, all freed memory is kept
    afterwards.

    Use it for short peaks: ONNX Runtime holds several copies of the weights while it opens a file, and would never
    reuse the freed memory. Keeping memory afterwards, in blocks of up to 32 MiB, saves a quarter of the time for a
    photo of 10 megapixels. If the C library is not glibc, this has no effect.
    """
    _mallopt(_MMAP_THRESHOLD, _PAGES)
    try:
        yield
    finally:
        if keep_freed_memory.cache_info().currsize:
            _keep_all()
        else:
            _mallopt(_MMAP_THRESHOLD, _KEPT_BLOCK)
            _mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back_freed_memory() -> None:
    """Return the freed memory of all threads to the system, if the C library is glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _keep_all() -> None:
    if not _mallopt(_MMAP_THRESHOLD, 1 << 30):
        _mallopt(_MMAP_THRESHOLD, 32 << 20)  # older versions of glibc allow no more
    _mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def _mallopt(option: int, value: int) -> int:
    call = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return int(call(option, value)) if call is not None else 0


@contextmanager
def without_cyclic_collection() -> Iterator[None]:
    """Suspend the search for reference cycles, which takes time with every further million of objects that are kept.

    Objects without cycles are freed as always.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
