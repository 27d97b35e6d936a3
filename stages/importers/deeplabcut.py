"""Import DeepLabCut tables of points: three header rows, then one row per image."""

import csv
import io
import math
import re

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import is_image_path
from stages.importers.csv_text import decimal_sign, decode_csv, find_separator, parse_number
from stages.importers.image_paths import ImageFinder
from stages.importers.sample import ImportResult, Sample, fixed_annotation, read_label_file, split_from_path
from stages.importers.several_tables import import_tables


def is_deeplabcut(data: bytes) -> bool:
    """Return whether a table begins with the header rows of DeepLabCut."""
    words = [re.split(rb"[,;\t]", line)[0].strip() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:4]]
    return words[:2] == [b"scorer", b"bodyparts"] or words[:2] == [b"scorer", b"individuals"]


def import_deeplabcut(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import one row per image; blank or NaN cells are points that are not visible. Coordinates are pixel indices.

    Args:
        files: files of the source by path.
        name: path of the table; empty: all tables of DeepLabCut, each of which refers to the images of its folder.
        ingest: parameters of `ingest`; not used.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        Unreadable: the file cannot be read.
        UserError: the table is not CSV in UTF-8, describes several individuals, has wrong header rows, or has no row of
            an image.
    """
    if name:
        return _import_one(files, name)
    tables = [path for path in files if path.lower().endswith(".csv") and is_deeplabcut(read_label_file(files, path))]
    return import_tables(files, tables, _import_one)


def _import_one(files: SourceFiles, name: str) -> ImportResult:
    """Import one table."""
    try:
        text = decode_csv(read_label_file(files, name))
        separator = find_separator(text)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} cannot be read as a table: {error}; save it as CSV in UTF-8") from None
    header = [line[0].strip() if line else "" for line in lines[:3]]
    if header[1:] != ["bodyparts", "coords"]:
        found = (
            f"they begin with {', '.join(word or 'an empty cell' for word in header)}"
            if header
            else "the file is empty"
        )
        several = "; tables of several individuals are not supported" if "individuals" in header else ""
        raise UserError(
            f"{name}: the first three rows must begin with scorer, bodyparts and coords, but {found}{several}"
        )
    if len(lines) == len(header):
        raise UserError(f"{name} has header rows but no row of an image; add one row per image")
    columns = _columns(lines, name)
    leading = min(place for pair in columns.values() for place in pair)  # one cell of path, or three
    rows = [
        (f"{name} line {number}", "/".join(part for part in line[:leading] if part.strip()), line)
        for number, line in enumerate(lines[3:], start=4)
        if any(cell.strip() for cell in line)  # spreadsheets append blank rows
    ]
    paths, failed = ImageFinder(files).find_all(written for _, written, _ in rows)
    samples: list[Sample] = []
    rejected: list[Rejection] = []
    seen: set[str] = set()
    for where, written, line in rows:
        path = paths.get(written)
        if path is None or path in seen:
            reason = failed[written] if path is None else "the image is listed twice"
            rejected.append(Rejection(written, f"{where}: {reason}"))
            continue
        seen.add(path)
        try:
            points = {point: _point(line, x, y, point, decimal_sign(separator)) for point, (x, y) in columns.items()}
        except ValueError as error:
            rejected.append(Rejection(path, f"{where}: {error}"))
            continue
        samples.append(
            Sample(path, fixed_annotation(Annotation(points=points)), None, split_from_path(path), files[path])
        )
    images = (p for p in files if is_image_path(p))
    return samples, rejected + [Rejection(p, f"has no row in {name}", is_unused=True) for p in images if p not in seen]


def _columns(lines: list[list[str]], name: str) -> dict[str, tuple[int, int]]:
    """Return the indices of the x and y columns of each point, by its name."""
    places: dict[str, dict[str, int]] = {}
    for place, (point, axis) in enumerate(zip(lines[1], lines[2], strict=False)):
        if axis.strip() in ("x", "y"):
            if axis.strip() in places.setdefault(point, {}):
                raise UserError(f"{name} line 2: the point {point!r} has two {axis.strip()} columns; rename one")
            places[point][axis.strip()] = place
    half = [point for point, axes in places.items() if len(axes) != 2]
    if not places:
        raise UserError(
            f"{name}: line 3 has no columns x and y; write x or y for each coordinate column there, and the name of "
            "its point in line 2"
        )
    if half:
        lacking = "y" if "x" in places[half[0]] else "x"
        raise UserError(f"{name} lines 2 and 3: the point {half[0]!r} has no {lacking} column")
    return {point: (axes["x"], axes["y"]) for point, axes in places.items()}


def _point(line: list[str], x: int, y: int, point: str, decimal: str) -> tuple[float, float] | None:
    """Return a point of a row; None if its cells are blank or NaN.

    Args:
        line: cells of the row.
        x: column of x.
        y: column of y.
        point: name of the point, for the error message.
        decimal: decimal sign of the numbers.

    Raises:
        ValueError: the cells are not two finite numbers.
    """
    cells = [line[place].strip() if place < len(line) else "" for place in (x, y)]
    if not any(cells) or all(cell.lower() == "nan" for cell in cells):
        return None
    try:
        values = parse_number(cells[0], decimal), parse_number(cells[1], decimal)
    except ValueError:
        values = math.nan, math.nan
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"the point {point} is {cells[0]!r}, {cells[1]!r}, which are not two finite numbers")
    return values
