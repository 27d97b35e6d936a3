"""The command-line application: every command with its example.

Only the module of the called command is imported, and it imports the code that it runs when it is called, so that
start-up takes a tenth of a second.
"""

import importlib
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any

import typer

from stages.command_line.failures import exit_code_of
from stages.command_line.parameters import Command, Group
from stages.core.interrupts import raise_from_now_on

NAME = "macula"
COMMANDS = {
    "configure": "Inspect images and propose params.yaml.",
    "run": "Run the stages that are out of date.",
    "predict": "Predict images with an exported model.",
    "drift": "Compare predicted images with the training images.",
    "score": "Predict the new images of a folder or bucket.",
    "serve": "Serve an exported model over HTTP.",
    "publish": "Write a page that predicts in the browser.",
    "release": "Score a registered model on the test split.",
    "deploy": "Replace the model of a running server.",
    "report": "Print the last run's score and pages.",
    "compare": "Compare variants of params.yaml.",
    "runs": "Compare all runs on one page.",
    "retrain": "Train on new data, promote if better.",
    "unseal": "Score the sealed test split.",
    "params": "Print all keys of params.yaml.",
    "doctor": "Check the installation and the machine.",
}
"""Commands and their short help. `NAME_command.py` defines EXAMPLE and a function NAME, whose docstring is the help."""
ENDING = (
    "Exit codes: 0 success, 1 error, 2 usage error, 3 blocked by a finding, 4 objective missed (run "
    "--require-objective), 70 bug, 130 interrupted."
)


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the application with some of the commands, by default all."""
    app = typer.Typer(
        name=NAME,
        cls=Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog=ENDING,
    )
    app.callback()(macula)
    for name in names:
        module = importlib.import_module(f"stages.command_line.{name}_command")
        example = "Example:\n\n\b\n" + textwrap.indent(module.EXAMPLE, "  ")
        body = _reporting(getattr(module, name))
        app.command(name, cls=Command, short_help=COMMANDS[name], epilog=example)(body)
    return app


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"{NAME} {version(NAME)}")
        raise typer.Exit


def macula(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, check and run models for images.

    In a clone of the project all commands are available. The installed package provides predict, drift, serve and
    doctor.
    """


def _reporting(function: Callable[..., int | None]) -> Callable[..., None]:
    """Return a function with the same signature that reports errors and exits with the exit code."""

    @wraps(function)
    def body(*arguments: Any, **options: Any) -> None:
        raise typer.Exit(exit_code_of(lambda: function(*arguments, **options)))

    return body


def main() -> None:
    """Run the command that `sys.argv` names and exit with its status."""
    called = [word for word in sys.argv[1:2] if word in COMMANDS]
    if called != ["serve"]:  # `serve` has its own signal handlers
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM acts like Ctrl-C
    app = application(called or COMMANDS)
    raise_from_now_on()
    sys.exit(app(prog_name=NAME))
