"""Freed memory that processes keep."""

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
    blocks = [bytearray(b"x" * 100_000) for _ in range(600)]  # each smaller than what glibc maps by itself
    last = bytearray(b"x" * 100_000)  # above them: they cannot leave from the end
    del blocks
print(resident() - before)
"""


def kept(context: str) -> int:
    done = subprocess.run([sys.executable, "-c", FREED.format(context=context)], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_what_is_freed_inside_goes_back_to_the_system() -> None:
    assert kept("freed_memory_given_back()") < 5_000
    assert kept("nullcontext()") > 30_000, "the test would not notice a difference"


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
def test_the_limit_of_a_container_counts(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
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
    pass  # after it a thread keeps what it frees
before = resident()
def fill():
    blocks = [bytearray(b"x" * 100_000) for _ in range(600)]
    last.append(bytearray(b"x" * 100_000))
last = []
thread = threading.Thread(target=fill)
thread.start()
thread.join()
kept = resident() - before
give_back_freed_memory()
print(kept, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_what_threads_have_freed_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", TRIMMED], capture_output=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert left < 10_000 < 30_000 < kept
