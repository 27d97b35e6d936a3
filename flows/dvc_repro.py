"""Run `dvc repro` with short messages: `python -m flows.dvc_repro RESULT [STAGE...]`, which `macula run` starts.

DVC does the work. Its output about a stage is replaced by the number, name and state of the stage, and by the remaining
time according to earlier runs. RESULT is a JSON file for the caller.
"""

import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.core.dependency_errors import DEBUG, explain
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on

SECONDS = Path("work/run/seconds.json")
"""File with the duration of each stage in its last run, in seconds."""
FAILED, BLOCKED, INTERRUPTED = 1, 3, 130
ENDINGS = {"ran": "finished in", "failed": "failed after", "interrupted": "interrupted after"}
SILENT = (
    "> ", "\nTo track the changes with git", "To track the changes with git", "\nTo enable auto staging",
    "Generating lock file", "Updating lock file", "Use `dvc push`",
)  # fmt: skip
"""First words of DVC messages that are not printed."""


@dataclass
class Progress:
    """Prints each start, end, skipping and restoring of a stage in a run, and records states and durations."""

    planned: list[str]
    """Stages in the order in which they are visited."""
    last: dict[str, float] = field(default_factory=dict)
    """Seconds of each stage in its last run before this one."""
    states: dict[str, str] = field(default_factory=dict)
    """State of each visited stage, in order: unchanged, restored, ran, failed or interrupted."""
    seconds: dict[str, float] = field(default_factory=dict)
    running: str = ""
    began: float = 0.0

    def unchanged(self, stage: str) -> None:
        """Report that a stage is up to date."""
        self._next(stage, "unchanged", "unchanged")

    def restored(self, stage: str) -> None:
        """Report that the outputs of a stage come from the run cache."""
        self._next(stage, "restored", "restored from the cache")

    def started(self, stage: str) -> None:
        """Report that a stage starts, with its duration and that of the remaining stages in their last runs."""
        remove_findings(stage)  # of an earlier run
        self._next(stage, "ran", f"running{self._expectation(stage)}")
        self.running, self.began = stage, time.monotonic()

    def end(self, state: str) -> None:
        """Record and report the state of the stage that is running, if any, at the end of the run.

        Args:
            state: ran, failed or interrupted.
        """
        if self.running:
            self.states[self.running] = state
        self._finish()

    def _next(self, stage: str, state: str, text: str) -> None:
        self._finish()
        self.states[stage] = state
        self._print(stage, text)

    def _finish(self) -> None:
        """Report the end of the running stage, if any."""
        if not self.running:
            return
        seconds = self.seconds[self.running] = round(time.monotonic() - self.began, 1)
        self._print(self.running, f"{ENDINGS[self.states[self.running]]} {duration(seconds)}")
        self.running = ""

    def _print(self, stage: str, text: str) -> None:
        wide, count = max(map(len, self.planned), default=0), len(self.planned)
        number = self.planned.index(stage) + 1 if stage in self.planned else len(self.states)
        print(f"[{number:>{len(str(count))}}/{count}] {stage:<{wide}}  {text}", flush=True)

    def _expectation(self, stage: str) -> str:
        """Return the duration of this stage and of all remaining ones in their last runs, as far as known."""
        rest = self.planned[self.planned.index(stage) :] if stage in self.planned else [stage]
        if stage not in self.last:
            return ""
        words = f" ({duration(self.last[stage])} last time"
        if len(rest) > 1 and all(name in self.last for name in rest):
            words += f"; about {duration(sum(self.last[name] for name in rest))} left if every stage runs"
        return f"{words})"


