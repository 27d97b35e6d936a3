"""Helper that runs a command of `macula` in the process of a test."""

from unittest.mock import patch

import typer.main

from stages.command_line import failures
from stages.command_line.app import application


def macula(*words: str) -> int:
    """Run a command and return its exit code; raise the error that the command line would report."""

    def reraise(error: Exception) -> int:
        raise error

    with patch.object(failures, "_reported", reraise):
        return typer.main.get_command(application([words[0]])).main(list(words), "macula", standalone_mode=False)
