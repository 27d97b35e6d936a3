"""Recognize layouts of tables that are not imported, so that `configure` does not take them for another task."""

import re
from typing import Any

import pandas as pd

from stages.core.plurals import list_names, quantity
from stages.importers.image_paths import ImageFinder
from stages.importers.label_columns import inspect_column
from stages.importers.table_columns import NO_COLUMNS, infer_columns

CORNERS = (
    *({"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2"}),
    *({"x", "y", "w", "h"}, {"x", "y", "width", "height"}, {"left", "top", "width", "height"}),
)
MIN_REPEATED = 0.05  # share of rows about an earlier image from which they are not mistakes
MAX_NAMES = 5
MAX_CELLS = 10  # columns or cells that a message lists
BOX = frozenset(("bbox", "boundingbox"))
RUN_NAMES = frozenset(("encodedpixels", "rle", "runlength", "runlengths"))
RUNS = r"\s*\d+\s+\d+(\s+\d+\s+\d+)*\s*"  # pairs of start and length
STRUCTURED = r"(?s)\s*[\[{].*[\]}]\s*"  # lists and mappings, such as coordinates as JSON
DOC = "docs/guides/your-images.md, Tables of other tools, shows how"


def describe_foreign_table(rows: pd.DataFrame, path: str, decimal: str) -> str:
    """Return which layout a table has that is not imported, and how to convert it; empty if it is one row per image.

    Args:
        rows: cells as text.
        path: column with the paths of images.
        decimal: decimal sign of numbers.
    """
    others = [name for name in rows if name != path]
    plain = {name: str(name).lower().replace("_", "").replace(" ", "") for name in others}
    is_repeated = rows[path].str.strip().duplicated()
    for corners in CORNERS:
        if corners <= {*plain.values()} and (is_repeated.any() or "xmin" in corners):
            columns = ", ".join(name for name in others if plain[name] in corners)
            return (
                f"the table lists one box per row (columns {columns}), which is not imported; write it as COCO: {DOC}"
            )
    if boxes := [name for name in others if plain[name] in BOX]:
        return f"the table lists one box per row (column {boxes[0]}), which is not imported; write it as COCO: {DOC}"
    roles = NO_COLUMNS | infer_columns(rows[others], decimal)[0]
    binary = [name for name in others if rows[name].str.strip().isin(("0", "1", "0.0", "1.0")).all()]
    if len(binary) > 1 and {*roles["scalars"], roles["label"]} <= {*binary, None}:
        more = f" and {len(binary) - MAX_NAMES} more" if len(binary) > MAX_NAMES else ""
        return (
            f"the table has one column per class with 0 or 1 ({', '.join(binary[:MAX_NAMES])}{more}), which is not "
            f"imported; write the classes of each image to one column, separated by |: {DOC}"
        )
    structured = [name for name in others if _all_match(rows[name], STRUCTURED)]
    if structured and (roles["label"] in (None, *structured)) and not (roles["scalars"] or roles["points"]):
        return (
            f"the cells of the column {structured[0]} are lists or mappings, such as "
            f"{_first_given(rows[structured[0]])[:40]}, which are not imported; write objects as COCO: {DOC}"
        )
    return _describe_repeated_images(rows, path, others) if is_repeated.mean() >= MIN_REPEATED else ""


def describe_run_lengths(rows: pd.DataFrame) -> str:
    """Return which column contains run lengths and how to convert them; empty if no column does.

    Args:
        rows: cells as text.
    """
    for name in rows:
        is_named = re.sub(r"[^a-z]", "", str(name).lower()) in RUN_NAMES
        several = rows[name].str.strip().str.count(r"\s+").mean() > 1
        if _all_match(rows[name], RUNS) and (is_named or several):
            return (
                f"the column {name} contains run lengths of masks (such as {_first_given(rows[name])[:30]}), often in "
                f"several rows per image, which are not imported; write one mask per image: {DOC}"
            )
    return ""


def _all_match(cells: pd.Series, pattern: str) -> bool:
    """Return whether all cells that are not empty match a pattern, and any is given."""
    given = cells[cells.str.strip() != ""]
    return bool(len(given)) and bool(given.str.fullmatch(pattern).all())


def _first_given(cells: pd.Series) -> str:
    return str(cells[cells.str.strip() != ""].iloc[0]).strip()


def _describe_repeated_images(rows: pd.DataFrame, path: str, others: list[Any]) -> str:
    """Return in which columns the rows of an image differ, with an example, and how to write one row per image."""
    images = rows[path].str.strip()
    repeated = rows[images.duplicated(keep=False)]
    number = quantity(int(images.duplicated().sum()), "row repeats", "rows repeat")
    example = images[images.duplicated()].iloc[0]
    by_image = repeated.groupby(images[repeated.index])
    differing = [name for name in others if (by_image[name].nunique() > 1).any()]
    what = f"the table has several rows per image ({number} an image of the column {path}, such as {example}"
    if not differing:
        return f"{what}, with the same values); remove these rows"
    columns = list_names(map(str, differing), MAX_NAMES)
    return (
        f"{what}, with other values of {columns}), which is not imported; write one row per image, with all classes of "
        f"an image in one column, separated by |: {DOC}"
    )


def describe_missing_images(rows: pd.DataFrame, images: list[str]) -> str:
    """Return that no column contains the paths of images, and how many rows of the best column do.

    Args:
        rows: cells as text.
        images: paths of the images.
    """
    shown = list_names(map(str, rows.columns), MAX_CELLS)
    first = f", and the first row is {list_names(map(str, rows.iloc[0]), MAX_CELLS)}" if len(rows) else ""
    finder = ImageFinder(images)
    found = {name: finder.find_all(rows[name])[0] for name in rows}
    best = max(found, key=lambda name: len(found[name]), default="")
    absent = [cell for cell in rows[best] if cell not in found[best]] if found else []
    few = ""
    if absent and found[best]:
        named = f"{len(found[best])} of {quantity(len(images), 'image')}"
        few = f"; {best} names {named}, and {absent[0]} is not in the source"
    return f"no column contains paths of the images in at least half of its rows; the columns are {shown}{first}{few}"


def describe_missing_labels(rows: pd.DataFrame, path: str, decimal: str) -> str:
    """Return why no column other than the path can be the label.

    Args:
        rows: cells as text.
        path: column with the paths of images.
        decimal: decimal sign of numbers.
    """
    others = [inspect_column(rows[name], str(name), decimal) for name in rows if name != path]
    unique = [str(one) for one in others if not one.recurs]
    why = f" ({list_names(unique, MAX_CELLS)}: every value occurs once)" if unique else ""
    return (
        f"the column {path} contains paths of images, but no other column contains classes, numbers or points{why}; a "
        "class needs several images"
    )
