"""Infer the role of each column of a table: path, class, number, point, group or split."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from stages.core.path_parts import IMAGE_SUFFIXES, name_of, parent_of, without_suffix
from stages.core.plurals import list_names, quantity
from stages.importers.image_paths import ImageFinder
from stages.importers.label_columns import DESCRIPTIONS, ColumnFacts, LabelColumns, inspect_column, rank_label_columns
from stages.importers.sample import SPLIT_WORDS

MIN_GROUPS = 5
MIN_FOLDERS = 3  # folders of images from which a table can have one row per folder
MAX_RIVALS, MAX_UNUSED = 6, 10  # columns that a question lists
MAX_ROWS = 2000  # rows searched for paths
GROUPS = frozenset(
    "patient subject participant animal person individual donor mouse specimen lesion document scene sequence group "
    "series study session video film slide plate well site hospital center centre plot cage station tree plant".split()
)
INDIVIDUALS = frozenset("animal person individual specimen".split())
IDS = frozenset("id ids uid uuid".split())
NO_COLUMNS: dict[str, Any] = {
    "path": "path",
    "folder": "",
    "label": None,
    "separator": "",
    "scalars": [],
    "points": [],
    "group": None,
    "split": None,
    "origin": None,
}


def find_folder_column(rows: pd.DataFrame, images: Iterable[str]) -> tuple[str, str] | None:
    """Return the column whose rows are folders of images, each with its own row, and their base folder; None if none.

    At least half of the rows, and half of the images, belong together, and some folder contains several images.
    """
    images, seen = list(images), rows.head(MAX_ROWS)
    folders = Counter(parent_of(image) or "." for image in images)
    best = max(_count_paths(seen, list(folders)), default=(0, "", ""), key=lambda candidate: candidate[0])
    _, column, base = best
    if best[0] < max(MIN_FOLDERS, len(seen) / 2) or seen[column].duplicated().any():
        return None
    named = {f"{base}/{cell.strip('/')}".removeprefix("/") for cell in rows[column]} & folders.keys()
    count = sum(folders[folder] for folder in named)
    return (column, base) if count >= len(images) / 2 and count > len(named) else None


def find_path_column(rows: pd.DataFrame, images: Iterable[str]) -> tuple[str, str] | None:
    """Return the column with the most paths of images, and their base folder; None if under half of the rows match.

    The folder is empty if the paths end with those of the images, such as absolute paths of another machine. Names
    without a suffix count only if no column has names with one, because numbers of rows can be such names.

    Raises:
        ValueError: two columns contain different names of images without a suffix.
    """
    images, seen = list(images), rows.head(MAX_ROWS)
    required = max(1, len(seen) / 2)
    best = max(_count_paths(seen, images), default=(0, "", ""), key=lambda candidate: candidate[0])
    with_suffix = {
        column: [cell for cell in seen[column] if PurePosixPath(cell).suffix.lower() in IMAGE_SUFFIXES]
        for column in rows.columns
    }
    finder = ImageFinder(images)
    if best[0] < required:
        for column, named in with_suffix.items():
            best = max(best, (len(finder.find_all(named)[0]), str(column), ""), key=lambda candidate: candidate[0])
    if best[0] >= required:
        return _in_all_folders(seen, finder, *best[1:])
    if any(len(named) >= required for named in with_suffix.values()):
        return None
    # A class 0 or 1 can also be the name of an image.
    many = [name for name in seen if seen[name].nunique() >= required]
    ids = [*_count_paths(seen[many], [*map(without_suffix, images)])]
    ids += [(len(finder.find_all(seen[name])[0]), name, "") for name in many]
    ids = [one for one in ids if one[0] >= required]
    best = max(ids, default=best, key=lambda candidate: candidate[0])
    for _, column, _ in ids:
        if not seen[column].equals(seen[best[1]]):
            raise ValueError(
                f"the columns {best[1]} and {column} both contain names of images without a suffix, but different "
                "ones; remove one column, or write the names with the suffix"
            )
    return _in_all_folders(seen, finder, *best[1:]) if ids else None


def _in_all_folders(seen: pd.DataFrame, finder: ImageFinder, column: str, folder: str) -> tuple[str, str]:
    """Return a column and its base folder; no folder if more of the images are found in all folders."""
    cells = seen[column].drop_duplicates()
    below, anywhere = (len(finder.find_all(paths)[0]) for paths in ([f"{folder}/{cell}" for cell in cells], cells))
    return column, folder if below >= anywhere else ""


def _count_paths(rows: pd.DataFrame, images: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yield the number of rows that contain a path of an image, by column and base folder."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[name_of(image)].append(image)
    for column in rows.columns:
        folders: Counter[str] = Counter()
        for cell in rows[column]:
            written = cell.replace("\\", "/").removeprefix("./")
            ends = (i for i in by_name.get(PurePosixPath(written).name, ()) if f"/{i}".endswith(f"/{written}"))
            folders.update({image.removesuffix(written).rstrip("/") for image in ends})
        for folder, count in folders.items():
            yield count, str(column), folder


def infer_columns(rows: pd.DataFrame, decimal: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Infer the values of `ingest.columns` from the columns other than the path.

    Args:
        rows: cells as text.
        decimal: decimal sign of numbers.

    Returns:
        values by key, and reasons by key of `ingest`, for example `columns.group`; that of `columns` is a question.
    """
    facts = {str(name): inspect_column(rows[name], str(name), decimal) for name in rows}
    roles, reasons = dict(NO_COLUMNS), {}
    for name in rows:
        if set(rows[name].str.strip().str.lower()) <= set(SPLIT_WORDS):
            roles["split"] = name
    groupings = [one for one in facts.values() if one.name != roles["split"] and _is_grouping(one, rows[one.name])]
    free = [one for one in facts.values() if one.name != roles["split"]]
    found = rank_label_columns([one for one in free if one not in groupings])
    if not (found.classes or found.numbers):  # a column `animal` may be the class, if there is no other
        names = [one for one in groupings if one.recurs and (one.is_class or one.words & INDIVIDUALS)]
        found = LabelColumns(names[:1], [], names[1:])
        groupings = [one for one in groupings if one not in names]
    if groupings:
        roles["group"], reasons["columns.group"] = _finest_grouping(groupings, len(rows))
    points = [name[:-2] for name in facts if name.endswith("_x") and _is_point(name, facts)]
    if points and not any(one.is_named for one in found.classes):
        roles["points"] = points
        found = LabelColumns([], [], [])
    elif found.classes:
        label = found.classes[0]
        roles["label"], roles["separator"] = label.name, label.separator
        if label.separator:
            reasons["columns.separator"] = "cells contain several words that also occur in other cells"
    roles["scalars"] = [one.name for one in found.numbers]
    if asks := list(_ask_about_columns(found, free, roles)):
        reasons["columns"] = "; ".join(asks)
    return roles, reasons


