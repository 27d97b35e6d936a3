"""Groups of images derived from file names: parts that recur, and consecutive numbers."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stages.configuration.name_parts import DAY, NAME, NamePart, divide, find_parts, find_texts
from stages.core.plurals import quantity
from stages.dataset.counters import NUMBER, SCOPES
from stages.importers.sample import Sample, split_from_path
from stages.importers.sequence_blocks import block_scope, group_blocks

WORDS = (
    "patient|subject|person|case|animal|individual|specimen|donor|mouse|mice|rat|fish|larva|plant|slide|series|study|"
    "session|scene|video|movie|film|clip|plate|well|site|plot|tree|nest|colony|station"
)
"""Words that denote a subject or recording with several images."""
FEWEST_IMAGES, FEWEST_GROUPS = 10, 5
MOST_IN_ONE = 0.4  # maximum share of the images in one group
SOMETIMES = 0.2  # minimum share of the images in groups of several images
FEW_ENDINGS = 6  # maximum number of different endings (left, right ...)
BEGINNINGS = (f"{NAME}(", "^((?:.*/)?", "([^/]+)/", "^(.+)/")
"""Beginnings of the patterns of folders and of the beginnings of names."""


@dataclass(frozen=True)
class CandidateGrouping:
    """Candidate grouping of images by file name or capture time."""

    pattern: str
    """Regular expression for `ingest.group_regex`; the line of the params for groups by capture time."""
    keys: tuple[str, ...]
    """Group of each image."""
    division: tuple[int, ...]
    """The same as numbers from 0."""
    why: str
    """Reason for the grouping."""
    word: str
    """Word before the number that denotes a subject or recording, such as patient; else empty."""
    recurs: bool
    """Whether a few endings, such as left and right, recur in all groups."""
    session_gap: float = 0.0
    """Value of `ingest.session_gap` of groups by capture time, minutes; 0 for groups by name."""

    @property
    def certain(self) -> bool:
        """True if the names alone justify the grouping; otherwise images must be compared."""
        return bool(self.word) or self.recurs

    @property
    def is_beginning(self) -> bool:
        """True if the group is a folder, a day or the beginning of a name, not a part within the name."""
        return self.pattern == DAY or self.pattern.startswith(BEGINNINGS)

    @property
    def has_numbers(self) -> bool:
        """True if most groups are named by numbers, as objects are; words often denote kinds."""
        names = set(self.keys)
        return 2 * sum(bool(re.search(r"\d", name)) for name in names) > len(names)

    @property
    def groups(self) -> dict[int, list[int]]:
        """Indices of the images of each group with several images, by the number of the group."""
        found: dict[int, list[int]] = defaultdict(list)
        for place, number in enumerate(self.division):
            found[number].append(place)
        return {number: places for number, places in found.items() if len(places) > 1}


def find_groupings(paths: Sequence[str], labels: Sequence[str]) -> Iterator[CandidateGrouping]:
    """Yield plausible groupings of images by file name, those by words first; none for fewer than 10 images.

    Args:
        paths: paths of the images.
        labels: class of each image, or ''.
    """
    if len(paths) < FEWEST_IMAGES:
        return
    seen, splits = set(), [split_from_path(path) for path in paths]
    for word, part in (*_parts_with_words(paths), *(("", part) for part in find_parts(paths))):
        division = divide(part.keys)
        if division in seen or not is_plausible(division, labels, splits):
            continue
        seen.add(division)
        few = _endings(part, paths)
        ends = f", and {len(few)} endings recur, such as {min(few)}" if few else ""
        groups = quantity(len(set(division)), "group")
        why = f"by {part.what}, the paths divide {len(paths)} images into {groups}{ends}"
        yield CandidateGrouping(part.pattern, part.keys, division, why, word, bool(few))


def _parts_with_words(paths: Sequence[str]) -> Iterator[tuple[str, NamePart]]:
    """Yield the words that denote a subject or recording, with a number, in the order of `WORDS`."""
    first = frozenset(map(str.lower, re.findall(r"(?i)[a-z]+", paths[0])))
    for word in WORDS.split("|"):
        if word in first and all(map(re.compile(rf"(?i)(?<![a-z]){word}(?![a-z])").search, paths)):
            pattern = rf"(?i)(?<![a-z]){word}[ _-]?(\w*?\d+)"
            keys = find_texts(re.compile(pattern), paths)
            if keys:
                yield word, NamePart(pattern, keys, f"the word {word} and its number")


def _endings(part: NamePart, paths: Sequence[str]) -> set[str]:
    """Return the texts that follow the part, if a few recur in groups that are named by the beginning of the name.

    The same file name in two folders denotes two images of one group only if the folder is not a part of the group.
    """
    is_distinct = len({path.rpartition("/")[2] for path in paths}) == len(paths)
    if part.pattern.startswith((NAME + "(" if is_distinct else "^((?:.*/)?", "([^/]+)/", "^(.+)/")):
        found = [re.search(part.pattern, path) for path in paths]
        endings = {path[one.end(1) :] for path, one in zip(paths, found, strict=True) if one}
        if 2 <= len(endings) <= FEW_ENDINGS:
            return endings
    return set()


def is_plausible(division: Sequence[int], labels: Sequence[str], splits: Sequence[str | None]) -> bool:
    """Return True if there are groups of several images that are neither classes (of a split) nor counters of classes.

    Args:
        division: number of the group of each image.
        labels: class of each image, or ''.
        splits: split that a folder of each image names.
    """
    sizes = Counter(division)
    together = sum(size for size in sizes.values() if size > 1) / len(division)
    if len(sizes) < FEWEST_GROUPS or together < SOMETIMES or max(sizes.values()) > MOST_IN_ONE * len(division):
        return False
    of_label: dict[str, set[int]] = defaultdict(set)
    of_class_and_split: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for number, label, split in zip(division, labels, splits, strict=True):
        of_label[label].add(number)
        of_class_and_split[label, split].add(number)
    counts_each_class = sum(map(len, of_label.values())) == len(division) and len(of_label) > 1
    return any(len(groups) > 1 for groups in of_class_and_split.values()) and not counts_each_class


def find_sequences(paths: Sequence[str], scope: str = "") -> list[list[tuple[int, int]]]:
    """Return sequences of numbered images as sorted (number, index), grouped by the rest of the name, longest first.

    The result is empty if the name of any image has no number.

    Args:
        paths: paths of the images.
        scope: key of `SCOPES`: what the counter runs across.
    """
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for place, path in enumerate(paths):
        match = NUMBER.fullmatch(path)
        if match is None:
            return []
        found[SCOPES[scope](match[1]), match[3]].append((int(match[2]), place))
    return sorted((sorted(one) for one in found.values()), key=len, reverse=True)


def assign_groups(items: Sequence[Sample], pattern: str, block: int) -> list[str]:
    """Return the group of each image as determined by `ingest`; images without a group form their own.

    Unlike in `ingest`, copies of an image do not share a group, because their pixels are not compared.

    Args:
        items: images of the source.
        pattern: value of `ingest.group_regex`.
        block: value of `ingest.sequence_block`.
    """
    groups = []
    for item in items:
        found = re.search(pattern, item.path) if pattern and item.group is None else None
        groups.append(replace(item, group=found[1]) if found else item)
    if block > 1:
        scope = block_scope(groups)
        groups = [group_blocks([one], block, scope)[0] if NUMBER.fullmatch(one.path) else one for one in groups]
    return [one.group or one.path for one in groups]
