"""Errors that the user can fix, and suggestions for misspelled names."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

MAX_KNOWN = 20
"""Maximum number of known words that a message lists."""


class UserError(Exception):
    """Error that the user can fix; it states the problem, the value and what to do. It is shown without traceback."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question naming the closest known word; if none is close, the known words, at most `MAX_KNOWN`.

    Case, `-`, `_` and spaces are ignored.

    >>> did_you_mean("epochz", ["epochs", "seed"])
    'did you mean `epochs`?'
    >>> did_you_mean("AdamW", ["adam", "adamw"])
    'did you mean `adamw`?'
    >>> did_you_mean("x", ["epochs", "seed"])
    'known: epochs, seed'
    """
    known = list(known)
    words = {_plain(name): name for name in reversed(known)}  # of two names that differ only in case, the first
    close = get_close_matches(_plain(word), words, n=1)
    more = f" and {len(known) - MAX_KNOWN} more" if len(known) > MAX_KNOWN else ""
    return f"did you mean `{words[close[0]]}`?" if close else f"known: {', '.join(known[:MAX_KNOWN])}{more}"


def _plain(word: str) -> str:
    """Return a word in lower case without separators."""
    return re.sub(r"[-_\s]", "", word.casefold())