def _is_grouping(one: ColumnFacts, cells: pd.Series) -> bool:
    """Return whether a column identifies what several images have in common, such as a patient."""
    identifies = one.words & GROUPS or (one.words & IDS and len(one.words - IDS) > 0)
    is_attribute = one.words & (DESCRIPTIONS - GROUPS) or one.is_named or one.has_fractions
    return (
        bool(identifies)
        and not is_attribute
        and one.is_filled
        and one.distinct >= MIN_GROUPS
        and (bool(one.words & GROUPS) or one.distinct < len(cells))
    )


def _finest_grouping(groupings: list[ColumnFacts], count: int) -> tuple[str, str]:
    """Return the finest grouping that still joins rows (patients rather than hospitals), and the reason.

    Positions on a plate recur on every plate, so that they are used only if there is no other grouping.
    """
    unique = [one for one in groupings if "well" not in one.words] or groupings
    finest = max(unique, key=lambda one: (one.distinct < count, one.distinct))
    others = [
        f"{one.name} has {one.distinct} values; choose it if the model must generalize to new ones"
        for one in groupings
        if one is not finest
    ]
    shared = f"{finest.distinct} values in {count} rows; images with the same value share a split"
    return finest.name, "; ".join([shared, *others, "set it to null if the column has another meaning"])


def _ask_about_columns(found: LabelColumns, free: list[ColumnFacts], roles: dict[str, Any]) -> Iterator[str]:
    """Yield which columns may be the labels instead, with the line to change, and which are not used."""
    if found.rivals:
        chosen = ", ".join(map(str, found.classes or found.numbers))
        others = list_names(map(str, found.rivals), MAX_RIVALS)
        first = found.rivals[0]
        line = f"`scalars: [{first.name}]` and `label: null`" if first.is_number else f"`label: {first.name}`"
        line += " and `scalars: []`" if found.numbers and not first.is_number else ""
        yield f"the labels are read from {chosen}; {others} may be the labels too, for example by the line {line}"
    elif len(found.numbers) > 1:
        numbers = list_names(map(str, found.numbers), MAX_RIVALS)
        yield (
            f"all of {numbers} are predicted as numbers: remove those from `scalars` that are not labels; if one "
            f"numbers classes, set `label` to it and `scalars: []`"
        )
    elif found.classes and not found.classes[0].is_class and not found.classes[0].is_named:
        label = found.classes[0]
        images = quantity(label.given, "image")
        yield f"{label} has {label.distinct} values for {images}, which is few per class: is each value a class?"
    used = {
        roles["label"],
        roles["group"],
        *roles["scalars"],
        *(f"{p}_{axis}" for p in roles["points"] for axis in "xy"),
    }
    unused = [str(one) for one in free if one.name not in used and one not in found.rivals]
    if unused:
        yield f"not used: {list_names(unused, MAX_UNUSED)}; is one required?"


def _is_point(name: str, facts: dict[str, ColumnFacts]) -> bool:
    y = facts.get(f"{name[:-2]}_y")
    return bool(name[:-2]) and facts[name].is_number and y is not None and y.is_number
