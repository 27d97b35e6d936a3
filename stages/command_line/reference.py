"""Reference page of the command line, docs/reference/command-line.md: `python -m stages.command_line.reference`."""

from pathlib import Path
from typing import Any

import typer.main
from typer._click.formatting import HelpFormatter

from stages.command_line.app import COMMANDS, NAME, application

PAGE = Path("docs/reference/command-line.md")
WIDTH = 110
"""Characters per line of the help."""
INTRODUCTION = """\
# Command line

Run `macula COMMAND` in an environment of the project (`make env`; then `source .venv/bin/activate`, or call
`.venv/bin/macula`), or `python -m stages COMMAND` in its folder. This page is generated from the commands by
`python -m stages.command_line.reference`.

The wheel ([shipping](../guides/shipping.md)) provides predict, drift, serve and doctor; the other commands state there
that they require a clone. `python -m stages.predict`, `python -m stages.serve`, `python -m stages.configure` and
`python -m stages.publish` are the same commands under the names of their modules.

`macula --install-completion` installs completion for the current shell.

## Exit codes

| code | meaning |
|---|---|
| 0 | success; `doctor` may have printed warnings, and `run` may have missed the objective |
| 1 | error: its message states what to do; `predict`: an image failed; `doctor`: a check reports an error |
| 2 | usage error: an unknown option, a missing argument, a value out of range |
| 3 | `run`: the gate stopped the pipeline because of a blocking finding that has not been accepted |
| 4 | `run --require-objective`: every stage finished, but the score misses the objective |
| 70 | a bug in Macula: `--debug` shows the traceback to report |
| 130 | interrupted by Ctrl-C or SIGTERM, or the reader of the output closed it |

A missed objective is a result, not an error: `run` exits with 0 unless `--require-objective` is set.

## Output

Results are written to standard output; progress, warnings and errors to standard error, except for `run`, whose
progress is its output. With `--json`, standard output contains only JSON. Progress bars with rate and remaining time
appear on a terminal; elsewhere each stage prints plain lines.

Errors of DVC, Prefect, Great Expectations, torch, ONNX Runtime, pydantic and YAML are shown as one sentence that states
what to do. `--debug`, or `MACULA_DEBUG=1` in the environment, shows the traceback as well, also that of a stage.

## Ctrl-C

Ctrl-C or SIGTERM ends the command and all processes that it started, and prints how to resume. `run`: finished stages
are kept, the next `run` skips them, and an interrupted training continues from its last checkpoint. `predict --output`:
the same command continues after the last finished row. `compare`: finished stages of all variants are kept.

## Speed that doctor expects

"""


def page() -> str:
    """Return the reference page as Markdown."""
    from stages.command_line import cpu_speed

    group: Any = typer.main.get_command(application())
    expectation = (cpu_speed.__doc__ or "").partition("\n\n")[2].removeprefix("**Expectation.** ")
    parts = [INTRODUCTION + expectation]
    with group.make_context(NAME, ["doctor"]) as parent:
        for name in COMMANDS:
            command = group.commands[name]
            context = command.make_context(name, [], parent=parent, resilient_parsing=True)
            formatter = HelpFormatter(width=WIDTH, max_width=WIDTH)
            command.format_help(context, formatter)
            parts.append(f"## {name}\n\n```text\n{formatter.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the reference page to `PAGE`."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
