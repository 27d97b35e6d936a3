"""Groups of images derived from file names: recurring stems and consecutive numbers."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from stages.dataset.counters import NUMBER, SCOPES
from stages.importers.sample import SPLIT_WORDS, Sample
from stages.importers.sequence_blocks import block_scope, group_blocks

WORDS = (
    "patient|subject|person|case|animal|individual|specimen|donor|mouse|mice|rat|fish|larva|plant|slide|series|study|"
    "session|scene|video|movie|film|clip|plate|well|site|plot|tree|nest|colony|station"
)
"""Words that denote a subject or recording with several images."""
FEWEST_IMAGES, FEWEST_GROUPS = 10, 5
MOST_IN_ONE = 0.4  # maximum share of the images in one group
OFTEN, SOMETIMES = 0.5, 0.2  # minimum share of the images in groups of several images
FEW_ENDINGS = 6  # maximum number of different endings (left, right ...)
TOKENS = 6  # maximum number of underscore-separated tokens considered


@dataclass(frozen=True)
class CandidateGrouping:
    """Candidate grouping of images by file name."""

    pattern: str
    """Regular expression for `ingest.group_regex`."""
    keys: tuple[str, ...]
    """Group of each image."""
    why: str
    """Reason for the grouping."""
    certain: bool
    """Whether the names alone justify the grouping; otherwise images must be compared."""

    @property
    def groups(self) -> dict[str, list[int]]:
        """Indices of the images of each group with several images, by group."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, key in enumerate(self.keys):
            found[key].append(place)
        return {key: places for key, places in found.items() if len(places) > 1}


def find_groupings(paths: Sequence[str], labels: Sequence[str]) -> Iterator[CandidateGrouping]:
    """Yield plausible groupings of images by file name, the most convincing first; none for fewer than 10 images.

    Args:
        paths: paths of the images.
        labels: class of each image, or ''.
    """
    if len(paths) < FEWEST_IMAGES:
        return
    for pattern, least, words in _patterns(paths, labels):
        found = [re.search(pattern, path) for path in paths]
        keys = tuple(one[1] if one else "" for one in found)
        if all(keys) and _is_plausible(keys, labels, least):
            endings = {path[one.end(1) :] for path, one in zip(paths, found, strict=True) if one}
            recur = 2 <= len(endings) <= FEW_ENDINGS
            ends = f", and {len(endings)} endings recur, such as {min(endings)}" if recur else ""
            count = len(set(keys))
            yield CandidateGrouping(
                pattern,
                keys,
                f"{words or 'file names'} divide {len(keys)} images into {count} groups{ends}",
                bool(words) or recur,
            )


def _patterns(paths: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[str, float, str]]:
    """Yield regular expressions, each with the minimum share of images in groups of several and supporting words."""
    for word, count in Counter(
        word.lower() for path in paths for word in set(re.findall(rf"(?i)(?<![a-z])(?:{WORDS})(?![a-z])", path))
    ).items():
        if count >= len(paths):
            yield rf"(?i)(?<![a-z]){word}[ _-]?(\w*?\d+)", SOMETIMES, f"the word {word} and its number"
    deepest = [PurePosixPath(path).parent.name for path in paths]
    if all(name and name.lower() not in SPLIT_WORDS and name != own for name, own in zip(deepest, labels, strict=True)):
        yield r"([^/]+)/[^/]*$", OFTEN, ""
    files_differ = len({PurePosixPath(path).name for path in paths}) == len(paths)
    begin = "(" if files_differ else "^((?:.*/)?"  # img1_left in two folders denotes two groups
    yield rf"{begin}[^/]+)[ _-][^ _/-]*$", OFTEN, ""
    yield rf"{begin}[^/]*?[^/\d _.-])[ _.-]*\d+[^/\d]*$", OFTEN, ""
    if files_differ:
        tokens = [PurePosixPath(path).stem.split("_") for path in paths]
        for place in range(min(TOKENS, max(map(len, tokens)))):
            here = [token[place] for token in tokens if len(token) > place]
            numbered = sum(bool(re.search(r"\d", token)) for token in here)
            if len(here) == len(paths) <= 2 * numbered and all(re.search(r"[^\W\d]", token) for token in here):
                yield rf"^(?:.*/)?(?:[^_/]*_){{{place}}}([^_/.]+)", SOMETIMES, ""
        if _beginnings_recur(paths, labels):
            yield r"(?<!\d)(\d+)[^/\d]*$", OFTEN, ""


def _beginnings_recur(paths: Sequence[str], labels: Sequence[str]) -> bool:
    """Return True if numbers follow a few beginnings, as in left_12 and right_12, which do not name the classes."""
    matches = [re.fullmatch(r"(?:.*/)?([^/]*?)(\d+)[^/\d]*", path) for path in paths]
    beginnings = [match[1] if match else "" for match in matches]
    pairs = set(zip(beginnings, labels, strict=True))
    are_classes = len(pairs) == len(set(beginnings)) == len(set(labels))
    return all(matches) and 2 <= len(set(beginnings)) <= FEW_ENDINGS and not are_classes


def _is_plausible(keys: Sequence[str], labels: Sequence[str], least: float) -> bool:
    sizes = Counter(keys)
    together = sum(size for size in sizes.values() if size > 1) / len(keys)
    if len(sizes) < FEWEST_GROUPS or together < least or max(sizes.values()) > MOST_IN_ONE * len(keys):
        return False
    of_label: dict[str, set[str]] = defaultdict(set)
    for key, label in zip(keys, labels, strict=True):
        of_label[label].add(key)
    return any(len(groups) > 1 for groups in of_label.values())  # otherwise the name denotes the class


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
