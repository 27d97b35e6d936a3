"""Find classes and numbers in the names of files, such as `Cr_12.bmp` and `apple_165g_3.jpg`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from stages.core.path_parts import stem_of
from stages.core.plurals import list_names, quantity

FEWEST_IMAGES = 10
MIN_MATCHING = 0.98  # share of the images whose names must match
MIN_MEMBERS = 5  # median number of images of a class
MAX_CLASS_SHARE = 0.1  # number of classes as a share of the images
MAX_IN_ONE = 0.95  # share of the images in one class
MIN_VALUES = 5  # number of different values from which a number is a measurement
MAX_LISTED, MAX_FIELDS = 3, 6
QUANTITIES = {
    "weight": "kg|mg|g|grams?", "length": "cm|mm|um|nm|inch", "age": "years?|yrs?|yo|months?|weeks?",
    "volume": "ml|ul|cl", "temperature": "degc|celsius", "concentration": "ppm|ppb|um?ol|mm?ol|mgl",
    "percentage": "percent|pct",
}  # fmt: skip
"""Units of a number by the quantity that it measures."""
MEASURED = (
    "age|weight|mass|length|width|height|depth|distance|count|number|angle|temperature|temp|dose|concentration|conc|"
    "score|price|volume|area|diameter|bmi|ph|moisture|humidity|speed"
)
"""Words before a number that it measures."""
CLASS_WORDS = "class|label|cls|grade|category|cat|type"
BEFORE = r"^(?:.*/)?(?P<label>[^/\d]*[^\W\d_])[ _.()#-]*\d[^/]*$"
AFTER = r"^(?:.*/)?\d[\d _.-]*?[ _.-](?P<label>[^\W\d_][^/\d]*?)\.[^./]+$"
LABELLED = rf"(?i)(?<![a-z])(?:{CLASS_WORDS})[ _=-]?(?P<label>\d+|[a-z]+)(?![a-z\d])[^/]*$"
NEUTRAL = frozenset(
    "img image images dsc dscn dscf dcim pict pic photo picture p imag frame screenshot scan file video vid mvi gopr "
    "wp pxl sample slice tile patch crop page item object cell left right front back rear top bottom side view train "
    "test val valid validation raw mask gt target input output noisy clean before after sharp blurred hr lr high low "
    "original result a b c x y z r g t s i n ch channel plate well site patient subject case person animal mouse fish "
    "day week session run clip film movie series study scene".split()
)
"""Words that begin or end names of files without being classes."""


class NameReading(NamedTuple):
    """Labels found in the names of files."""

    regex: str
    """Value of `ingest.name_regex`."""
    reason: str
    question: str


def find_numbers_in_names(paths: Sequence[str]) -> NameReading | None:
    r"""Return a number with a unit or after the name of a quantity, of which the names contain exactly one; else None.

    >>> find_numbers_in_names([f"apple_{100 + n // 4}g_{n % 4}.jpg" for n in range(40)]).regex
    '(?i)(?<![a-z\\d.])(?P<weight>\\d+(?:\\.\\d+)?)[ _-]?(?:g)(?![a-z\\d])[^/]*$'
    """
    found = [*_numbers(paths)]
    if len(found) != 1:
        return None
    quantity_, regex, values = found[0]
    examples = list_names(sorted({*values}, key=float), MAX_LISTED)
    reason = f"the names of the files contain a number, {quantity_} ({examples}; {len({*values})} values)"
    question = (
        f"ingest.name_regex: {paths[0]} is read as {quantity_} {values[0]}: is this number the label? If the name "
        "contains a class instead, write (?P<label>...) around it"
    )
    return NameReading(regex, reason, question)


def _numbers(paths: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, regular expression and values of the measured numbers in names."""
    if len(paths) < FEWEST_IMAGES:
        return
    number = r"\d+(?:\.\d+)?"
    forms: dict[str, str] = {}
    stems = "\n".join(map(stem_of, paths))  # one search in all names, which no match crosses
    after = {word.lower() for word in re.findall(r"(?i)(?<![a-z\d.])\d+(?:\.\d+)?[ _-]?([a-z]+)(?!\d)", stems)}
    before = map(str.lower, re.findall(r"(?i)(?<![a-z])([a-z]+)[ _=-]?\d", stems))
    for name, units in QUANTITIES.items():
        written = {unit for unit in after if re.fullmatch(f"(?i)(?:{units})", unit)}
        if len(written) == 1:  # numbers of different units cannot be compared
            forms[name] = rf"(?i)(?<![a-z\d.])(?P<{name}>{number})[ _-]?(?:{next(iter(written))})(?![a-z\d])[^/]*$"
    words = dict.fromkeys(filter(frozenset(MEASURED.split("|")).__contains__, before))
    forms |= {word: rf"(?i)(?<![a-z]){word}[ _=-]?(?P<{word}>{number})[^/]*$" for word in words}
    for name, regex in forms.items():
        values = [match[name] for path in paths if (match := re.search(regex, path))]
        if len(values) >= MIN_MATCHING * len(paths) and len({*values}) >= MIN_VALUES:
            yield name, regex, values


