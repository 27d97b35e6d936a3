"""One stage at a time through `dvc repro`, at most two side by side, each under a guard."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows import dvc_graph, supervisor

SIDE_BY_SIDE = 2
"""Stages that run at the same time, at most."""
BUSY = re.compile(r"^ERROR: .* is busy, it is being blocked by:")
"""DVC's words when another stage's command holds an overlapping path; nothing has been run then."""
HINTS = re.compile(r"^(To track the changes with git|To enable auto staging|Use `dvc push`|\s+(git add|dvc config) )")
DVC_WORDS = re.compile(r"^(Running stage '|> |ERROR: failed to reproduce .*: failed to run: )")

Ending = Literal["Ran", "Restored", "Unchanged", "Failed", "Stopped"]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    ending: Ending
    """Ran; Restored from the run cache; Unchanged, so skipped; Failed; Stopped, because the flow was."""
    words: str
    """The stage's last words, where it failed."""
    began: float
    """Seconds since the epoch."""
    seconds: float
    """From the first check to the end, without waiting for a turn."""


class Line:
    """The stages of one flow run: who may run now, and how each ended."""

    def __init__(self, lock: int) -> None:
        """`lock` is the workspace lock's file descriptor, which the guards hold as well."""
        self.outcomes: dict[str, Outcome] = {}
        self._lock = lock
        self._turns = threading.Semaphore(SIDE_BY_SIDE)
        self._guards: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.Lock()
        self._stopped = threading.Event()

    def reproduce(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Bring a stage up to date; its output goes to `log` line by line."""
        began = time.time()
        ending: Ending | None = "Unchanged" if dvc_graph.unchanged(stage) else None
        words = ""
        while ending is None:
            with self._turns:
                began = time.time()
                ending, words = self._repro(stage, log)
            if ending is None:
                log("waits for another stage to free a path that both use")
                self._stopped.wait(1)
        self.outcomes[stage] = Outcome(ending, words, began, time.time() - began)
        return self.outcomes[stage]

    def stop(self) -> None:
        """Interrupt what runs and let nothing start any more."""
        with self._starting:
            self._stopped.set()
            for running in self._guards:
                running.terminate()

    def _repro(self, stage: str, log: Callable[[str], None]) -> tuple[Ending | None, str]:
        """One `dvc repro` of one stage; no ending where it has to be tried again."""
        # Without --wait-for-lock a finished stage is lost when DVC's lock is taken for 3 s at its end.
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
        with self._starting:
            if self._stopped.is_set():
                return "Stopped", ""
            running = supervisor.start(command, environment(), keep=(self._lock,))
            self._guards.add(running)
        assert running.stdout is not None
        said: deque[str] = deque(maxlen=1000)
        ending: Ending = "Ran"
        with running:
            for line in supervisor.lines(running.stdout):
                if not line.strip() or HINTS.match(line):
                    continue
                said.append(line)
                log(line)
                if line == f"Stage '{stage}' is cached - skipping run, checking out outputs":
                    ending = "Restored"
                elif line.endswith(f"'{stage}' didn't change, skipping"):
                    ending = "Unchanged"
        with self._starting:
            self._guards.discard(running)
        if running.returncode == 0:
            return ending, ""
        if self._stopped.is_set():
            return "Stopped", ""
        return (None, "") if any(map(BUSY.match, said)) else ("Failed", last_words(list(said)))


def environment() -> dict[str, str]:
    """A stage's environment: `python` is this one, and output comes as it is written."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}


def last_words(said: list[str]) -> str:
    r"""From the last line that starts `error: ` on, else the last lines; without what DVC says around them.

    >>> last_words(["> python x.py", "epoch 1", "error: 2 findings", "  dark"])
    'error: 2 findings\n  dark'
    """
    own = [line for line in said if not DVC_WORDS.match(line)]
    errors = [i for i, line in enumerate(own) if line.startswith("error: ")]
    return "\n".join(own[errors[-1] :][:40] if errors else own[-12:]) or "no word from the stage"
