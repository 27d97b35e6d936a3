"""Find the columns of a table that may contain labels, by their values first and by their names second."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

MAX_LABEL_SHARE = 0.2  # maximum number of distinct values of a class column, as a share of the rows
MIN_INDEXED = 10  # rows from which consecutive numbers are an index
MIN_LISTS = 0.05  # share of the cells with several words from which a column has several classes per cell
MIN_RECURRING = {"|": 0.5, ";": 0.5, ",": 0.8, " ": 0.8}
"""Share of the words in lists that must recur in other cells, by separator; names contain commas and spaces too."""
MAX_EXAMPLES = 3
LABELS = frozenset(
    "label labels class classes category categories diagnosis diagnoses dx species grade level tag tags finding "
    "findings type kind target pathology disease breed genus variety cultivar phenotype mechanism moa".split()
)
"""Words in names of columns with classes."""
DESCRIPTIONS = frozenset(
    "age size sex gender male female race ethnicity view side eye breast laterality localization localisation location "
    "position anatomy modality projection orientation camera device scanner machine manufacturer model magnification "
    "objective zoom resolution hospital center centre institution country region city dataset source origin batch "
    "fold method annotator rater reader photographer author user visit follow weather light lighting season".split()
)
"""Words in names of columns that describe the subject or the recording: predicted only if there is nothing else."""
INDICES = frozenset(
    "id ids uid uuid index idx nr no num number width height bytes row rows col column columns page pages frame "
    "slice line site well plate slide field z t date time datetime timestamp year month day hour minute second path "
    "file filename url link name title md5 sha1 hash comment comments note notes remark remarks description caption "
    "license licence latitude longitude lat lon lng altitude abnormality unnamed order serial session".split()
)
"""Words in names of columns that number, locate or describe a file: never predicted."""
MEASURES = frozenset(
    "weight mass length area volume count counts score price percent percentage ratio yield distance depth "
    "diameter angle concentration dose g kg mg mm cm um ml".split()
)
"""Words in names of columns with measured numbers."""
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}.*|\d{1,2}:\d{2}(:\d{2})?.*")
ID = re.compile(r"\d{7,}")


class ColumnFacts(NamedTuple):
    """Properties of a column, measured from its values and its name."""

    name: str
    words: frozenset[str]
    """Words of the name in lower case."""
    is_filled: bool
    """Whether no cell is empty."""
    is_number: bool
    has_fractions: bool
    """Whether any number is not whole."""
    is_index: bool
    """Whether the values are dates, long numbers or consecutive numbers, which do not describe an image."""
    given: int
    """Number of cells that are not empty."""
    distinct: int
    is_class: bool
    """Whether there are few values, which recur."""
    recurs: bool
    """Whether any value occurs more than once."""
    separator: str
    """Separator of several classes in a cell; empty if each cell is one class."""
    examples: tuple[str, ...]
    """The most frequent values."""

    def __str__(self) -> str:
        more = " ..." if self.distinct > len(self.examples) else ""
        return f"{self.name} ({', '.join(self.examples)}{more})"

    @property
    def is_named(self) -> bool:
        """Return whether the name says that the column contains classes."""
        return bool(self.words & LABELS) and self.distinct > 1 and not self.has_fractions

    @property
    def is_structural(self) -> bool:
        """Return whether the column numbers, locates or describes a file instead of its content."""
        return self.is_index or bool(self.words & INDICES and not self.words & MEASURES)


class LabelColumns(NamedTuple):
    """Columns that may contain labels, each list with the best first."""

    classes: list[ColumnFacts]
    numbers: list[ColumnFacts]
    rivals: list[ColumnFacts]
    """Columns that may be the labels in place of those chosen."""


def inspect_column(cells: pd.Series, name: str, decimal: str) -> ColumnFacts:
    """Measure the values of a column.

    Args:
        cells: cells as text.
        name: header of the column.
        decimal: decimal sign of numbers.
    """
    texts = cells.str.strip()
    given = texts[texts != ""]
    counts = given.value_counts(sort=True)
    numbers = pd.to_numeric(given.str.replace(decimal, ".", regex=False), errors="coerce")
    is_number = bool(len(given)) and bool(numbers.notna().all()) and bool(np.isfinite(numbers).all())
    has_fractions = is_number and bool((numbers % 1 != 0).any())
    separator = "" if is_number else find_class_separator(texts)
    return ColumnFacts(
        name,
        words_of(name),
        len(given) == len(texts),
        is_number,
        has_fractions,
        (is_number and not has_fractions and _is_consecutive(numbers)) or _are_codes(given),
        len(given),
        len(counts),
        1 < len(counts) <= max(2, MAX_LABEL_SHARE * len(texts)) or bool(separator),
        bool(len(counts)) and bool(counts.iloc[0] > 1),
        separator,
        tuple(map(str, counts.index[:MAX_EXAMPLES])),
    )


def words_of(name: str) -> frozenset[str]:
    """Return the words of a column's name in lower case.

    >>> sorted(words_of("Metadata_MoA")), sorted(words_of("PatientID"))
    (['a', 'metadata', 'mo', 'moa'], ['id', 'patient', 'patientid'])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return frozenset(word for text in (name, spaced) for word in re.findall(r"[^\W_]+", text.lower()))


