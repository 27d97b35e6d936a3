"""Path patterns with placeholders, such as `train/image/{key}.png`."""

import re
from collections.abc import Mapping

from stages.core.errors import UserError

NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")
PARTS = re.compile(r"(\{[a-z][a-z0-9_]*\}|(?:(?<=/)|^)\*\*/|\*\*|\*)")
STARS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}


def compile_pattern(text: str, param: str) -> re.Pattern[str]:
    """Compile a path pattern to a regular expression, which `fullmatch` compares with whole paths.

    Args:
        text: pattern with named placeholders such as {key}, {label} and {patient}, each within a folder, and with *
            (within a folder), ** (across folders) and **/ (any folders, or none).
        param: name of the param, for the error message.

    Raises:
        UserError: the pattern is invalid.

    >>> compile_pattern("a/{key}_*.png", "ingest.images").fullmatch("a/7_x.png")["key"]
    '7'
    """
    seen: set[str] = set()
    expression = ""
    for part in PARTS.split(text):
        if named := NAME.fullmatch(part):
            # A repeated placeholder must match the same text, as in {key}/{key}.png.
            expression += f"(?P={named[1]})" if part in seen else named_group(named[1])
        else:
            expression += STARS.get(part, re.escape(part))
        seen.add(part)
    try:
        return re.compile(expression)
    except re.error as error:
        raise UserError(f"{param}: {text!r} is not a valid pattern: {error}") from None


def named_group(name: str) -> str:
    """Return the part of a regular expression that a placeholder becomes: any text within a folder."""
    return rf"(?P<{name}>[^/]+)"


def key_names(text: str) -> tuple[str, ...]:
    """Return the placeholders that identify an image: {key}, then all others except for {label}.

    >>> key_names("{patient}/masks/{label}/{key}.png")
    ('key', 'patient')
    """
    names = set(NAME.findall(text)) - {"label"}
    return tuple(sorted(names, key=lambda name: (name != "key", name)))


def plain_key(key: tuple[str, ...]) -> tuple[str, ...]:
    """Return a key whose numbers have no leading zeros, because programs pad numbers differently.

    >>> plain_key(("007", "a01"))
    ('7', 'a01')
    """
    return tuple(text.lstrip("0") or "0" if text.isdecimal() else text for text in key)


def fill_pattern(text: str, values: Mapping[str, str]) -> str:
    """Return a pattern with values in place of some placeholders.

    >>> fill_pattern("{patient}/{label}/{key}.png", {"key": "7", "patient": "p1"})
    'p1/{label}/7.png'
    """
    return NAME.sub(lambda found: values.get(found[1], found[0]), text)
