"""Classes that may be mistakes: tiny ones, and names that are nearly those of other classes."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np

from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import Annotation, class_names

TINY = 0.2  # share of the median class below which a class is tiny
MIN_LETTERS = 3  # length of the longer of two words from which one letter may be a mistake; shorter ones are codes
MAX_LISTED = 3
NUMBER = re.compile(r"\d+|[ivx]+")  # Arabic or Roman


def describe_odd_classes(annotations: Iterable[Annotation]) -> Iterator[str]:
    """Yield a question about tiny classes, and one about names that differ in one letter or in their punctuation."""
    counts = Counter(name for annotation in annotations for name in class_names(annotation))
    if len(counts) < 2:
        return
    median = float(np.median(list(counts.values())))
    if tiny := sorted((number, name) for name, number in counts.items() if number < TINY * median):
        shown = list_names((f"{name} ({quantity(number, 'image')})" for number, name in tiny), MAX_LISTED)
        subject = "this class a mistake or a remainder" if len(tiny) == 1 else "these classes mistakes or remainders"
        yield f"{shown}: {'is' if len(tiny) == 1 else 'are'} {subject}? Half of the classes have at least {median:g}"
    if pairs := find_similar_names(counts):
        shown = list_names((f"{a} ({counts[a]}) and {b} ({counts[b]})" for a, b in pairs), MAX_LISTED)
        yield f"{shown} have nearly the same name: is one a misspelling of the other? If so, merge them"


def find_similar_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of names of which one may be a misspelling of the other.

    They differ only in punctuation, or in one letter of one word. Numbers, Roman numbers and single letters are
    different on purpose.

    >>> find_similar_names(["healthy", "helthy", "stage II", "stage III", "class1", "class2", "red_fox", "red fox"])
    [('healthy', 'helthy'), ('red fox', 'red_fox')]
    """
    near: dict[str, set[str]] = defaultdict(set)
    for name in names:
        text = "".join(_words(name))
        for variant in {text, *(text[:place] + text[place + 1 :] for place in range(len(text)))}:
            near[variant].add(name)
    pairs = {pair for group in near.values() for pair in combinations(sorted(group), 2)}
    return sorted(pair for pair in pairs if _is_similar(*pair))


def _words(name: str) -> list[str]:
    """Return the words and numbers of a name in lower case; `redFox2` has three."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.casefold() for word in re.findall(r"[^\W\d_]+|\d+", parted)]


def _is_similar(one: str, other: str) -> bool:
    words, others = _words(one), _words(other)
    if "".join(words) == "".join(others):
        return True
    if len(words) != len(others):
        return False
    differing = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and _is_one_letter_apart(*differing[0])


def _is_one_letter_apart(one: str, other: str) -> bool:
    """Return whether two words differ in one added, missing or other letter, or in two neighbours exchanged."""
    if NUMBER.fullmatch(one) or NUMBER.fullmatch(other) or max(len(one), len(other)) < MIN_LETTERS:
        return False
    short, long = sorted((one, other), key=len)
    start = next((place for place, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    exchanged = short[start + 1 : start + 2] + short[start : start + 1] + short[start + 2 :]
    return long[start:] == exchanged or short[start + 1 :] == long[start + 1 :]