def find_class_in_names(paths: Sequence[str]) -> NameReading | None:
    """Return the class that the names of files contain, if few texts recur with many images each; else None.

    >>> find_class_in_names([f"steel/{name}_{n}.bmp" for name in ("Cr", "In") for n in range(9)]).reason
    'the names of the files contain the class: Cr (9 images), In (9 images)'
    """
    for regex in (LABELLED, BEFORE, AFTER) if len(paths) >= FEWEST_IMAGES else ():
        matches = [re.search(regex, path) for path in paths]
        labels = [match["label"] for match in matches if match]
        counts = Counter(labels)
        if len(labels) < MIN_MATCHING * len(paths) or not _are_classes(counts):
            continue
        shown = list_names((f"{name} ({quantity(n, 'image')})" for name, n in sorted(counts.items())), MAX_FIELDS)
        first = next(match for match in matches if match)
        question = (
            f"ingest.name_regex: {first.string} is read as class {first['label']}: are "
            f"{list_names(sorted(counts), MAX_FIELDS)} the classes?"
        )
        return NameReading(regex, f"the names of the files contain the class: {shown}", question)
    return None


def has_role_words(paths: Iterable[str], roles: frozenset[str]) -> bool:
    """Return whether any name or folder contains a word for the role of a file, such as mask.

    Args:
        paths: paths of the images.
        roles: words in lower case.
    """
    return any(not roles.isdisjoint(re.findall(r"[^\W\d_]+", path.lower())) for path in paths)


def _are_classes(counts: Counter[str]) -> bool:
    sizes = sorted(counts.values())
    if len(sizes) < 2 or len(sizes) > max(2, MAX_CLASS_SHARE * sum(sizes)) or sizes[-1] > MAX_IN_ONE * sum(sizes):
        return False
    words = {word for name in counts for word in re.findall(r"[^\W\d_]+", name.lower())}
    return sizes[len(sizes) // 2] >= MIN_MEMBERS and not words & NEUTRAL


def describe_fields(paths: Sequence[str]) -> str:
    """Return which fields the names of files have that may be labels, and how to read them; empty if none recurs.

    Fields are separated by underscores, hyphens or spaces. Names that are a text and a counter have none.

    >>> describe_fields([f"{20 + n % 9}_{n % 2}_{n:07}.jpg" for n in range(40)])[:81]
    'the names of the files contain fields that may be labels (20_0_0000000.jpg): fiel'
    """
    rows = [re.split(r"[_ -]+", stem_of(path)) for path in paths]
    width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    rows = [row for row in rows if len(row) == width]
    if len(paths) < FEWEST_IMAGES or count < MIN_MATCHING * len(paths):
        return ""
    fields = {place: Counter(row[place] for row in rows) for place in range(width)}
    recurring = {place: values for place, values in fields.items() if 1 < len(values) < len(rows) and width > 1}
    if not recurring:
        return ""
    shown = "; ".join(
        f"field {place + 1} has {len(values)} values ({list_names(_sorted(values), MAX_LISTED)})"
        for place, values in list(recurring.items())[:MAX_FIELDS]
    )
    first = next(iter(recurring))
    skipped = f"(?:[^/_ -]+[_ -]+){{{first}}}" if first else ""
    return (
        f"the names of the files contain fields that may be labels ({PurePosixPath(paths[0]).name}): {shown}; if one "
        f"is the label, set ingest.format to names and ingest.name_regex, for example to "
        f"^(?:.*/)?{skipped}(?P<label>[^/_ -]+) for field {first + 1} as class, or (?P<value>\\d+) for "
        "a number: docs/guides/your-images.md, Labels in the names of files"
    )


def _sorted(values: Iterable[str]) -> list[str]:
    """Return texts in the order of their first number, if all have one."""
    numbers = {text: re.search(r"\d+", text) for text in values}
    return sorted(numbers, key=lambda text: (int(number[0]) if (number := numbers[text]) else -1, text))
