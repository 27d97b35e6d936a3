"""Run a command of `macula` in the process of a test."""

from unittest.mock import patch

import typer.main

from stages.command_line import failures
from stages.command_line.app import application


def macula(*words: str) -> int:
    """Return the exit code of a command; an error that it would report is raised."""

    def raised(error: Exception) -> int:
        raise error

    with patch.object(failures, "_reported", raised):
        return typer.main.get_command(application([words[0]])).main(list(words), "macula", standalone_mode=False)
