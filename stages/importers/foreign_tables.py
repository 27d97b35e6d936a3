"""Recognize layouts of tables that are not imported, so that `configure` does not take them for another task."""

import pandas as pd

from stages.core.plurals import quantity
from stages.importers.table_columns import NO_COLUMNS, infer_columns

CORNERS = ({"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2"})
BOX = frozenset(("bbox", "boundingbox"))
MIN_REPEATED = 0.05  # share of rows about an earlier image from which they are not mistakes
MAX_NAMES = 5
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
    roles: dict[str, object] = NO_COLUMNS | infer_columns(rows[others], decimal)[0]
    binary = [name for name in roles["scalars"] if rows[name].str.strip().isin(("0", "1")).all()]  # type: ignore[attr-defined]
    if len(binary) > 1 and binary == roles["scalars"]:
        more = f" and {len(binary) - MAX_NAMES} more" if len(binary) > MAX_NAMES else ""
        return (
            f"the table has one column per class with 0 or 1 ({', '.join(binary[:MAX_NAMES])}{more}), which is not "
            f"imported; write the classes of each image to one column, separated by |: {DOC}"
        )
    label = roles["label"]
    if label is None or is_repeated.mean() < MIN_REPEATED:
        return ""
    repeated = rows[rows[path].isin(rows[path][is_repeated])]
    if (repeated.groupby(path)[label].nunique() > 1).any():
        number = quantity(int(is_repeated.sum()), "row repeats", "rows repeat")
        return (
            f"the table has several rows per image ({number} an image of the column {path}, with other values of "
            f"{label}), which is not imported; write the classes of each image to one column, separated by |: {DOC}"
        )
    return ""
