"""Errors that the user can fix, and suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Error that the user can fix; it states the problem, the value and what to do. It is shown without traceback."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question naming the closest known word, or the known words if none is close.

    >>> did_you_mean("epochz", ["epochs", "seed"])
    'did you mean `epochs`?'
    >>> did_you_mean("x", ["epochs", "seed"])
    'known: epochs, seed'
    """
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
