"""Errors meant for the person who runs the line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can mend: says what was wrong, with the value, and what to do. Shown without a traceback."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question naming the closest known word, or the known words when none is close.

    >>> did_you_mean("epochz", ["epochs", "seed"])
    'did you mean `epochs`?'
    >>> did_you_mean("x", ["epochs", "seed"])
    'known: epochs, seed'
    """
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
