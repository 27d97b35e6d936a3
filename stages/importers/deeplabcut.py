"""DeepLabCut's table of points: three header rows, then a row an image."""

import csv
import io
import math
from pathlib import PurePosixPath

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES
from stages.importers.sample import ImportResult, Sample, fixed_annotation, split_from_path

Point = tuple[float, float] | None


def is_deeplabcut(data: bytes) -> bool:
    """Whether a table begins with DeepLabCut's header rows."""
    words = [line.split(b",")[0].strip() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:4]]
    return words[:2] == [b"scorer", b"bodyparts"] or words[:2] == [b"scorer", b"individuals"]


def import_deeplabcut(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """A row an image; blank cells are points that cannot be seen. Coordinates are indices of pixels."""
    try:
        lines = list(csv.reader(io.StringIO(files[name]().decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} cannot be read as a table: {error}") from None
    if len(lines) < 4 or lines[1][0].strip() != "bodyparts" or lines[2][0].strip() != "coords":
        raise UserError(
            f"{name}: the first rows must be scorer, bodyparts and coords, they are "
            f"{', '.join(repr(line[0]) if line else 'empty' for line in lines[:3])}; "
            "tables of several individuals are not read"
        )
    columns = _columns(lines, name)
    leading = min(place for pair in columns.values() for place in pair)  # one cell of path, or three
    items, refused, seen = [], [], set()
    for number, line in enumerate(lines[3:], start=4):
        written = "/".join(part for part in line[:leading] if part.strip())
        path = _found(written, files)
        if path is None or path in seen:
            refused.append(
                Rejection(written, f"{name} line {number}: {'stands there twice' if path else 'there is no such file'}")
            )
            continue
        seen.add(path)
        try:
            points = {point: _point(line, x, y, point) for point, (x, y) in columns.items()}
        except ValueError as error:
            refused.append(Rejection(path, f"{name} line {number}: {error}"))
            continue
        items.append(
            Sample(path, fixed_annotation(Annotation(points=points)), None, split_from_path(path), files[path])
        )
    images = (p for p in files if PurePosixPath(p).suffix.lower() in IMAGE_SUFFIXES)
    return items, refused + [Rejection(p, f"has no row in {name}") for p in images if p not in seen]


def _columns(lines: list[list[str]], name: str) -> dict[str, tuple[int, int]]:
    """Places of x and y of each point."""
    places: dict[str, dict[str, int]] = {}
    for place, (point, axis) in enumerate(zip(lines[1], lines[2], strict=False)):
        if axis.strip() in ("x", "y"):
            if axis.strip() in places.setdefault(point, {}):
                raise UserError(f"{name} line 2: the point {point!r} has two columns {axis.strip()}; rename one")
            places[point][axis.strip()] = place
    half = [point for point, axes in places.items() if len(axes) != 2]
    if half or not places:
        raise UserError(f"{name} lines 2 and 3: {'no points' if not places else f'{half[0]!r} lacks x or y'}")
    return {point: (axes["x"], axes["y"]) for point, axes in places.items()}


def _found(written: str, files: SourceFiles) -> str | None:
    """The file that a path means, whose first folders may be those of another machine."""
    parts = PurePosixPath(written.replace("\\", "/")).parts
    return next((path for i in range(len(parts)) if (path := "/".join(parts[i:])) in files), None)


def _point(line: list[str], x: int, y: int, point: str) -> Point:
    cells = [line[place].strip() if place < len(line) else "" for place in (x, y)]
    if not any(cells) or all(cell.lower() == "nan" for cell in cells):
        return None
    try:
        values = float(cells[0]), float(cells[1])
    except ValueError:
        values = math.nan, math.nan
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"the point {point} is {cells[0]!r}, {cells[1]!r}: not two numbers")
    return values
