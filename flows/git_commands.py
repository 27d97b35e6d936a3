"""Run git and DVC, and report their failures with the command and its last line of output."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from stages.core.errors import UserError


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
    return _run(["git", *words], cwd, {**os.environ, "GIT_TERMINAL_PROMPT": "0", **(env or {})})


def dvc(*words: str, cwd: Path) -> str:
    """Run a command of DVC with the interpreter of this process and return its output without trailing white space.

    The command waits for other processes of DVC in the same workspace.

    Args:
        words: arguments of dvc.
        cwd: folder of the workspace.

    Raises:
        CommandFailed: DVC ended with an error.
    """
    return _run([sys.executable, "-m", "dvc", "--wait-for-lock", *words], cwd, environment())


def environment() -> dict[str, str]:
    """Return the environment of a stage: the same `python`, unbuffered output, and no analytics of DVC."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}


def _run(command: list[str], cwd: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it printed nothing"]
        shown = " ".join(command[2:] if command[0] == sys.executable else command)
        raise CommandFailed(f"`{shown}` in {cwd} ended with status {done.returncode}: {lines[-1]}")
    return done.stdout.rstrip()
