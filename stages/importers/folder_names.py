"""Folder names that consist of a common part and an affix, such as 01 and 01_GT, or train and trainannot."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

from stages.core.path_parts import folders_of
from stages.importers.sample import SPLIT_WORDS

SPLIT = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
BEFORE = re.compile(rf"(?i)({SPLIT})(.+)")
AFTER = re.compile(rf"(?i)(.+[^a-z])({SPLIT})")
SPLIT_IN_NAME = re.compile(rf"(?i)(?<![a-z])({SPLIT})(?![a-z])")
CUT = re.compile(r"[_\-. ]")


def shared_heads(paths: Iterable[str]) -> frozenset[str]:
    """Return the beginnings and ends of folder names, up to a separator, that are or that begin another folder name.

    >>> sorted(shared_heads(["01/t0.tif", "01_GT/SEG/s0.tif", "x_y/a.png"]))
    ['01']
    """
    names = {part for path in paths for part in folders_of(path)}
    parts = Counter(part for name in names for part in {*_heads(name), *_tails(name)})
    return frozenset(part for part, count in parts.items() if count > 1 or part in names)


def affixed_folder(name: str, heads: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield patterns of a folder with the text of {folder}: the whole name, and the name without an affix.

    Args:
        name: name of the folder.
        heads: parts of names that several folders share.

    >>> list(affixed_folder("01_GT", frozenset(["01"])))
    [('{folder}', '01_GT'), ('{folder}_GT', '01')]
    >>> list(affixed_folder("trainannot", frozenset()))
    [('{folder}', 'trainannot'), ('{folder}annot', 'train')]
    """
    yield "{folder}", name
    if found := BEFORE.fullmatch(name):
        if name.lower() not in SPLIT_WORDS:
            yield f"{{folder}}{found[2]}", found[1]
    elif found := AFTER.fullmatch(name):
        yield f"{found[1]}{{folder}}", found[2]
    else:
        yield from ((f"{{folder}}{name[len(head) :]}", head) for head in _heads(name) if head in heads)
        yield from ((f"{name[: -len(tail)]}{{folder}}", tail) for tail in _tails(name) if tail in heads)


@lru_cache(10_000)
def without_split(affix: str) -> str:
    """Return the part of a name beside the key, with * in place of a word that names a split.

    >>> without_split("_training_mask"), without_split("_mask")
    ('_*_mask', '_mask')
    """
    return SPLIT_IN_NAME.sub("*", affix)


def name_parts(name: str) -> set[str]:
    """Return a name, and its beginnings and ends up to a separator.

    >>> sorted(name_parts("a_mask"))
    ['a', 'a_mask', 'mask']
    """
    return {name, *_heads(name), *_tails(name)}


def _heads(name: str) -> list[str]:
    return [name[: cut.start()] for cut in CUT.finditer(name) if cut.start()]


def _tails(name: str) -> list[str]:
    return [name[cut.end() :] for cut in CUT.finditer(name) if name[cut.end() :]]
