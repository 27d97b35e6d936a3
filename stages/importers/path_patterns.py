"""Path patterns with placeholders, such as `train/image/{key}.png`."""

import re

from stages.core.errors import UserError

PLACEHOLDERS = {"{key}": r"(?P<key>[^/]+)", "{label}": r"(?P<label>[^/]+)", "**": ".*", "*": "[^/]*"}


def compile_pattern(text: str, param: str) -> re.Pattern[str]:
    """Compile a path pattern to a regular expression, which `fullmatch` compares with whole paths.

    Args:
        text: pattern with the placeholders {key}, {label}, * (within a folder) and ** (across folders).
        param: name of the param, for the error message.

    Raises:
        UserError: the pattern is invalid.

    >>> compile_pattern("a/{key}_*.png", "ingest.images").fullmatch("a/7_x.png")["key"]
    '7'
    """
    parts = re.split(r"(\{key\}|\{label\}|\*\*|\*)", text)
    seen: set[str] = set()
    expression = ""
    for part in parts:
        if part in seen and part.startswith("{"):
            # A repeated placeholder must match the same text, as in {key}/{key}.png.
            expression += f"(?P={part.strip('{}')})"
        else:
            expression += PLACEHOLDERS.get(part, re.escape(part))
        seen.add(part)
    try:
        return re.compile(expression)
    except re.error as error:
        raise UserError(f"{param}: {text!r} is not a valid pattern: {error}") from None
