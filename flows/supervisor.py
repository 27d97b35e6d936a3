"""Run a command that ends with the process that started it: `python flows/supervisor.py PARENT_PID COMMAND...`.

If DVC is terminated or killed, its running stage continues as an orphan and keeps writing. Interrupting the whole
process group ends both cleanly. Therefore a supervisor runs between a flow and each `dvc repro`. It has its own
session, so that neither Ctrl-C in the terminal nor the end of the flow reaches it or the stage.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

PATIENCE = 20.0
"""Maximum number of seconds between the interrupt and the kill."""
LONGEST = 65536
"""Maximum number of bytes without a line end that are buffered."""


def start(
    command: list[str], env: dict[str, str], keep: tuple[int, ...] = (), cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a command under a supervisor; `terminate()` of the returned process stops the command cleanly.

    Standard output and error are the pipe `stdout` of the process.

    Args:
        command: program and arguments.
        env: environment variables.
        keep: file descriptors that stay open until all processes of the command have ended.
        cwd: folder to run in; None for the current one.
    """
    return subprocess.Popen(
        _supervised(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        pass_fds=keep,
        start_new_session=True,
    )


def run(command: list[str], env: dict[str, str], cwd: Path | None = None, stdout: int | None = None) -> int:
    """Run a command under a supervisor and return its exit code.

    An interrupt is passed on to the command and all processes that it started; `KeyboardInterrupt` is raised here once
    they have ended.

    Args:
        command: program and arguments.
        env: environment variables.
        cwd: folder to run in; None for the current one.
        stdout: file descriptor for standard output; None for that of this process.
    """
    with subprocess.Popen(
        _supervised(command), stdin=subprocess.DEVNULL, stdout=stdout, env=env, cwd=cwd, start_new_session=True
    ) as running:
        try:
            return running.wait()
        except KeyboardInterrupt:
            running.terminate()
            _wait_until_ended(running)
            raise


def output_of(command: list[str], env: Mapping[str, str], cwd: Path | None = None) -> tuple[int, str]:
    """Run a command under a supervisor to its end; return its exit code, and its output and errors in one text.

    Args:
        command: program and arguments.
        env: environment variables.
        cwd: folder to run in; None for the current one.
    """
    with start(command, dict(env), cwd=cwd) as running:
        assert running.stdout is not None
        try:
            output = running.stdout.read()
        except BaseException:
            running.terminate()
            raise
    return running.returncode, output.decode(errors="replace")


def _wait_until_ended(running: subprocess.Popen[bytes]) -> None:
    """Wait for a supervisor that is stopping; further interrupts do not shorten its time limit."""
    while True:
        with suppress(KeyboardInterrupt):
            running.wait()
            return


def _supervised(command: list[str]) -> list[str]:
    return [sys.executable, "-I", str(Path(__file__).absolute()), str(os.getpid()), *command]


def lines(pipe: IO[bytes], every: float = 10.0) -> Iterator[str]:
    """Yield the lines of a pipe as they are written, and the current state of a progress bar every `every` seconds."""
    rest, shown = b"", time.monotonic()
    while chunk := os.read(pipe.fileno(), LONGEST):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(_last_segment, whole)
        if len(rest) > LONGEST and b"\r" not in rest:
            yield _last_segment(rest)
            rest = b""
        if b"\r" in rest:
            if time.monotonic() - shown > every:
                yield _last_segment(rest)
                shown = time.monotonic()
            rest = rest[rest.rstrip(b"\r").rfind(b"\r") + 1 :]
    if rest:
        yield _last_segment(rest)


def _last_segment(line: bytes) -> str:
    pieces = [piece for piece in line.decode(errors="replace").split("\r") if piece.strip()]
    return pieces[-1].rstrip() if pieces else ""


def main(parent: int, command: list[str]) -> int:
    """Run the command until it ends, a signal requests a stop, or the parent process has ended.

    Returns:
        Exit code of the command, or 128 plus the number of the signal that ended it.
    """
    signals: list[int] = []
    # Handlers instead of SIG_IGN, which the command would inherit; background jobs of a shell ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda signum, _: signals.append(signum))
    child = subprocess.Popen(command, process_group=0)
    # Unlike PR_SET_PDEATHSIG, polling the parent id is portable and follows the process, not the thread.
    while child.poll() is None and not signals and os.getppid() == parent:
        time.sleep(0.1)
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
    _signal_group(child.pid, signal.SIGKILL)  # processes that ignored the interrupt, or outlived a killed dvc
    code = child.wait()
    return code if code >= 0 else 128 - code


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
