"""Parts of paths that may denote related images: folders, parts of file names, days, and names of edited copies."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stages.core.path_parts import name_of, stem_of, suffix_of
from stages.importers.sample import SPLIT_WORDS

MOST_PARTS, MOST_DROPPED = 8, 4  # parts of a name counted from its start, and from its end
MOST_ENDINGS = 48  # different endings of edited copies
OFTEN_EDITED = 0.5  # share of the images with a base of several endings, from which endings denote copies
WORD, BETWEEN = r"[^\W_]+", r"[\W_]+"
NAME = r"^(?:.*/)?"
DAY = r"(?<!\d)((?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d)"


@dataclass(frozen=True)
class NamePart:
    """Part of each path that may identify related images."""

    pattern: str
    """Regular expression whose first parentheses match the part."""
    keys: tuple[str, ...]
    """The part of each image."""
    what: str
    """Description of the part in words."""


def find_parts(paths: Sequence[str]) -> Iterator[NamePart]:
    """Yield the parts of paths by which images could be grouped, one for each division of the images.

    The pattern of a part matches every path. The simplest pattern comes first.
    """
    seen: set[tuple[int, ...]] = set()
    for pattern, what in _patterns(paths):
        keys = find_texts(re.compile(pattern), paths)
        if not keys:
            continue
        division = divide(keys)
        if 1 < max(division) + 1 < len(paths) and division not in seen:
            seen.add(division)
            yield NamePart(pattern, keys, what)


def find_texts(pattern: re.Pattern[str], paths: Sequence[str]) -> tuple[str, ...]:
    """Return the text of the first parentheses for each path; nothing if a path does not match, or with no text."""
    keys = []
    for path in paths:
        found = pattern.search(path)
        if not found or not found[1]:
            return ()
        keys.append(found[1])
    return tuple(keys)


def divide(keys: Sequence[str]) -> tuple[int, ...]:
    """Return the number of the group of each image, counted from 0 by first occurrence.

    >>> divide(["b", "a", "b"])
    (0, 1, 0)
    """
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return tuple(map(numbers.__getitem__, keys))


def _patterns(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from _folders(paths)
    if all(re.search(DAY, path) for path in paths):
        yield DAY, "the day in the name"
    names = [name_of(path) for path in paths]
    distinct = len(set(names)) == len(names)
    suffix = r"\.[^./]+$" if all(suffix_of(name) for name in names) else "$"
    stems = [stem_of(name) if suffix != "$" else name for name in names]
    found = [*_edited_copies(stems, suffix), *_parts_of_names(stems, suffix)]
    for pattern, what in found:
        if distinct:
            yield NAME + pattern, what
    for pattern, what in found:  # the same name in two folders may denote two objects
        inside = "^((?:.*/)?" + pattern.replace("(", "", 1) if pattern.startswith("(") else ""
        if inside:
            yield inside, f"{what} within a folder"
    if not distinct:
        for pattern, what in found:
            yield NAME + pattern, what


def _folders(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of the folder at each depth, and the path of the folder, from the deepest to the outermost."""
    depths = [path.count("/") for path in paths]
    if not min(depths):
        return
    for above in range(min(*depths, MOST_DROPPED)):
        what = "the folder" if not above else f"the folder {above} above"
        names = {path.split("/")[-2 - above].lower() for path in paths}
        if not names <= set(SPLIT_WORDS):
            yield rf"([^/]+)/{'[^/]+/' * above}[^/]*$", what
            yield rf"^(.+)/{'[^/]+/' * above}[^/]*$", f"the path of {what}"
    if min(depths) != max(depths):
        for depth in range(min(*depths, MOST_DROPPED)):
            yield rf"^{'[^/]+/' * depth}([^/]+)/", f"the folder at depth {depth + 1}"


def _edited_copies(stems: Sequence[str], suffix: str) -> Iterator[tuple[str, str]]:
    """Yield the name before an ending that recurs, such as `_90deg`, `_flipLR` and `_aug3`, where one exists.

    An ending is a word. It recurs if names before it are those of other images, with another ending or without.
    """
    whole = set(stems)
    of_base: dict[str, set[str]] = defaultdict(set)
    for stem in stems:
        base, sign, ending = _cut(stem)
        of_base[base].add(sign + re.sub(r"\d+", "0", ending))
    count = Counter(ending for endings in of_base.values() for ending in endings)
    bare = {base for base in of_base if base in whole}
    words = sorted(e for e, bases in count.items() if re.search(r"[^\W\d_]{2}", e) and bases > 1)
    copied = [base for base, endings in of_base.items() if base in bare and endings & set(words)]
    images = sum(1 for stem in stems if stem in bare or _cut(stem)[0] in bare)
    if copied and 0 < len(words) <= MOST_ENDINGS and images >= OFTEN_EDITED * len(stems):
        kept = [word for word in words if any(word in of_base[base] for base in copied)]
        endings = "|".join(re.escape(word).replace("0", r"\d+") for word in kept)
        yield rf"([^/]+?)(?:{endings})?{suffix}", "the name before the ending of an edited copy"


