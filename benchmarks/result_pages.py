"""Functions that benchmarks share: common arguments, output folder, checks of environments, tables in pages."""

import argparse
import re
import tempfile
from pathlib import Path

RESULTS = Path("docs/results")
MISSING = "skipped: {what}, because {path} does not exist; the make targets of the benchmarks create it"


def replace_block(text: str, marker: str, content: str) -> str:
    r"""Replace the lines after the comment `<!-- marker -->`, up to the next blank line.

    Args:
        text: a Markdown page.
        marker: the text of the comment.
        content: the new lines.

    Returns:
        The page with the new lines; unchanged if it does not contain the comment.

    >>> replace_block("<!-- speed -->\nold\n\nend", "speed", "new")
    '<!-- speed -->\nnew\n\nend'
    """
    return re.sub(rf"(<!-- {re.escape(marker)} -->\n)(?:[^\n]+\n)*", lambda m: f"{m[1]}{content.rstrip()}\n", text)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all benchmarks share: `--tiny` and `--output`."""
    parser.add_argument("--tiny", action="store_true", help="only check within seconds that the benchmark runs")
    parser.add_argument(
        "--output", type=Path, help=f"folder for the results; default: {RESULTS}, with --tiny a temporary one"
    )


def output_folder(output: Path | None, tiny: bool) -> Path:
    """Return the folder for results and create it if necessary.

    Args:
        output: the folder that the user chose, if any.
        tiny: whether this is a tiny run, whose figures must not replace real ones.

    Returns:
        `output`, or else a new temporary folder for a tiny run and `docs/results` for a real one.
    """
    folder = output or (Path(tempfile.mkdtemp(prefix="benchmark-")) if tiny else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def installed(python: Path, what: str) -> bool:
    """Return whether an environment exists; if not, print that a part of the benchmark is skipped.

    Args:
        python: the environment's interpreter or folder.
        what: the part that requires the environment, for the message.
    """
    if not python.exists():
        print(MISSING.format(what=what, path=python), flush=True)
    return python.exists()
