"""Run stages through `dvc repro`, at most two at the same time, each under a supervisor."""

import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows import dvc_graph, supervisor
from flows.dvc_repro import duration, remove_findings
from flows.git_commands import environment
from flows.restored_outputs import remove_damaged
from flows.state import FULL_SENTENCE, full_disk_in

MAX_PARALLEL = 2
"""Maximum number of stages that run at the same time."""
BUSY = re.compile(r"^ERROR: .* is busy, it is being blocked by:")
"""Message of DVC if another stage uses an overlapping path; in this case, DVC has not run the command."""
HINTS = re.compile(r"^(To track the changes with git|To enable auto staging|Use `dvc push`|\s+(git add|dvc config) )")
KILLED = re.compile(r"^ERROR: failed to reproduce .*: failed to run: .* exited with (-9|137)$")
"""Message of DVC if the command was killed: shells that run it in a child process, such as dash, exit with 137."""
KILLED_WORDS = "error: the stage was killed (SIGKILL), as the system does when memory is exhausted"
TEMPORARY = re.compile(
    r"(ConnectionError|ConnectTimeout|ReadTimeout|EndpointConnectionError|IncompleteRead|RemoteDisconnected|SlowDown"
    r"|Connection (reset|refused|aborted|timed out)|[Tt]emporary failure in name resolution|[Nn]etwork is unreachable"
    r"|([Rr]ead|connect|operation|request) timed out|HTTP Error 5\d\d"
    r"|\b5\d\d (Server|Internal|Service|Bad Gateway|Gateway)"
    r"|was killed \(SIGKILL\))"
)
"""Last lines of a stage whose failure may be over at the next attempt: of the network, or killed from outside."""
RETRY_SECONDS = (10.0, 60.0)
"""Pauses in seconds before a stage with such a failure is run again."""
DVC_MESSAGES = re.compile(r"^(Running stage '|> |ERROR: failed to reproduce .*: failed to run: )")

Ending = Literal["Ran", "Restored", "Unchanged", "Failed", "Stopped"]


@dataclass(frozen=True)
class Outcome:
    """Result of a stage."""

    ending: Ending
    """Ran; Restored from the run cache; Unchanged and skipped; Failed; Stopped with the flow."""
    words: str
    """Last lines of output if the stage failed, otherwise empty."""
    seconds: float
    """Duration in seconds of the check or of the last attempt, without the time spent waiting for other stages."""


class StageRunner:
    """Runs the stages of one flow, and stores the outcome of each."""

    def __init__(self, lock: int, limit: float | None = None) -> None:
        """Create a runner.

        Args:
            lock: file descriptor of the workspace lock, which supervisors inherit.
            limit: time limit for each stage, in seconds; None for no limit.
        """
        self.outcomes: dict[str, Outcome] = {}
        self._limit = limit
        self._lock = lock
        self._slots = threading.Semaphore(MAX_PARALLEL)
        self._supervisors: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.Lock()
        self._stopped = threading.Event()

    def reproduce(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Bring a stage up to date, and pass its output to `log` line by line."""
        began = time.monotonic()  # a clock that is set during the run must not change the duration
        ending: Ending | None = "Unchanged" if dvc_graph.unchanged(stage) else None
        words = ""
        pauses = list(RETRY_SECONDS)
        while ending is None:
            with self._slots:
                began = time.monotonic()
                ending, words = self._repro(stage, log)
            if ending == "Restored" and (damaged := remove_damaged(stage)):
                log(f"damaged in the cache, therefore the stage is run again: {', '.join(damaged[:5])}")
                ending = None
            elif ending is None:
                log("waiting for another stage to release a path that both use")
                self._stopped.wait(1)
            elif ending == "Failed" and pauses and TEMPORARY.search(words):
                log(f"the failure may be temporary: trying again in {pauses[0]:g} s")
                ending = "Stopped" if self._stopped.wait(pauses.pop(0)) else None
        self.outcomes[stage] = Outcome(ending, words, time.monotonic() - began)
        return self.outcomes[stage]

    def skip(self, stage: str, seconds: float) -> Outcome:
        """Store and return the outcome of a stage that was found to be up to date by a check of `seconds`."""
        self.outcomes[stage] = Outcome("Unchanged", "", seconds)
        return self.outcomes[stage]

    def stop(self) -> None:
        """Interrupt running stages and prevent others from starting."""
        with self._starting:
            self._stopped.set()
            for running in self._supervisors:
                running.terminate()

    def _repro(self, stage: str, log: Callable[[str], None]) -> tuple[Ending | None, str]:
        """Run `dvc repro` for one stage; return the ending (None: it must be tried again) and words of `Outcome`."""
        # Without --wait-for-lock a finished stage is lost if another process holds DVC's lock for 3 s at its end.
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
        remove_findings(stage)  # of an earlier attempt
        with self._starting:
            if self._stopped.is_set():
                return "Stopped", ""
            running = supervisor.start(command, environment(), keep=(self._lock,))
            self._supervisors.add(running)
        assert running.stdout is not None
        output: deque[str] = deque(maxlen=1000)
        ending: Ending = "Ran"
        with running, _time_limit(running, self._limit) as exceeded:
            for line in supervisor.lines(running.stdout):
                if not line.strip() or HINTS.match(line):
                    continue
                output.append(line)
                log(line)
                if line == f"Stage '{stage}' is cached - skipping run, checking out outputs":
                    ending = "Restored"
                elif line.endswith(f"'{stage}' didn't change, skipping"):
                    ending = "Unchanged"
        with self._starting:
            self._supervisors.discard(running)
        if running.returncode == 0:
            return ending, ""
        if self._stopped.is_set():
            return "Stopped", ""
        if exceeded.is_set():
            limit = duration(self._limit or 0)
            return "Failed", f"error: the stage was stopped after {limit}, the time limit stage_hours; raise it"
        if any(map(BUSY.match, output)):
            return None, ""
        if any(map(KILLED.match, output)):
            return "Failed", KILLED_WORDS
        words, full = last_output(list(output)), full_disk_in("\n".join(output), Path.cwd())
        return "Failed", f"error: {full}\n{words}" if full and FULL_SENTENCE not in words else words


@contextmanager
def _time_limit(running: subprocess.Popen[bytes], seconds: float | None) -> Iterator[threading.Event]:
    """Terminate a process after a number of seconds; yield an event that is set if this happened."""
    exceeded = threading.Event()

    def end() -> None:
        exceeded.set()
        running.terminate()

    timer = threading.Timer(seconds or 0, end)
    if seconds is not None:
        timer.start()
    try:
        yield exceeded
    finally:
        timer.cancel()


def last_output(output: list[str]) -> str:
    r"""Return the output from the last line that starts with `error: `, or the last lines, without messages of DVC.

    There are at most 40 lines from an error, otherwise 12. Without any, the text states that there was no output.

    >>> last_output(["> python x.py", "epoch 1", "error: 2 findings", "  dark"])
    'error: 2 findings\n  dark'
    """
    own = [line for line in output if not DVC_MESSAGES.match(line)]
    errors = [i for i, line in enumerate(own) if line.startswith("error: ")]
    return "\n".join(own[errors[-1] :][:40] if errors else own[-12:]) or "the stage produced no output"
