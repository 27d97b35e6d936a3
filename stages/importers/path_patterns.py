"""Patterns of paths: `train/image/{key}.png`."""

import re

from stages.core.errors import UserError

PLACEHOLDERS = {"{key}": r"(?P<key>[^/]+)", "{label}": r"(?P<label>[^/]+)", "**": ".*", "*": "[^/]*"}


def compile_pattern(text: str, param: str) -> re.Pattern[str]:
    """The pattern as a regular expression on whole paths.

    Raises:
        UserError: it names a sign twice.

    >>> pattern_of("a/{key}_*.png", "ingest.images").fullmatch("a/7_x.png")["key"]
    '7'
    """
    parts = re.split(r"(\{key\}|\{label\}|\*\*|\*)", text)
    seen: set[str] = set()
    expression = ""
    for part in parts:
        if part in seen and part.startswith("{"):  # the same text again, as in {key}/{key}.png
            expression += f"(?P={part.strip('{}')})"
        else:
            expression += PLACEHOLDERS.get(part, re.escape(part))
        seen.add(part)
    try:
        return re.compile(expression)
    except re.error as error:
        raise UserError(f"{param}: {text!r} is no pattern: {error}") from None