def duration(seconds: float) -> str:
    """Format a duration for display.

    >>> duration(3.21), duration(75), duration(7300)
    ('3.2 s', '1 min 15 s', '2 h 01 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def findings_file(stage: str) -> Path:
    """Return the file in which a stage explains the findings with which it stops the pipeline.

    Each attempt removes it first, so that it is always that of the last attempt, whatever the clock shows.
    """
    return Path("work", stage.rpartition(":")[2], "blocked.md")


def remove_findings(stage: str) -> None:
    """Remove the file of an earlier attempt of a stage, if there is one."""
    if (file := findings_file(stage)).is_file():
        file.unlink()


class StageLines(logging.Handler):
    """Handler of DVC's log messages that reports stages to `Progress` and prints the rest, except for `SILENT`."""

    def __init__(self, progress: Progress) -> None:
        """Create a handler that reports to `progress`."""
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Report the stage that a message of DVC is about, or print the message unless it is in `SILENT`."""
        text, arguments = str(record.msg), record.args if isinstance(record.args, tuple) else ()
        if text == "Running stage '%s':":
            self._progress.started(str(arguments[0]))
        elif text.endswith("'%s' didn't change, skipping"):
            self._progress.unchanged(str(arguments[0]))
        elif "is cached - skipping run, checking out outputs" in text:
            self._progress.restored(getattr(arguments[0], "addressing", str(arguments[0])))
        elif (message := record.getMessage()).strip() and not message.startswith(SILENT):
            print(message, file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout, flush=True)


def reproduce(targets: Sequence[str]) -> tuple[Progress, Exception | None]:
    """Bring the stages of dvc.yaml, or the targets and their dependencies, up to date.

    Returns:
        Progress with the state of each visited stage, and the exception that ended the run, if any.
    """
    from dvc.logger import setup
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
    from dvc.ui import ui

    setup()
    ui.enable()
    last = json.loads(SECONDS.read_text()) if SECONDS.is_file() else {}
    progress = Progress([], last)
    handlers = logging.getLogger("dvc").handlers
    handlers[:] = [StageLines(progress)]
    try:
        with Repo(str(Path.cwd())) as repo:
            planned = plan_repro(
                get_active_graph(repo.index.graph), collect_stages(repo, list(targets) or ["dvc.yaml"])
            )
            progress.planned = [stage.addressing for stage in planned]
            repo.reproduce(list(targets) or None)
    except Exception as error:
        progress.end("interrupted" if _is_interrupt(error) else "failed")
        return progress, error
    progress.end("ran")
    return progress, None


def _is_interrupt(error: Exception) -> bool:
    """Return whether Ctrl-C ended a stage: the signal killed it, or it exited with the code for an interrupt."""
    return bool(re.search(rf", exited with (-{signal.SIGINT:d}|{INTERRUPTED})$", str(error.__cause__)))


def main(result: Path, targets: list[str]) -> int:
    """Run the stages, save a complete run as an experiment, and write a summary to `result`.

    Args:
        result: JSON file for the summary; not written after an interrupt or if params.yaml is invalid.
        targets: stages to run with their dependencies; empty for all stages.

    Returns:
        0; 3 if a finding blocks; 130 after an interrupt; 1 if a stage or DVC failed, or params.yaml is invalid.
    """
    from flows import experiments
    from flows.source_listing import refuse_what_dvc_cannot_read
    from stages.config.load import load

    try:
        refuse_what_dvc_cannot_read(Path(load(Path("params.yaml")).ingest.source))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    progress, failure = reproduce(targets)
    SECONDS.parent.mkdir(parents=True, exist_ok=True)
    SECONDS.write_text(json.dumps(progress.last | progress.seconds, indent=1) + "\n")
    failed = next((stage for stage, state in progress.states.items() if state == "failed"), "")
    blocked = findings_file(failed)
    blocks = bool(failed) and blocked.is_file()
    summary: dict[str, Any] = {
        "stages": [
            {"name": n, "state": s, "seconds": progress.seconds.get(n, 0.0)} for n, s in progress.states.items()
        ],
        "failed": failed or None,
        "blocked": str(blocked) if blocks else None,
    }
    if failure is not None and _is_interrupt(failure):
        return INTERRUPTED
    if failure is not None:
        _report(failure, blocks, str(blocked))
    elif not targets:
        summary["experiment"] = experiments.run_name()
        print(experiments.main(), flush=True)
    result.write_text(json.dumps(summary))
    return BLOCKED if blocks else FAILED if failure else 0


def _report(error: Exception, blocks: bool, page: str) -> None:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    message = (
        f"the gate stopped the pipeline; {page} lists the findings; the message above states how to accept one"
        if blocks
        else None
    )
    print(f"error: {message or explain(error) or f'{type(error).__name__}: {error}'}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise_from_now_on()
    try:
        code = main(Path(sys.argv[1]), sys.argv[2:])
    except KeyboardInterrupt:  # the caller explains how to resume
        code = INTERRUPTED
    sys.exit(code)
