"""Render templates into Markdown that all viewers display alike.

All values are escaped (CommonMark 0.31 and GitHub tables), because file names are untrusted, except for the output of
`code` and `prose`.
"""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.reports.html_page import HERE, figure, words

SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&#]")


def write_markdown(file: Path, template: str, **values: Any) -> int:
    """Render a template of this folder into a Markdown file and return its size in bytes."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # `finalize` has already escaped the values
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "words": words, "code": code, "prose": prose, "capitalized": capitalized}
    text = environment.get_template(template).render(**values)
    data = text.encode("utf-8", errors="replace")  # file names may contain undecodable bytes
    file.write_bytes(data)
    return len(data)


def escaped(value: Any) -> Markup:
    r"""Return text escaped for a line or a table cell; `Markup` is returned unchanged.

    >>> print(escaped("a|b *c*"))
    a\|b \*c\*
    """
    if isinstance(value, Markup):
        return value
    return Markup(SPECIAL.sub(r"\\\g<0>", _in_a_line(str(value))))  # noqa: S704 special characters are escaped


def capitalized(text: str) -> str:
    """Return text with a capital first letter.

    >>> capitalized("balanced accuracy"), capitalized("AUC")
    ('Balanced accuracy', 'AUC')
    """
    return text[:1].upper() + text[1:]


def code(text: str) -> Markup:
    """Return text as a code span, even if it contains backticks.

    Text with a vertical bar is not supported in table cells.

    >>> print(code("a`b"))
    ``a`b``
    """
    text = _in_a_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")  # noqa: S704


def prose(text: str) -> Markup:
    r"""Return escaped text, with text between backticks as code spans.

    >>> print(prose("class `<b>` is *rare*"))
    class `<b>` is \*rare\*
    """
    pieces = re.split(r"`([^`]+)`", text)
    return Markup("").join(code(piece) if n % 2 else escaped(piece) for n, piece in enumerate(pieces))


def _in_a_line(text: str) -> str:
    """Return text without line breaks; non-breaking spaces are preserved."""
    return re.sub(r"[^\S\u00a0\u202f]+", " ", text)