def _cut(stem: str) -> tuple[str, str, str]:
    """Return the parts of a name before, at and after its last separator; the first is empty if there is none."""
    found = re.fullmatch(r"(.*[^\W_])([\W_]+)([^\W_]+)", stem)
    return (found[1], found[2], found[3]) if found else ("", "", stem)


def _parts_of_names(stems: Sequence[str], suffix: str) -> Iterator[tuple[str, str]]:
    """Yield beginnings and single parts of names, as patterns that begin after the last slash."""
    shapes = {re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "a", stem)) for stem in stems}
    if len(shapes) == 1:
        yield from _parts_of_one_shape(stems)
        return
    words = [re.findall(WORD, stem) for stem in stems]
    fewest, most = min(map(len, words)), max(map(len, words))
    for dropped in range(1, min(fewest - 1, MOST_DROPPED) + 1):
        yield rf"([^/]*[^\W_]){f'{BETWEEN}{WORD}' * dropped}[^\w/]*{suffix}", _without(dropped)
    for kept in range(1, min(fewest - 1, MOST_DROPPED) + 1):
        yield rf"({WORD}{f'{BETWEEN}{WORD}' * (kept - 1)}){BETWEEN}", _beginning(kept)
    if all(re.search(r"\d", stem) for stem in stems):
        yield rf"([^/]*?[^/\d])\d+[^/\d]*{suffix}", "the name before its last number"
        yield rf"([^/]*\d)[^\W\d_]*{suffix}", "the name up to its last number"
    for place in range(1, min(fewest, MOST_DROPPED)):
        yield rf"{f'{WORD}{BETWEEN}' * place}({WORD})", f"part {place + 1} of the name"
        if fewest < most:
            rest = f"{BETWEEN}{WORD}" * (place - 1)
            yield rf"[^/]*?({WORD}){rest}[^\w/]*{suffix}", f"part {place} of the name, counted from its end"


def _parts_of_one_shape(stems: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the parts of names with the same sequence of numbers, words and signs, such as `S010_004_00000017`."""
    pieces = [re.findall(r"\d+|[^\W\d_]+|[\W_]+", stem) for stem in stems]
    columns = list(zip(*pieces, strict=True))
    written = [_pattern_of(column) for column in columns]
    parts = [i for i, column in enumerate(columns) if re.match(r"[^\W_]", column[0])]
    inside_of_day = _inside_of_day(stems[0], pieces[0])
    for number, i in enumerate(parts[:-1], start=1):
        if i not in inside_of_day and number <= MOST_PARTS:
            follows = written[i + 1] if not re.match(r"[^\W_]", columns[i + 1][0]) else ""
            yield f"({''.join(written[: i + 1])}){follows}", _beginning(number)
    for number, i in enumerate(parts, start=1):
        if i > parts[0] and number <= MOST_PARTS and i not in inside_of_day and len(set(columns[i])) > 1:
            yield f"{''.join(written[:i])}({written[i]})", f"part {number} of the name"
    for i, j in _words(columns):
        if i > 0 and not inside_of_day.intersection(range(i, j)):
            pattern = f"{''.join(written[:i])}({''.join(written[i:j])})"
            yield pattern, f"the part of the name that is {''.join(pieces[0][i:j])} in the first image"


def _words(columns: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Yield the first and the end place of the words that consist of several pieces, such as `g03`."""
    signs = [-1, *(i for i, column in enumerate(columns) if re.match(r"[\W_]", column[0])), len(columns)]
    yield from ((before + 1, after) for before, after in pairwise(signs) if after - before > 2)


def _pattern_of(column: Sequence[str]) -> str:
    """Return a pattern of the pieces of names at one place: as written if all are equal."""
    if column[0].isdigit():
        return r"\d+"
    if len(set(column)) == 1:
        return re.sub(r"\\([-# ])", r"\1", re.escape(column[0]))
    return r"[\W_]+" if re.match(r"[\W_]", column[0]) else r"[^\W\d_]+"


def _inside_of_day(stem: str, pieces: Sequence[str]) -> set[int]:
    """Return the places of the pieces of a day, except for the last one, and of the time that follows."""
    day = re.search(DAY, stem)
    if not day:
        return set()
    starts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    ends = [start + len(piece) for start, piece in zip(starts, pieces, strict=True)]
    time = re.match(r"[-_.T ]?\d\d(?:[-_.:]?\d\d){1,2}(?!\d)", stem[day.end(1) :])
    last = day.end(1) + (time.end() if time else 0)
    return {i for i, end in enumerate(ends) if day.start(1) <= starts[i] and end <= last and end != day.end(1)}


def _beginning(number: int) -> str:
    return "the first part of the name" if number == 1 else f"the first {number} parts of the name"


def _without(number: int) -> str:
    return "the name without its last part" if number == 1 else f"the name without its last {number} parts"
