"""Import tables (CSV or Parquet) of paths with classes, numbers or points."""

import io
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_data import Columns, Ingest
from stages.core.errors import UserError, did_you_mean
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles
from stages.importers.path_patterns import compile_pattern
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, fixed_annotation

Cells = dict[str, str]


def import_table(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import a table with one row per image; `ingest.images` restricts both the files and the rows to matching paths.

    Args:
        files: files of the source by path.
        name: path of the table.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: the table cannot be read or lacks a column, `ingest.columns` defines nothing to predict, or
            `ingest.images` is not a valid pattern.
    """
    columns, rows = ingest.columns, read_table(files[name](), name)
    _check_columns(columns, rows, name)
    pattern = compile_pattern(ingest.images, "ingest.images") if ingest.images else None
    samples, rejected = [], []
    seen: set[str] = set()
    for number, cells in enumerate(rows.to_dict("records")):
        path = cells[columns.path].replace("\\", "/").removeprefix("./")
        path = f"{columns.folder.strip('/')}/{path}".removeprefix("/")
        if pattern and not pattern.fullmatch(path):
            continue
        try:
            samples.append(_to_sample(path, cells, columns, files, seen))
        except ValueError as error:
            place = f"row {number + 1}" if name.lower().endswith(".parquet") else f"line {number + 2}"
            rejected.append(Rejection(path, f"{name} {place}: {error}"))
        seen.add(path)
    candidates = (n for n in files if (pattern.fullmatch(n) if pattern else n != name))
    return samples, rejected + [Rejection(n, f"is not listed in {name}") for n in candidates if n not in seen]


def _check_columns(columns: Columns, rows: pd.DataFrame, name: str) -> None:
    single = {"path": columns.path, "label": columns.label, "group": columns.group, "split": columns.split}
    single["origin"] = columns.origin
    required = {f"ingest.columns.{role}": column for role, column in single.items() if column is not None}
    required |= {f"ingest.columns.scalars ({column})": column for column in columns.scalars}
    required |= {f"ingest.columns.points ({p})": f"{p}_{axis}" for axis in "xy" for p in columns.points}
    for role, column in required.items():
        if column not in rows.columns:
            raise UserError(f"{name} has no column {column!r} ({role}); {did_you_mean(column, rows.columns)}")
    if columns.label is None and not columns.scalars and not columns.points:
        raise UserError(f"{name}: ingest.columns defines no label, scalars or points; name the columns to predict")


def _to_sample(path: str, cells: Cells, columns: Columns, files: SourceFiles, seen: set[str]) -> Sample:
    if path not in files:
        raise ValueError("the file does not exist")
    if path in seen:
        raise ValueError("the image is listed more than once")
    split = None
    if columns.split is not None:
        split = SPLIT_WORDS.get(cells[columns.split].strip().lower())
        if split is None:
            raise ValueError(f"split {cells[columns.split]!r} is not one of {', '.join(SPLIT_WORDS)}")
    group = cells[columns.group].strip() if columns.group is not None else None
    if group == "":
        raise ValueError(f"the group is empty (column {columns.group})")
    origin = cells[columns.origin].strip() if columns.origin is not None else ""
    annotation = Annotation(
        labels=_labels(cells, columns),
        scalars={name: _number(cells, name) for name in columns.scalars} if columns.scalars else None,
        points={name: _point(cells, name) for name in columns.points} if columns.points else None,
    )
    return Sample(path, fixed_annotation(annotation), group, split, files[path], origin=origin)


def _labels(cells: Cells, columns: Columns) -> tuple[str, ...] | None:
    if columns.label is None:
        return None
    cell = cells[columns.label].strip()
    if columns.separator:
        return tuple(sorted({part.strip() for part in cell.split(columns.separator)} - {""}))
    if not cell:
        raise ValueError(f"the label is empty (column {columns.label})")
    return (cell,)


def _number(cells: Cells, column: str) -> float:
    try:
        value = float(cells[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} is {cells[column]!r}, which is not a finite number")
    return value


def _point(cells: Cells, name: str) -> tuple[float, float] | None:
    x, y = f"{name}_x", f"{name}_y"
    if not cells[x].strip() and not cells[y].strip():
        return None
    return _number(cells, x), _number(cells, y)


def read_table(data: bytes, name: str) -> pd.DataFrame:
    """Read a table with every cell as text: pandas would parse the class `NA` as missing and `007` as 7.

    Raises:
        UserError: the file cannot be parsed.
    """
    try:
        if name.lower().endswith(".parquet"):
            return pd.read_parquet(io.BytesIO(data)).map(cell_text)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # more cells than columns: the label would be ambiguous
            return pd.read_csv(
                io.BytesIO(data),
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                skipinitialspace=True,
                index_col=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        several = isinstance(error, pd.errors.ParserWarning)
        reason = "a row has more cells than the header" if several else str(error).strip().rstrip(".")
        raise UserError(
            f"{name} cannot be read as a table: {reason}; save it as CSV in UTF-8, or as Parquet"
        ) from error


def cell_text(value: Any) -> str:
    """Return a cell as text, '' if it is missing.

    Integral floats lose `.0`, since pandas stores integer columns with gaps as float.
    """
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and value == int(value) else str(value)
