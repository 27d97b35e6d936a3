"""Templates into Markdown that any viewer shows alike; names of files and classes are hostile here, too.

All that goes in is escaped (CommonMark 0.31, and GitHub's tables), but for what `code` and `prose` have made of it.
"""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.reports.html_page import HERE, figure, words

SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&#]")


def write_markdown(file: Path, template: str, **values: Any) -> int:
    """Render a template of this folder into a Markdown file; returns its size in bytes."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # of what `finalize` gives nothing is left to escape
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "words": words, "code": code, "prose": prose, "sentence": sentence}
    text = environment.get_template(template).render(**values)
    data = text.encode("utf-8", errors="replace")  # a file name may hold bytes that are no text
    file.write_bytes(data)
    return len(data)


def escaped(value: Any) -> Markup:
    r"""Text that stands in the file as it is, in a line or in the cell of a table.

    >>> print(escaped("a|b *c*"))
    a\|b \*c\*
    """
    if isinstance(value, Markup):
        return value
    return Markup(SPECIAL.sub(r"\\\g<0>", _in_a_line(str(value))))  # noqa: S704 what is special is escaped


def sentence(text: str) -> str:
    """Text with a capital where a sentence begins.

    >>> sentence("balanced accuracy"), sentence("AUC")
    ('Balanced accuracy', 'AUC')
    """
    return text[:1].upper() + text[1:]


def code(text: str) -> Markup:
    """Text as code, whatever backticks are in it; not for the cell of a table where there may be a bar in it.

    >>> print(code("a`b"))
    ``a`b``
    """
    text = _in_a_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")  # noqa: S704


def prose(text: str) -> Markup:
    r"""Plain words, in which what stands between backticks becomes code.

    >>> print(prose("class `<b>` is *rare*"))
    class `<b>` is \*rare\*
    """
    pieces = re.split(r"`([^`]+)`", text)
    return Markup("").join(code(piece) if n % 2 else escaped(piece) for n, piece in enumerate(pieces))


def _in_a_line(text: str) -> str:
    """Without what ends a line; spaces that keep a number together stay."""
    return re.sub(r"[^\S\u00a0\u202f]+", " ", text)
