"""What processes keep of freed memory."""

import subprocess
import sys

import pytest

FREED = """
from contextlib import nullcontext
from stages.frame.memory import freed_memory_given_back
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
