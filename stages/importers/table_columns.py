"""Infer the role of each column of a table: path, class, number, point, group or split."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from stages.images.decode import IMAGE_SUFFIXES
from stages.importers.image_paths import ImageFinder, without_suffix
from stages.importers.sample import SPLIT_WORDS

MAX_LABEL_SHARE = 0.2  # maximum number of distinct values of a class column, as a share of the rows
MIN_GROUPS = 5
MAX_ROWS = 2000  # rows searched for paths
LABELS = frozenset("label labels class classes category diagnosis species grade level tag tags".split())
GROUPS = frozenset(
    "patient subject animal person individual donor mouse specimen scene group series study session video film slide "
    "plate site hospital center centre plot cage station".split()
)
IDS = frozenset("id index nr no number width height size".split())
SEPARATORS = ("|", ";", ",")
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
    if best[0] < required:
        finder = ImageFinder(images)
        for column, named in with_suffix.items():
            best = max(best, (len(finder.find_all(named)[0]), str(column), ""), key=lambda candidate: candidate[0])
    if best[0] >= required:
        return best[1:]
    if any(len(named) >= required for named in with_suffix.values()):
        return None
    # A class 0 or 1 can also be the name of an image.
    many = [name for name in seen if seen[name].nunique() >= required]
    ids = [one for one in _count_paths(seen[many], [*map(without_suffix, images)]) if one[0] >= required]
    best = max(ids, default=best, key=lambda candidate: candidate[0])
    for _, column, _ in ids:
        if not seen[column].equals(seen[best[1]]):
            raise ValueError(
                f"the columns {best[1]} and {column} both contain names of images without a suffix, but different "
                "ones; remove one column, or write the names with the suffix"
            )
    return best[1:] if ids else None


def _count_paths(rows: pd.DataFrame, images: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yield the number of rows that contain a path of an image, by column and base folder."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[PurePosixPath(image).name].append(image)
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
        values by key, and reasons by key of `ingest`, for example `columns.group`.
    """
    filled = {name: bool((rows[name].str.strip() != "").all()) for name in rows}
    is_number = {name: _are_numbers(rows[name], decimal) for name in rows}
    words = {name: set(str(name).lower().replace("-", "_").replace(" ", "_").split("_")) for name in rows}
    roles, reasons = dict(NO_COLUMNS), {}
    for name in rows:
        if set(rows[name].str.strip().str.lower()) <= set(SPLIT_WORDS):
            roles["split"] = name
    groupings = [name for name in rows if words[name] & GROUPS and name != roles["split"] and filled[name]]
    groupings = [name for name in groupings if rows[name].nunique() >= MIN_GROUPS]
    if groupings:  # patients rather than hospitals: the finest grouping that still joins rows
        finest = max(groupings, key=lambda name: (rows[name].nunique() < len(rows), rows[name].nunique()))
        roles["group"] = finest
        others = [
            f"{name} has {rows[name].nunique()} values; choose it if the model must generalize to new ones"
            for name in groupings
        ]
        others = [other for name, other in zip(groupings, others, strict=True) if name != finest]
        reasons["columns.group"] = "; ".join(
            [
                f"{rows[finest].nunique()} values in {len(rows)} rows; images with the same value share a split",
                *others,
                "set it to null if the column has another meaning",
            ]
        )
    free = [name for name in rows if name not in (roles["split"], roles["group"])]
    named = [name for name in free if words[name] & LABELS and rows[name].nunique() > 1]
    roles["points"] = [name[:-2] for name in free if name.endswith("_x") and _is_point(name, is_number)]
    measured = [name for name in free if is_number[name] and filled[name] and not words[name] & IDS]
    texts = [name for name in free if not is_number[name] and filled[name]]
    texts = [name for name in texts if 1 < rows[name].nunique() <= max(2, MAX_LABEL_SHARE * len(rows))]
    if named:
        roles["points"], roles["label"] = [], named[0]
        if separator := _separator(rows[named[0]]):
            roles["separator"] = separator
            reasons["columns.separator"] = "cells contain several words that also occur in other cells"
    elif not roles["points"] and measured:
        roles["scalars"] = measured
    elif not roles["points"] and texts:
        roles["label"] = texts[0]
    used = {roles["label"], *roles["scalars"], *(f"{p}_{axis}" for p in roles["points"] for axis in "xy")}
    if others := [name for name in free if name not in used]:
        reasons["columns"] = f"not used: {', '.join(others)}"
    return roles, reasons


def _are_numbers(cells: pd.Series, decimal: str) -> bool:
    cells = cells.str.replace(decimal, ".", regex=False)
    values = pd.to_numeric(cells.replace("", None), errors="coerce")
    return bool(values.notna().any() and (values.notna() | (cells == "")).all())


def _is_point(name: str, is_number: dict[str, bool]) -> bool:
    return bool(name[:-2]) and is_number[name] and is_number.get(f"{name[:-2]}_y", False)


def _separator(cells: pd.Series) -> str:
    """Return the separator of several classes in a cell; empty if each cell is one class."""
    for sign in SEPARATORS:
        parts = cells.str.split(sign, regex=False)
        vocabulary = {part.strip() for row in parts for part in row}
        if (parts.str.len() > 1).mean() >= 0.05 and len(vocabulary) < cells.nunique():
            return sign
    return ""
