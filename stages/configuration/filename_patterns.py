"""What the names of files say of which images belong together: stems that recur, and numbers that follow each other."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stages.importers.sample import SPLIT_WORDS, Sample

WORDS = (
    "patient|subject|person|case|animal|individual|specimen|donor|mouse|mice|rat|fish|larva|plant|slide|series|study|"
    "session|scene|video|movie|film|clip|plate|well|site|plot|tree|nest|colony|station"
)
"""Words that name what several images are of."""
FEWEST_IMAGES, FEWEST_GROUPS = 10, 5
MOST_IN_ONE = 0.4  # share of the images in one group, from which the name says something else
OFTEN, SOMETIMES = 0.5, 0.2  # share of the images that are not alone in their group
FEW_ENDINGS = 6  # left, right ...
TOKENS = 6  # places between underscores that are looked at
NUMBER = re.compile(r"(.*?)(\d+)(\D*)")
"""Of a path: what is before its last number, the number, and what comes after, as `ingest.sequence_block` reads it."""


@dataclass(frozen=True)
class Grouping:
    """One way in which names put images together."""

    pattern: str
    """As `ingest.group_regex` takes it."""
    keys: tuple[str, ...]
    """Of each image, in order: its group."""
    why: str
    told: bool
    """A word, or endings that recur, say so; else images must be looked at."""

    @property
    def groups(self) -> dict[str, list[int]]:
        """Places of the images of each group that has several."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, key in enumerate(self.keys):
            found[key].append(place)
        return {key: places for key, places in found.items() if len(places) > 1}


def groupings(paths: Sequence[str], labels: Sequence[str]) -> Iterator[Grouping]:
    """Every way that puts enough images together, the most telling first.

    Args:
        paths: of the images.
        labels: the class of each, or ''.
    """
    if len(paths) < FEWEST_IMAGES:
        return
    for pattern, least, words in _patterns(paths, labels):
        found = [re.search(pattern, path) for path in paths]
        keys = tuple(one[1] if one else "" for one in found)
        if all(keys) and _is_plausible(keys, labels, least):
            endings = {path[one.end(1) :] for path, one in zip(paths, found, strict=True) if one}
            recur = 2 <= len(endings) <= FEW_ENDINGS
            ends = f", and {len(endings)} endings recur, as {min(endings)}" if recur else ""
            count = len(set(keys))
            yield Grouping(
                pattern,
                keys,
                f"{words or 'names'} put {len(keys)} images into {count} groups{ends}",
                bool(words) or recur,
            )


def _patterns(paths: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[str, float, str]]:
    """Expression, share of the images that must not be alone in their group, and words that speak for it."""
    for word, count in Counter(
        word.lower() for path in paths for word in set(re.findall(rf"(?i)(?<![a-z])(?:{WORDS})(?![a-z])", path))
    ).items():
        if count >= len(paths):
            yield rf"(?i)(?<![a-z]){word}[ _-]?(\w*?\d+)", SOMETIMES, f"the word {word} and its number"
    deepest = [PurePosixPath(path).parent.name for path in paths]
    if all(name and name.lower() not in SPLIT_WORDS and name != own for name, own in zip(deepest, labels, strict=True)):
        yield r"([^/]+)/[^/]*$", OFTEN, ""
    files_differ = len({PurePosixPath(path).name for path in paths}) == len(paths)
    begin = "(" if files_differ else "^((?:.*/)?"  # img1_left in two folders is of two
    yield rf"{begin}[^/]+)[ _-][^ _/-]*$", OFTEN, ""
    yield rf"{begin}[^/]*?[^/\d _.-])[ _.-]*\d+[^/\d]*$", OFTEN, ""
    if files_differ:
        tokens = [PurePosixPath(path).stem.split("_") for path in paths]
        for place in range(min(TOKENS, max(map(len, tokens)))):
            here = [token[place] for token in tokens if len(token) > place]
            numbered = sum(bool(re.search(r"\d", token)) for token in here)
            if len(here) == len(paths) <= 2 * numbered and all(re.search(r"[^\W\d]", token) for token in here):
                yield rf"^(?:.*/)?(?:[^_/]*_){{{place}}}([^_/.]+)", SOMETIMES, ""


def _is_plausible(keys: Sequence[str], labels: Sequence[str], least: float) -> bool:
    sizes = Counter(keys)
    together = sum(size for size in sizes.values() if size > 1) / len(keys)
    if len(sizes) < FEWEST_GROUPS or together < least or max(sizes.values()) > MOST_IN_ONE * len(keys):
        return False
    of_label: dict[str, set[str]] = defaultdict(set)
    for key, label in zip(keys, labels, strict=True):
        of_label[label].add(key)
    return any(len(groups) > 1 for groups in of_label.values())  # else it is the class that the name says


def sequences(paths: Sequence[str]) -> list[list[tuple[int, int]]]:
    """(number, place) of images that are numbered, in order, by what else is in their names; the longest first.

    Empty where one image has no number.
    """
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for place, path in enumerate(paths):
        match = NUMBER.fullmatch(path)
        if match is None:
            return []
        found[match[1], match[3]].append((int(match[2]), place))
    return sorted((sorted(one) for one in found.values()), key=len, reverse=True)


def pattern_groups(items: Sequence[Sample], pattern: str, block: int) -> list[str]:
    """The group of each image as ingest will have it; of its own where nothing puts it to others."""
    groups = []
    for item in items:
        group = item.group
        if group is None and pattern and (found := re.search(pattern, item.path)):
            group = found[1]
        if block > 1 and (number := NUMBER.fullmatch(item.path)):
            group = f"{group or number[1]}#{int(number[2]) // block * block}"
        groups.append(group or item.path)
    return groups
