"""Import tables (CSV or Parquet) of paths with classes, numbers or points."""

import io
import math
import re
import warnings
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.config.schema_data import Columns, Ingest
from stages.core.errors import UserError, did_you_mean
from stages.core.path_parts import folders_of
from stages.dataset.annotations import Annotation
from stages.images.archives import TABLE_SUFFIXES, Rejection, SourceFiles
from stages.images.decode import is_image_path
from stages.importers.csv_text import decimal_sign, decode_csv, find_separator, parse_number
from stages.importers.image_paths import ImageFinder
from stages.importers.path_patterns import compile_pattern
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, fixed_annotation, read_label_file
from stages.importers.several_tables import import_tables

Cells = dict[str, str]


class Table(NamedTuple):
    """Rows of a table, each cell as text."""

    rows: pd.DataFrame
    """Rows with their original numbers, from 0, as index."""
    decimal: str
    """Decimal sign of numbers."""


def import_table(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import a table with one row per image; `ingest.images` restricts both the files and the rows to matching paths.

    A row whose path is a folder applies to all images below it, whose group is the folder unless a
    column names another.
    Images that the table does not list are not used, so that a table may select a part of the images.

    Args:
        files: files of the source by path.
        name: path of the table; empty: all tables, each of which refers to the images of its folder.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        Unreadable: the file cannot be read.
        UserError: the table cannot be parsed or lacks a column, `ingest.columns` defines nothing to predict, or
            `ingest.images` is not a valid pattern.
    """
    if name:
        return _import_one(files, name, ingest)
    tables = [path for path in files if path.lower().endswith(TABLE_SUFFIXES)]
    return import_tables(files, tables, partial(_import_one, ingest=ingest))


def _import_one(files: SourceFiles, name: str, ingest: Ingest) -> ImportResult:
    """Import one table."""
    columns, table = ingest.columns, read_table(read_label_file(files, name), name)
    _check_columns(columns, table, name)
    table, folder_of = _expand_folders(table, columns, files)
    pattern = compile_pattern(ingest.images, "ingest.images") if ingest.images else None
    samples, rejected = [], []
    seen: set[str] = set()
    written = [_join(columns.folder, cell) for cell in table.rows[columns.path]]
    found, failed = ImageFinder(files).find_all(written)
    for number, cells, wanted in zip(table.rows.index, table.rows.to_dict("records"), written, strict=True):
        path = found.get(wanted, wanted)
        if pattern and not pattern.fullmatch(path):
            continue
        try:
            if wanted in failed:
                raise ValueError(failed[wanted])
            sample = _to_sample(path, cells, columns, table.decimal, files, seen)
            samples.append(replace(sample, group=sample.group or folder_of.get(path)))
        except ValueError as error:
            place = f"row {number + 1}" if name.lower().endswith(".parquet") else f"line {number + 2}"
            rejected.append(Rejection(path, f"{name} {place}: {error}"))
        seen.add(path)
    candidates = (n for n in files if (pattern.fullmatch(n) if pattern else n != name))
    return samples, rejected + [
        Rejection(n, f"is not listed in {name}", is_unused=True) for n in candidates if n not in seen
    ]


def _expand_folders(table: Table, columns: Columns, files: SourceFiles) -> tuple[Table, dict[str, str]]:
    """Replace each row whose path is a folder by one row per image below it.

    Returns:
        the table, and the folder by path of these images.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for path in files:
        if is_image_path(path):
            folders = folders_of(path)
            for depth in range(1, len(folders) + 1):
                below["/".join(folders[:depth])].append(path)
    start = f"{columns.folder.strip('/')}/".removeprefix("/")
    paths, folder_of = list[list[str]](), dict[str, str]()
    for cell in table.rows[columns.path]:
        folder = _join(columns.folder, cell).rstrip("/")
        images = below.get(folder, []) if cell.strip("./") else []
        folder_of |= dict.fromkeys(images, folder)
        paths.append([image.removeprefix(start) for image in images] or [cell])
    if not folder_of:
        return table, {}
    return table._replace(rows=table.rows.assign(**{columns.path: paths}).explode(columns.path)), folder_of


def _join(folder: str, cell: str) -> str:
    """Return the path of a cell below a folder; an absolute path stays as it is."""
    path = cell.replace("\\", "/").removeprefix("./")
    is_absolute = re.match(r"/|[A-Za-z]:/|file:", path)
    return path if is_absolute else f"{folder.strip('/')}/{path}".removeprefix("/")


def _check_columns(columns: Columns, table: Table, name: str) -> None:
    rows = table.rows
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
    for column in (*columns.scalars, *(f"{p}_{axis}" for p in columns.points for axis in "xy")):
        with_comma, with_point = (rows[column][rows[column].str.contains(sign, regex=False)] for sign in (",", "."))
        if table.decimal == "," and len(with_comma) and len(with_point):
            raise UserError(
                f"{name}: the column {column} contains {with_comma.iloc[0]!r} with a comma and {with_point.iloc[0]!r} "
                "with a point, which is ambiguous; write all numbers with the same decimal sign"
            )


def _to_sample(path: str, cells: Cells, columns: Columns, decimal: str, files: SourceFiles, seen: set[str]) -> Sample:
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
        scalars={name: _number(cells, name, decimal) for name in columns.scalars} if columns.scalars else None,
        points={name: _point(cells, name, decimal) for name in columns.points} if columns.points else None,
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


def _number(cells: Cells, column: str, decimal: str) -> float:
    try:
        value = parse_number(cells[column], decimal)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} is {cells[column]!r}, which is not a finite number")
    return value


