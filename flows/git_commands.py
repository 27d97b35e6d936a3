"""Run git and DVC, and report their failures with the command and its last line of output."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows import supervisor
from flows.state import full_disk_in
from stages.core.errors import UserError

REASONS = ("fatal: ", "error: ", "ERROR: ")
"""First words of the line in which git or DVC gives the reason of a failure."""


class CommandFailed(UserError):
    """A command of git or DVC ended with an error."""


def git(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a git command and return its output without trailing white space.

    Args:
        words: arguments of git.
        cwd: folder of the repository.
        env: further environment variables.

    Raises:
        CommandFailed: git ended with an error.
    """
    done = subprocess.run(
        ["git", *words],
        cwd=cwd,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **(env or {})},
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise _failure(["git", *words], cwd, done.returncode, done.stderr.strip() or done.stdout.strip())
    return done.stdout.rstrip()


def dvc(*words: str, cwd: Path) -> str:
    """Run a command of DVC with the interpreter of this process and return its output without trailing white space.

    The command waits for other processes of DVC in the same workspace, and ends with this process, also if this process
    is killed.

    Args:
        words: arguments of dvc.
        cwd: folder of the workspace.

    Raises:
        CommandFailed: DVC ended with an error.
    """
    command = ["dvc", "--wait-for-lock", *words]
    code, output = supervisor.output_of([sys.executable, "-m", *command], environment(), cwd)
    if code:
        raise _failure(command, cwd, code, output.strip())
    return output.rstrip()


def environment() -> dict[str, str]:
    """Return the environment of a stage: the same `python`, unbuffered output, and no analytics of DVC."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}


def _failure(command: Sequence[str], cwd: Path, code: int, output: str) -> CommandFailed:
    lines = output.splitlines() or ["it printed nothing"]
    # Hints of git follow the line with the reason.
    reason = full_disk_in(output, cwd) or next((line for line in lines if line.startswith(REASONS)), lines[-1])
    return CommandFailed(f"`{' '.join(command)}` in {cwd} ended with status {code}: {reason}")
