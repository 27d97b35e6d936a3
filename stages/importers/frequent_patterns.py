"""Frequent name patterns of many files, in time and memory that grow linearly with the number of files."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from stages.importers.path_patterns import plain_key

Key = tuple[str, ...]
"""Text of the placeholders of a pattern."""
Pattern = tuple[str, int]
"""A pattern with the number of the separator at which it divides a name, 0 if it does not."""
MAX_PATTERNS = 200  # patterns compared with each other, those with the most images first
SAMPLED_KEYS = 64  # keys of which it is checked whether another pattern has them
MIN_SHARED = 0.25  # share of these keys, half of what two patterns must share
Paths = dict[Key, list[str]]
"""Paths that match a pattern, by key."""


def frequent_patterns(
    paths: Sequence[str], patterns: Callable[[str], Iterator[tuple[Pattern, Key]]], least: int
) -> dict[Pattern, Paths]:
    """Return the patterns with the most keys, at most `MAX_PATTERNS`, the most frequent first, with the paths by key.

    Keys are collected only of patterns that several files have, because a name of many parts has dozens of patterns of
    its own. A pattern that ends in `.*` is left out if all its files have one suffix, which another pattern names.

    Args:
        paths: paths of files.
        patterns: yields the patterns of a path with its keys.
        least: minimum number of keys.
    """
    found: dict[Pattern, list[tuple[Key, str]]] = defaultdict(list)
    for path in paths:
        for pattern, key in patterns(path):
            found[pattern].append((key, path))
    several = [pattern for pattern, matches in found.items() if len(matches) >= least]
    most = {(name.rpartition(".")[0], cut): 0 for name, cut in several}
    for name, cut in several:
        if not name.endswith(".*"):
            most[name.rpartition(".")[0], cut] = max(most[name.rpartition(".")[0], cut], len(found[name, cut]))
    several = [
        (name, cut)
        for name, cut in several
        if not name.endswith(".*") or len(found[name, cut]) > most[name.rpartition(".")[0], cut]
    ]
    several = sorted(several, key=lambda pattern: -len(found[pattern]))[: 2 * MAX_PATTERNS]
    by_key = {pattern: _by_plain_key(found[pattern]) for pattern in several}
    large = sorted((pattern for pattern in several if len(by_key[pattern]) >= least), key=lambda p: -len(by_key[p]))
    return {pattern: by_key[pattern] for pattern in large[:MAX_PATTERNS]}


def _by_plain_key(matches: list[tuple[Key, str]]) -> Paths:
    """Return the paths by keys without leading zeros of numbers, unless 1 and 01 are different files."""
    stored: Paths = defaultdict(list)
    plain: Paths = defaultdict(list)
    for key, path in matches:
        stored[key].append(path)
    if any(text[:1] == "0" and text.isdecimal() for key in stored for text in key):
        for key, paths in stored.items():
            plain[plain_key(key)] += paths
    return dict(plain if len(plain) == len(stored) else stored)


def may_share_keys(one: Collection[Key], other: Collection[Key], sample_of: Mapping[int, Sequence[Key]]) -> bool:
    """Return whether two patterns may have half of the keys of the smaller one in common, judged by some of them.

    Args:
        one: keys of a pattern.
        other: keys of another pattern.
        sample_of: result of `sample_keys`.
    """
    small, large = sorted((one, other), key=len)
    sample = sample_of[id(small)]
    return sum(map(large.__contains__, sample)) >= MIN_SHARED * len(sample)


def sample_keys(by_key: Mapping[Pattern, Collection[Key]]) -> dict[int, Sequence[Key]]:
    """Return random keys of each pattern, by the identity of its collection of keys."""
    draw = random.Random(0)  # noqa: S311  # not for security
    return {id(keys): draw.sample(list(keys), min(len(keys), SAMPLED_KEYS)) for keys in by_key.values()}


def count_below(paths: Sequence[str]) -> Counter[str]:
    """Return the number of files below each folder, at any depth; '' is the root.

    >>> count_below(["a/b/1.png", "a/2.png"])["a"]
    2
    """
    below: Counter[str] = Counter()
    for folder, count in Counter(path.rpartition("/")[0] for path in paths).items():
        parts = folder.split("/") if folder else []
        for depth in range(len(parts) + 1):
            below["/".join(parts[:depth])] += count
    return below