def _point(cells: Cells, name: str, decimal: str) -> tuple[float, float] | None:
    x, y = f"{name}_x", f"{name}_y"
    if not cells[x].strip() and not cells[y].strip():
        return None
    return _number(cells, x, decimal), _number(cells, y, decimal)


def read_table(data: bytes, name: str) -> Table:
    """Read a table with every cell as text: pandas would parse the class `NA` as missing and `007` as 7.

    Rows without any text, which spreadsheets append, are left out.

    Raises:
        UserError: the file cannot be parsed.
    """
    try:
        rows, decimal = _parse_parquet(data) if name.lower().endswith(".parquet") else _parse_csv(data)
    except Exception as error:  # pyarrow raises many types on damaged files
        several = isinstance(error, pd.errors.ParserWarning)
        reason = "a row has more cells than the header" if several else str(error).strip().rstrip(".")
        raise UserError(
            f"{name} cannot be read as a table: {reason}; save it as CSV in UTF-8, or as Parquet"
        ) from error
    is_blank = rows.apply(lambda cells: cells.str.strip() == "").all(axis=1)
    return Table(rows[~is_blank], decimal)


def _parse_csv(data: bytes) -> tuple[pd.DataFrame, str]:
    text = decode_csv(data)
    separator = find_separator(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than columns: the label would be ambiguous
        rows = pd.read_csv(
            io.StringIO(text, newline=""),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            index_col=False,
        )
    return rows, decimal_sign(separator)


def _parse_parquet(data: bytes) -> tuple[pd.DataFrame, str]:
    rows = pd.read_parquet(io.BytesIO(data))
    rows = rows.reset_index(drop=not any(rows.index.names))
    rows.columns = rows.columns.map(str)
    if doubled := rows.columns[rows.columns.duplicated()].tolist():
        raise ValueError(f"it has several columns {doubled[0]}")
    return rows.map(cell_text), "."


def cell_text(value: Any) -> str:
    """Return a cell as text, '' if it is missing.

    Integral floats lose `.0`, since pandas stores integer columns with gaps as float.

    Raises:
        ValueError: the cell contains several values, or bytes that are not UTF-8.
    """
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | tuple | set | dict | np.ndarray):
        raise ValueError(f"a cell contains several values ({str(value)[:60]}); join them to one text")  # noqa: TRY004
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and value % 1 == 0 else str(value)