def _is_consecutive(numbers: pd.Series) -> bool:
    """Return whether whole numbers are all different and count up without a gap."""
    return (
        len(numbers) >= MIN_INDEXED
        and numbers.nunique() == len(numbers)
        and bool(numbers.max() - numbers.min() == len(numbers) - 1)
    )


def _are_codes(given: pd.Series) -> bool:
    """Return whether the cells are dates, times or long numbers."""
    return bool(len(given)) and any(bool(given.str.fullmatch(pattern).all()) for pattern in (DATE, ID))


def find_class_separator(cells: pd.Series) -> str:
    """Return the separator of several classes in a cell; empty if each cell is one class.

    The words of such cells recur in other cells. Names of classes may contain spaces, so that words between spaces must
    also be whole cells, or give far more cells than there are words.

    >>> find_class_separator(pd.Series(["scab", "rust", "scab rust", "rust scab", "scab"] * 3))
    ' '
    >>> find_class_separator(pd.Series(["red fox", "arctic fox", "red panda"] * 5))
    ''
    """
    distinct = cells.drop_duplicates()
    for sign, least in MIN_RECURRING.items():
        lists = [[part.strip() for part in cell.split(sign) if part.strip()] for cell in distinct]
        several = [parts for parts in lists if len(parts) > 1]
        is_list = cells.str.strip(f"{sign} ").str.contains(sign, regex=False)
        if not several or is_list.mean() < MIN_LISTS:
            continue
        cells_of = Counter(part for parts in lists for part in set(parts))
        used = {part for parts in several for part in parts}
        if sum(cells_of[part] > 1 for part in used) < least * len(used):
            continue
        alone = {parts[0] for parts in lists if len(parts) == 1}
        varies = len({len(parts) for parts in lists}) > 1 and len(distinct) >= 2 * len(cells_of)
        if sign != " " or len(used & alone) >= least * len(used) or varies:
            return sign
    return ""


def rank_label_columns(columns: list[ColumnFacts]) -> LabelColumns:
    """Choose the columns that contain the labels, and list those that may contain them as well.

    A column that is named as a class comes first. Measured numbers, which have fractions or the name of a measure, come
    before other classes, and these before whole numbers. What describes the subject or the recording, such as sex, view
    or age, is a label only if nothing else is, and then a column of names of which at least one recurs.
    """
    named = sorted((one for one in columns if one.is_named), key=lambda one: (one.is_structural, len(one.words)))
    named = [one for one in named if not one.is_index]
    free = [one for one in columns if one not in named and not one.is_structural]
    plain = [one for one in free if not one.words & DESCRIPTIONS or one.words & MEASURES]
    classes = [one for one in plain if _is_text_class(one)]
    numbers = [one for one in plain if _is_target(one)]
    measured = [one for one in numbers if one.has_fractions or one.words & MEASURES]
    described = [one for one in free if one not in plain]
    if named:
        return LabelColumns(named[:1], [], [*named[1:], *classes, *numbers])
    if measured:
        return LabelColumns([], numbers, classes)
    if classes:
        return LabelColumns(classes[:1], [], [*classes[1:], *numbers])
    if numbers:
        return LabelColumns([], numbers, [])
    if ages := [one for one in described if _is_target(one)]:
        return LabelColumns([], ages, [one for one in described if _is_text_class(one)])
    rest = [one for one in described if _is_text_class(one)] or list(_recurring_names(columns))
    return LabelColumns(rest[:1], [], rest[1:])


def _is_text_class(one: ColumnFacts) -> bool:
    return one.is_class and not one.is_number and (one.is_filled or bool(one.separator))


def _is_target(one: ColumnFacts) -> bool:
    return one.is_number and one.is_filled and one.distinct > 1


def _recurring_names(columns: list[ColumnFacts]) -> Iterator[ColumnFacts]:
    """Yield columns of text in which a value recurs: the names of individuals, most of which are seen once."""
    for one in columns:
        if one.recurs and one.distinct > 1 and not one.is_number and not one.is_index and one.is_filled:
            yield one
