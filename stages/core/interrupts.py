"""Behaviour of Ctrl-C (SIGINT) while a command imports its modules, and afterwards."""

import os
import re
import signal
import sys
from typing import NoReturn

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""
_COMMANDS = re.compile(r"stages(\.\w+)?|flows\.(pipeline|dvc_repro|retrain|score|deploy|release)")


def exit_during_imports() -> None:
    """Make Ctrl-C end this process at once, if it runs a command that calls `raise_from_now_on` after its imports.

    An import that is interrupted ends with a traceback, or with an unrelated error if compiled code handles the
    exception. Nothing is written during imports, so that the process can end at any point.
    """
    program, *arguments = [*sys.orig_argv[1:], ""]
    runs_module = program == "-m" and _COMMANDS.fullmatch(arguments[0])
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell ignores it in background jobs
    if is_default and (runs_module or os.path.basename(program) == "macula"):  # noqa: PTH119, pathlib takes 10 ms
        signal.signal(signal.SIGINT, _exit)


def raise_from_now_on() -> None:
    """Make Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def report_interrupt() -> None:
    """Print that the command was interrupted; below DVC, the command that started DVC prints it."""
    if "DVC_STAGE" not in os.environ:
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()


def _exit(*_: object) -> NoReturn:
    report_interrupt()
    os._exit(INTERRUPTED)
