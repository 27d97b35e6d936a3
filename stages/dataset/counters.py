"""Counters in paths: the number that orders the images, and the series in which it counts."""

import re
from collections.abc import Callable, Iterable

NUMBER = re.compile(r"(.*?)(\d+)(\D*)")
"""Prefix, last number and suffix of a path."""
SCOPES: dict[str, Callable[[str], str]] = {
    "across folders and prefixes": lambda prefix: prefix[:0],
    "across folders": lambda prefix: prefix.rpartition("/")[2],
    "across prefixes": lambda prefix: prefix[: prefix.rfind("/") + 1],
    "": lambda prefix: prefix,
}
"""Scopes of a counter: the name of a series by the prefix of the path, the widest scope first."""


def counter_scope(paths: Iterable[str]) -> str:
    """Return the widest scope in which no number is used twice; paths without a number are ignored.

    If frame 1118 is in one folder and frame 1119 in another, and no number is in two folders, one counter runs through
    both. If two folders contain a frame 1, each has its own counter.

    >>> counter_scope(["fist/1.png", "palm/2.png", "fist/3.png"]), counter_scope(["fist/1.png", "palm/1.png"])
    ('across folders', '')
    """
    found = {(match[1], int(match[2])) for path in paths if (match := NUMBER.fullmatch(path))}
    sizes = {}
    for scope, name in SCOPES.items():
        numbers = {(name(prefix), number) for prefix, number in found}
        if len(numbers) == len(found):
            sizes[scope] = len({name(prefix) for prefix, _ in found})
    return min(reversed(sizes), key=lambda scope: sizes[scope])  # the narrowest of scopes that make no difference
