"""What the columns of a table are likely to be: the path, class, numbers, points, group, split."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from stages.importers.sample import SPLIT_WORDS

FEW_LABELS = 0.2  # distinct texts of a column of classes, as a share of the rows
FEWEST_GROUPS = 5
SEEN = 2000  # rows in which paths are looked for
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
    """The column that names images in most rows, and the folder in which its paths begin."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[PurePosixPath(image).name].append(image)
    seen = rows.head(SEEN)
    best: tuple[int, str, str] = (0, "", "")
    for column in rows.columns:
        folders: Counter[str] = Counter()
        for cell in seen[column]:
            written = cell.replace("\\", "/").removeprefix("./")
            ends = (i for i in by_name.get(PurePosixPath(written).name, ()) if f"/{i}".endswith(f"/{written}"))
            folders.update({image.removesuffix(written).rstrip("/") for image in ends})
        for folder, count in folders.items():
            best = max(best, (count, str(column), folder), key=lambda found: found[0])
    return best[1:] if best[0] and best[0] >= len(seen) / 2 else None


def infer_columns(rows: pd.DataFrame) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys of `ingest.columns` for what stands beside the paths, and reasons."""
    filled = {name: bool((rows[name].str.strip() != "").all()) for name in rows}
    is_number = {name: _are_numbers(rows[name]) for name in rows}
    words = {name: set(str(name).lower().replace("-", "_").replace(" ", "_").split("_")) for name in rows}
    found, reasons = dict(NO_COLUMNS), {}
    for name in rows:
        if set(rows[name].str.strip().str.lower()) <= set(SPLIT_WORDS):
            found["split"] = name
    telling = [name for name in rows if words[name] & GROUPS and name != found["split"] and filled[name]]
    telling = [name for name in telling if rows[name].nunique() >= FEWEST_GROUPS]
    if telling:  # of patients in hospitals the patients: the finest that puts rows together
        finest = max(telling, key=lambda name: (rows[name].nunique() < len(rows), rows[name].nunique()))
        found["group"] = finest
        others = [f"{name} has {rows[name].nunique()}, for a model that is to serve new ones" for name in telling]
        others = [other for name, other in zip(telling, others, strict=True) if name != finest]
        reasons["columns.group"] = "; ".join(
            [
                f"{rows[finest].nunique()} values in {len(rows)} rows, so that none is in two splits",
                *others,
                "null if it means something else",
            ]
        )
    free = [name for name in rows if name not in (found["split"], found["group"])]
    named = [name for name in free if words[name] & LABELS and rows[name].nunique() > 1]
    found["points"] = [name[:-2] for name in free if name.endswith("_x") and _is_point(name, is_number)]
    measured = [name for name in free if is_number[name] and filled[name] and not words[name] & IDS]
    texts = [name for name in free if not is_number[name] and filled[name]]
    texts = [name for name in texts if 1 < rows[name].nunique() <= max(2, FEW_LABELS * len(rows))]
    if named:
        found["points"], found["label"] = [], named[0]
        if separator := _separator(rows[named[0]]):
            found["separator"] = separator
            reasons["columns.separator"] = "cells hold several words, which recur in others"
    elif not found["points"] and measured:
        found["scalars"] = measured
    elif not found["points"] and texts:
        found["label"] = texts[0]
    used = {found["label"], *found["scalars"], *(f"{p}_{axis}" for p in found["points"] for axis in "xy")}
    if others := [name for name in free if name not in used]:
        reasons["columns"] = f"not used: {', '.join(others)}"
    return found, reasons


def _are_numbers(cells: pd.Series) -> bool:
    values = pd.to_numeric(cells.replace("", None), errors="coerce")
    return bool(values.notna().any() and (values.notna() | (cells == "")).all())


def _is_point(name: str, is_number: dict[str, bool]) -> bool:
    return bool(name[:-2]) and is_number[name] and is_number.get(f"{name[:-2]}_y", False)


def _separator(cells: pd.Series) -> str:
    """What parts several classes in a cell; empty where nothing does."""
    for sign in SEPARATORS:
        parts = cells.str.split(sign, regex=False)
        vocabulary = {part.strip() for row in parts for part in row}
        if (parts.str.len() > 1).mean() >= 0.05 and len(vocabulary) < cells.nunique():
            return sign
    return ""
