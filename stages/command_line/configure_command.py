"""`macula configure`: params proposed for a folder or archive of images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from stages.command_line.options import AsJson, ImageFormat, print_json

EXAMPLE = "macula configure flowers.zip"


def configure(
    source: Annotated[Path, Argument(help="Folder, zip, tar or npz of labelled images.")],
    inside: Annotated[
        str, Option(help="Path of a folder or file inside the source to use.  [default: search the whole source]")
    ] = "",
    format: Annotated[  # noqa: A002
        ImageFormat | None, Option("--format", "--form", help="Format of the labels.  [default: detected]")
    ] = None,
    output: Annotated[Path, Option(help="File to write.")] = Path("params.proposed.yaml"),
    replace: Annotated[
        bool, Option("--replace", help="Overwrite the file that --output names, and the files of groups beside it.")
    ] = False,
    minutes: Annotated[float, Option(help="Time that training may take, in minutes; it limits train.epochs.")] = 15,
    quick: Annotated[
        bool, Option("--quick", help="Do not time training on this machine; --minutes has no effect then.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Inspect images and propose params.yaml for them, each value with its reason."""
    if not 0 < minutes < float("inf"):
        raise typer.BadParameter(f"{minutes:g} is not a finite number above 0", param_hint="--minutes")
    from stages.configure import ConfigureOptions, main

    proposal = main(ConfigureOptions(source, inside, format or "", output, replace, minutes, quick))
    if as_json:
        print_json({"output": proposal.output, "groups": proposal.groups and proposal.groups[0],
                    "choices": [asdict(one) for one in proposal.choices],
                    "explanation": proposal.lines})  # fmt: skip
        return
    print("\n".join(proposal.lines))
    print(f"\nWritten to {output}, with the reasons as comments. Review the file, then run")
    accept = f"mv {output} params.yaml && macula run"
    if proposal.groups:
        table, place = proposal.groups
        print(f"  mv {table} {place} && {accept}")
        print(f"The groups are listed in {table}; {table.with_suffix('.png')} shows some of them, one per row.")
    else:
        print(f"  {accept}")
