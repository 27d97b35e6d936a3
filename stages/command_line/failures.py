"""Run a command, print a message if it fails, and return an exit code."""

import os
import sys
import traceback
from collections.abc import Callable

import typer

from stages.command_line.exit_codes import BUG, FAILED, INTERRUPTED, OK
from stages.core.dependency_errors import DEBUG, explain
from stages.core.errors import UserError


def show_tracebacks() -> None:
    """Show tracebacks in this process and in the stages that it starts."""
    os.environ[DEBUG] = "1"


def exit_code_of(body: Callable[[], int | None]) -> int:
    """Run the body of a command, print a message if it fails, and return the exit code.

    Args:
        body: returns an exit code, or None for success; raises KeyboardInterrupt with a text that explains how to
            resume.

    Raises:
        typer.Exit, typer.Abort, typer.BadParameter: raised by `body`, and handled by typer.
    """
    try:
        return body() or OK
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{f': {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader closed the output, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception as error:
        return _reported(error)


def _reported(error: Exception) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    message = str(error) if isinstance(error, UserError) else explain(error)
    if message is not None:
        print(f"error: {message}", file=sys.stderr)
        return FAILED
    text = f": {error}" if str(error) else ""
    known = bool(os.environ.get(DEBUG))
    advice = "Report the traceback above." if known else "Run the command again with --debug and report the traceback."
    print(f"error: unexpected {type(error).__name__}{text}\nThis is a bug in Macula. {advice}", file=sys.stderr)
    return BUG
