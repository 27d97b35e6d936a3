"""`macula params`: every key of params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from stages.core.errors import UserError, did_you_mean

EXAMPLE = """\
macula params                  # all keys
macula params train            # the keys of a section
macula params --given          # the keys that are in the file
macula params --format json"""


def params(
    keys: Annotated[
        list[str] | None, Argument(help="Sections or keys, such as train or train.epochs.  [default: all]")
    ] = None,
    file: Annotated[
        Path, Option(help="Params file whose values are shown; if params.yaml does not exist, defaults are shown.")
    ] = Path("params.yaml"),
    given: Annotated[bool, Option("--given", help="Show only the keys that are in the file.")] = False,
    format: Annotated[Literal["text", "markdown", "json"], Option(help="Format of the output.")] = "text",  # noqa: A002
    json: Annotated[bool, Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Print the keys of params.yaml with type, range, unit, default, value and description."""
    from stages.config import describe

    found = describe.rows(file if file.exists() or file != Path("params.yaml") else None)
    known = {part for row in found for part in (row.key, row.key.partition(".")[0])}
    for key in keys or []:
        if key not in known and not any(row.key.startswith(f"{key}.") for row in found):
            raise UserError(f"{key}: no such section or key; {did_you_mean(key, sorted(known, key=_sections_first))}")
    chosen = [
        row
        for row in found
        if (not keys or any(f"{row.key}.".startswith(f"{key}.") for key in keys)) and (row.given or not given)
    ]
    show = {"text": describe.as_text, "markdown": describe.as_markdown, "json": describe.as_json}
    print(show["json" if json else format](chosen))


def _sections_first(key: str) -> tuple[bool, str]:
    """Return the sort key that puts names of sections before dotted keys."""
    return "." in key, key
