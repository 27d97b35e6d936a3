"""Find the level of nested folders that names the class: classes recur below the other levels, ids do not."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.core.path_parts import folders_of
from stages.core.plurals import list_names
from stages.importers.sample import SPLIT_WORDS

MAIN = 0.95  # share of the images below one folder, and of those at one depth
MIN_RECURRENCE = 0.5  # mean share of the other folders above in which a value occurs as well
MIN_IDS = 5  # number of values with digits from which they are ids
MAX_CLASS_SHARE = 0.2  # number of classes as a share of the images
MAX_LISTED = 4
AMOUNT = re.compile(r"(?i)x?\d+([.,]\d+)?[ _-]?(x|[unm]m|cm|px|dpi|deg|h|hours?|d|days?|min|weeks?|s|k|khz|lux)?")
CONDITIONS = frozenset(
    "left right front back rear top bottom side center centre lateral medial frontal profile rgb depth thermal ir nir "
    "infrared visible color colour coloured gray grey grayscale greyscale segmented day night raw processed original "
    "originals augmented cropped resized full small large low high before after indoor outdoor flash noflash".split()
)
"""Names of folders that say how an image was taken."""


@dataclass(frozen=True)
class FolderLevels:
    """Levels of folders of which one names the class."""

    inside: str
    """Folder that contains nearly all images."""
    pattern: str
    """Value of `ingest.images` with {label}, and {group} if a level identifies what images have in common."""
    reason: str
    question: str
    """Which levels may be the classes too, with the line to change; empty if there is no other."""


@dataclass(frozen=True)
class _Level:
    """One level of folders."""

    place: int
    values: tuple[str, ...]
    """Folder of each image."""
    recurrence: float
    """Mean share of the other folders above in which a value occurs as well; 0 for the first level."""

    @property
    def distinct(self) -> frozenset[str]:
        return frozenset(self.values)

    @property
    def is_split(self) -> bool:
        """Return whether folders are splits; there may be others beside them, such as further test images."""
        named = [value for value in self.distinct if value.lower() in SPLIT_WORDS]
        return len(named) == len(self.distinct) or len(named) > 1

    @property
    def is_condition(self) -> bool:
        """Return whether the folders are magnifications, views or the like, and not plain numbers."""
        amounts = all(AMOUNT.fullmatch(value) and not value.isdecimal() for value in self.distinct)
        return amounts or all(value.lower() in CONDITIONS for value in self.distinct)

    @property
    def is_id(self) -> bool:
        """Return whether the folders identify patients or the like: names with digits, or few images each."""
        numbered = sum(bool(re.search(r"\d", value)) for value in self.distinct)
        many = len(self.distinct) > MAX_CLASS_SHARE * len(self.values)
        return not self.recurs and len(self.distinct) >= MIN_IDS and (many or 2 * numbered >= len(self.distinct))

    @property
    def is_numbered(self) -> bool:
        """Return whether most folders have numbers of two or more digits, as persons do that recur below conditions."""
        numbered = sum(bool(re.search(r"\d\d", value)) for value in self.distinct)
        return len(self.distinct) >= MIN_IDS and 2 * numbered >= len(self.distinct)

    @property
    def recurs(self) -> bool:
        return self.recurrence >= MIN_RECURRENCE

    def __str__(self) -> str:
        return f"level {self.place + 1} ({list_names(sorted(self.distinct), MAX_LISTED)})"


def find_class_level(images: Iterable[str], roles: frozenset[str]) -> FolderLevels | None:
    """Return the level of folders that names the class, if it is not simply the first level, or is one of several.

    Folders of splits, of conditions such as magnifications, and of ids are not classes. Of several other levels, one
    whose values recur below the folders above comes first, also if they contain the name of that folder (`CD` in `D`),
    then the first level; numbers of two or more digits come last, and form groups.

    Args:
        images: paths of the images.
        roles: names of folders that denote the role of files, in lower case; such folders are not classes.
    """
    inside, folders = _main_folders(images)
    if not folders or len(folders[0]) < 2:
        return None
    levels = [_measure(folders, place) for place in range(len(folders[0]))]
    varying = [level for level in levels if len(level.distinct) > 1]
    if any(value.lower() in roles for level in varying for value in level.distinct):
        return None
    classes = [level for level in varying if not (level.is_split or level.is_condition or level.is_id)]
    if not classes:
        return None
    best = max(
        classes,
        key=lambda level: (not level.is_numbered, level.recurs, level.place if level.recurs else -level.place),
    )
    if len(classes) == 1 and best.place == int(levels[0].is_split and _has_all_splits(levels[0])):
        return None
    ids = [level for level in varying if level is not best and (level.is_id or level.is_numbered)]
    group = ids[0] if ids else None
    others = [level for level in classes if level is not best]
    question = (
        f"the classes are the folders of {best}; those of {' and of '.join(map(str, others))} may be the classes too: "
        f'for level {others[0].place + 1} set `images: "{_pattern(others[0], None if others[0] is group else group)}"`'
        if others
        else ""
    )
    reason = f"the folders of {best} are the classes"
    reason += ", which recur below the folders above" if best.recurs else ""
    reason += f"; those of {group} form groups" if group else ""
    return FolderLevels(inside, _pattern(best, group), reason, question)


def _main_folders(images: Iterable[str]) -> tuple[str, list[tuple[str, ...]]]:
    """Return the deepest folder that contains nearly all images, and the folders of each image below it.

    No folders are returned if the images lie at different depths.
    """
    parts = [folders_of(image) for image in images]
    count, inside = len(parts), list[str]()
    while parts:
        (name, size) = Counter(one[len(inside)] if len(one) > len(inside) else "" for one in parts).most_common(1)[0]
        if not name or size < MAIN * count:
            break
        parts = [one for one in parts if len(one) > len(inside) and one[len(inside)] == name]
        inside.append(name)
    below = [one[len(inside) :] for one in parts]
    depth, size = Counter(map(len, below)).most_common(1)[0] if below else (0, 0)
    return "/".join(inside), [one for one in below if len(one) == depth] if size >= MAIN * count else []


def _measure(folders: Sequence[tuple[str, ...]], place: int) -> _Level:
    """Return a level with its recurrence, of the names as they are or without the name of the folder above."""
    values = tuple(one[place] for one in folders)
    plain = _recurrence([(one[:place], one[place]) for one in folders])
    short = _recurrence([(one[:place], _without_parent(one, place)) for one in folders])
    return _Level(place, values, max(plain, short))


def _recurrence(pairs: Sequence[tuple[tuple[str, ...], str]]) -> float:
    above: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for parents, value in pairs:
        above[value].add(parents)
    folders = {parents for parents, _ in pairs}
    if len(folders) < 2 or len(above) < 2:
        return 0.0
    return sum(len(where) - 1 for where in above.values()) / (len(above) * (len(folders) - 1))


def _without_parent(folders: tuple[str, ...], place: int) -> str:
    """Return the name of a folder without that of the folder above it, such as C for CD in D."""
    name, parent = folders[place], folders[place - 1] if place else ""
    return re.sub(re.escape(parent), "", name, count=1, flags=re.IGNORECASE).strip(" _-") if parent else name


def _has_all_splits(level: _Level) -> bool:
    return {SPLIT_WORDS.get(value.lower()) for value in level.distinct} >= {*SPLIT_WORDS.values()}


def _pattern(label: _Level, group: _Level | None) -> str:
    """Return the pattern of paths with {label}, and {group} if there is a level of groups."""
    named = {label.place: "{label}"} | ({group.place: "{group}"} if group else {})
    return "/".join([*(named.get(place, "*") for place in range(max(named) + 1)), "**"])
