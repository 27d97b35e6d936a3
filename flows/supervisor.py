"""A command that never outlives the process that started it: `python flows/supervisor.py PARENT_PID COMMAND...`.

DVC, when terminated or killed, leaves the stage it runs behind as an orphan that goes on writing. Interrupting the
whole process group is what ends both cleanly. So between a flow and each `dvc repro` stands this guard. It lies in a
session of its own, where neither Ctrl-C in the terminal nor the end of the flow reaches it or the stage.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

PATIENCE = 20.0
"""Seconds between the interrupt and the kill."""
LONGEST = 65536
"""Bytes of output without an end of line that are kept."""


def start(command: list[str], env: dict[str, str], keep: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start a command under a guard; its stdout and stderr are the pipe `stdout`. `terminate()` stops it cleanly.

    `keep` are file descriptors that stay open for as long as anything of the command may be alive.
    """
    return subprocess.Popen(
        _guarded(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        pass_fds=keep,
        start_new_session=True,
    )


def run(command: list[str], env: dict[str, str], cwd: Path | None = None, stdout: int | None = None) -> int:
    """Run a command under a guard, with the output of this process, and return its exit code.

    An interrupt is passed on to the command and everything it started, and raised here once all of them have ended.

    Args:
        command: program and arguments.
        env: environment variables.
        cwd: folder to run in; None for the current one.
        stdout: file descriptor for standard output; None for that of this process.
    """
    with subprocess.Popen(
        _guarded(command), stdin=subprocess.DEVNULL, stdout=stdout, env=env, cwd=cwd, start_new_session=True
    ) as running:
        try:
            return running.wait()
        except KeyboardInterrupt:
            running.terminate()
            _wait_out(running)
            raise


def _wait_out(running: subprocess.Popen[bytes]) -> None:
    """Wait for a guard that was told to stop; further interrupts do not shorten its patience."""
    while True:
        with suppress(KeyboardInterrupt):
            running.wait()
            return


def _guarded(command: list[str]) -> list[str]:
    return [sys.executable, "-I", str(Path(__file__).absolute()), str(os.getpid()), *command]


def lines(pipe: IO[bytes], every: float = 10.0) -> Iterator[str]:
    """Lines of a pipe as they come; of a progress bar, which rewrites its line, the newest piece each `every` s."""
    rest, shown = b"", time.monotonic()
    while chunk := os.read(pipe.fileno(), LONGEST):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(_last_piece, whole)
        if len(rest) > LONGEST and b"\r" not in rest:
            yield _last_piece(rest)
            rest = b""
        if b"\r" in rest:
            if time.monotonic() - shown > every:
                yield _last_piece(rest)
                shown = time.monotonic()
            rest = rest[rest.rstrip(b"\r").rfind(b"\r") + 1 :]
    if rest:
        yield _last_piece(rest)


def _last_piece(line: bytes) -> str:
    pieces = [piece for piece in line.decode(errors="replace").split("\r") if piece.strip()]
    return pieces[-1].rstrip() if pieces else ""


def main(parent: int, command: list[str]) -> int:
    """Run the command until it ends, until someone asks to stop, or until the parent is gone."""
    asked: list[int] = []
    # Handlers, not SIG_IGN, which the command would inherit: a shell's background job ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda signum, _: asked.append(signum))
    child = subprocess.Popen(command, process_group=0)
    # Asking who the parent is works where PR_SET_PDEATHSIG does not exist, and minds processes, not threads.
    while child.poll() is None and not asked and os.getppid() == parent:
        time.sleep(0.1)
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
    _signal_group(child.pid, signal.SIGKILL)  # what ignored the interrupt, or outlived a killed dvc
    code = child.wait()
    return code if code >= 0 else 128 - code


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
