"""Memory of a process: its limit, its use, and the release of freed memory."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from stages.core.cpu import GROUPS

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of glibc's malloc.h
_PAGES = 1 << 16
_KEPT_BLOCK, _KEPT = 32 << 20, 64 << 20


def allowed(groups: Path = GROUPS) -> int:
    """Bytes that the system lets all processes of a container take: its limit, or what the machine has."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # version 2 of control groups, and version 1
        try:
            return min(most, int((groups / file).read_text()))
        except (OSError, ValueError):  # there is none, or it is `max`
            continue
    return most


def bound(more: int) -> None:
    """Let this process have so many bytes of addresses more than it has now; only Linux keeps such a limit."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + more, resource.RLIM_INFINITY))


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not tell."""
    try:
        return _pages(1)
    except OSError:
        return 0


def _pages(column: int) -> int:
    """Bytes of this process: 0, of all its addresses; 1, in memory."""
    with open("/proc/self/statm") as sizes:  # noqa: PTH123  # a file of the kernel's
        return int(sizes.read().split()[column]) * os.sysconf("SC_PAGE_SIZE")


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, where its C library is glibc.

    Large blocks, as one photo's pixels or a batch of images are, would else go back to the system each time and come
    again page by page, zeroed: half of the time of augmentation, 4 to 8 % of a training step on two CPU cores, and two
    fifths of what ingest spends on a photo of 640x480.
    """
    _keep_all()


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """Return freed memory to the system at once inside; afterwards keep 64 MB in blocks of up to 32 MB.

    Use it for short peaks: ONNX Runtime holds several copies of the weights while it opens a file, and would never
    reuse the freed memory. Keeping blocks afterwards saves a quarter of the time of a photo of 10 megapixels. Nothing
    happens where the C library is not glibc.
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
    """To the system, at once, where the C library is glibc; the process's threads keep theirs otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _keep_all() -> None:
    if not _mallopt(_MMAP_THRESHOLD, 1 << 30):
        _mallopt(_MMAP_THRESHOLD, 32 << 20)  # older ones allow no more
    _mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def _mallopt(option: int, value: int) -> int:
    call = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return int(call(option, value)) if call is not None else 0
