"""Small disks that tests fill up."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.state import FULL_SENTENCE, FULL_WORDS

BLOCK = 4096


@dataclass(frozen=True)
class SmallDisk:
    """File system of a fixed size."""

    folder: Path

    def fill(self, free: int = 0) -> None:
        """Write a file that leaves a number of bytes free; a few blocks that no file can use may remain.

        Args:
            free: bytes to leave free.
        """
        with (self.folder / "filler").open("ab", buffering=0) as stream:
            while (size := os.statvfs(self.folder).f_bavail * BLOCK - free) > 0:
                try:
                    stream.write(bytes(min(size, 2**20)))
                except OSError:
                    break

    def free(self) -> None:
        """Remove the file that fills the disk."""
        (self.folder / "filler").unlink(missing_ok=True)

    def is_full(self) -> bool:
        """Return whether `fill` was called and `free` was not."""
        return (self.folder / "filler").is_file()


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount a file system in memory; the test is skipped where this is not allowed.

    Args:
        folder: folder to create and to mount it on.
        mebibytes: size of the file system.
    """
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted by this user: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def names_the_disk(message: str | None) -> bool:
    """Return whether a message says that the disk is full."""
    return any(words in str(message) for words in (FULL_SENTENCE, *FULL_WORDS))
