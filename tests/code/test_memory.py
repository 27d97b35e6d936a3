"""The memory limit of a container, and the release of freed memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.memory import allowed

FREED = """
from contextlib import nullcontext
from stages.core.memory import freed_memory_given_back
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
with {context}:
    before = resident()
    blocks = [bytearray(b"x" * 100_000) for _ in range(600)]  # each is smaller than the mmap threshold of glibc
    last = bytearray(b"x" * 100_000)  # at the end of the heap, so that trimming the end frees nothing
    del blocks
print(resident() - before)
"""


def retained_kilobytes(context: str) -> int:
    """Return the growth of resident memory after blocks were freed in a context, kB."""
    done = subprocess.run([sys.executable, "-c", FREED.format(context=context)], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_freed_in_the_context_is_returned_to_the_system() -> None:
    assert retained_kilobytes("freed_memory_given_back()") < 5_000
    assert retained_kilobytes("nullcontext()") > 30_000, "the test would not notice a difference"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "104857600\n"}, 104857600),
        ({"memory/memory.limit_in_bytes": "104857600\n"}, 104857600),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_the_memory_limit_of_a_container_is_used(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert allowed(tmp_path) == (expected or machine)


TRIMMED = """
import threading
from stages.core.memory import freed_memory_given_back, give_back_freed_memory
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
with freed_memory_given_back():
    pass  # afterwards a thread retains the memory that it frees
before = resident()
def fill():
    blocks = [bytearray(b"x" * 100_000) for _ in range(600)]
    last.append(bytearray(b"x" * 100_000))
last = []
thread = threading.Thread(target=fill)
thread.start()
thread.join()
retained = resident() - before
give_back_freed_memory()
print(retained, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_freed_by_threads_can_be_returned_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", TRIMMED], capture_output=True, check=True)
    retained, remaining = map(int, done.stdout.split())
    assert remaining < 10_000 < 30_000 < retained
