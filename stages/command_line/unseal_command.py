"""`macula unseal`: the score on the sealed test split, at the very end."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from stages.command_line.options import AsJson, print_json
from stages.core.errors import UserError
from stages.core.openings import REASON

EXAMPLE = "macula unseal"
STAGE = "data/sealed/dvc.yaml:unseal"
WARNING = (
    "The sealed test split gives an unbiased score only once: after that, changes of the model can depend on the test "
    "score. The opening is recorded in data/openings.csv."
)


def unseal(
    yes: Annotated[bool, Option("--yes", help="Do not ask for confirmation; required without a terminal.")] = False,
    reason: Annotated[
        str, Option(help="Reason to open the split a second time for the same model; it is recorded.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """Score the exported model on the sealed test split, and record that it was opened.

    On a terminal the command asks for confirmation; elsewhere it requires --yes.
    """
    _confirm(yes)
    from flows import supervisor
    from flows.git_commands import environment

    output = sys.stderr.fileno() if as_json else None
    repro = [sys.executable, "-m", "dvc", "repro"]
    opened = environment() | {"MACULA_UNSEAL": "yes", REASON: reason}
    again = ["--force"] if reason else []  # the stage is up to date if the model was scored before
    for command, env in (
        ([*repro, "--single-item", "fingerprint"], opened),
        ([*repro, *again, "--single-item", STAGE], opened),
        ([*repro, "--single-item", "report", "model_card"], environment()),
    ):
        if code := supervisor.run(command, env, stdout=output):
            raise UserError(f"`{' '.join(command[2:])}` ended with exit status {code}; its message is above")
    if as_json:
        print_json(json.loads(Path("data/unseal/scores.json").read_text(encoding="utf-8")))
    return 0


def _confirm(yes: bool) -> None:
    if yes or os.environ.get("MACULA_UNSEAL") == "yes":
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError("opening the sealed test split requires confirmation; without a terminal, confirm with --yes")
    print(WARNING, file=sys.stderr)
    if not typer.confirm("Open the sealed test split?", err=True):
        raise UserError("not confirmed; the test split stays sealed")
