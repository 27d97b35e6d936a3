"""Records of the running services on disk, so that the next start finds what a killed supervisor left running."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psutil

from stages.core.errors import UserError

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""File of Linux with an id that each boot changes."""


@dataclass(frozen=True)
class Record:
    """A running process, identified by its id and its start."""

    pid: int
    started: str
    """Result of `start_of`."""
    address: str = ""
    restarts: int = 0

    @classmethod
    def of(cls, pid: int, address: str = "", restarts: int = 0) -> "Record":
        """Return the record of a process that is running now.

        Args:
            pid: id of the process.
            address: where it listens.
            restarts: how often it was restarted.
        """
        return cls(pid, start_of(pid), address, restarts)

    def process(self) -> psutil.Process | None:
        """Return the process if it is still running; None if it has ended, or another one has its id."""
        try:
            found = psutil.Process(self.pid)
            same = start_of(self.pid) == self.started
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def start_of(pid: int) -> str:
    """Return text that differs between two processes with the same id, and that stays the same if the clock is set.

    On Linux, it is the id of the boot and the ticks from the boot to the start. A time of day, as psutil returns it,
    is computed from the present clock.

    Raises:
        psutil.NoSuchProcess: the process has ended.
    """
    if not BOOT.exists():
        return str(psutil.Process(pid).create_time())
    try:
        status = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return f"{BOOT.read_text().strip()} {status.rpartition(')')[2].split()[19]}"


def write(folder: Path, records: dict[str, Record]) -> None:
    """Write the records by name; the file is either complete or absent."""
    part = folder / "processes.json.part"
    part.write_text(json.dumps({name: vars(record) for name, record in records.items()}, indent=2) + "\n")
    part.replace(folder / "processes.json")


def read(folder: Path) -> dict[str, Record]:
    """Return the records by name; none if no services were started in the folder."""
    try:
        stored: dict[str, dict[str, Any]] = json.loads((folder / "processes.json").read_text())
    except FileNotFoundError:
        return {}
    return {name: Record(**fields) for name, fields in stored.items()}


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the supervisor of a folder; it ends with the process.

    Raises:
        UserError: another supervisor is running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            flock(file.fileno(), LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"the services of {folder} are already running; `make services-status` lists them, "
                "`make services-stop` stops them"
            ) from None
        yield


def is_locked(folder: Path) -> bool:
    """Return whether a supervisor is running."""
    if not folder.is_dir():
        return False
    try:
        with lock(folder):
            return False
    except UserError:
        return True


def stop_leftovers(folder: Path, patience: float = 20.0) -> list[str]:
    """Stop services that a killed supervisor left running; return their names.

    Args:
        folder: folder of the services.
        patience: time limit in seconds between the signal and the kill.
    """
    found = {name: record.process() for name, record in read(folder).items() if name != "supervisor"}
    running = {name: process for name, process in reversed(found.items()) if process}
    for name, process in running.items():
        # The worker first: it reports to the server, which uses the database.
        process.send_signal(2 if name == "postgres" else 15)
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.send_signal(SIGKILL)
            process.wait()
    return list(running)
