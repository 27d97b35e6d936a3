"""Record of openings of the sealed test split, `data/openings.csv`: one row per opening, also of interrupted ones.

A row is written before any score is computed, and completed with the score afterwards.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stages.core.errors import UserError

COLUMNS = (
    *("opened_at", "commit", "data", "version", "model", "images", "score", "value", "low", "high"),
    "reason",
)
"""`model`: first 12 digits of the SHA-256 of the file; `value`, `low`, `high`: empty until the score is computed;
`reason`: why the test was opened a second time for the same model."""
ADDED = ("reason",)
"""Columns that older files lack."""
CLAIM = "MACULA_OPENING"
"""Environment variable with `opened_at` of a row that was written before `stages.unseal` started."""
REASON = "MACULA_UNSEAL_REASON"
"""Environment variable with the reason of a second opening."""

Row = dict[str, str]


def parse_openings(text: str, name: str) -> list[Row]:
    """Return the rows of a record, oldest first.

    Args:
        text: content of the file.
        name: name of the file in messages.

    Raises:
        UserError: columns are missing.
    """
    reader = csv.DictReader(io.StringIO(text))
    rows, columns = list(reader), list(reader.fieldnames or [])
    if missing := [column for column in COLUMNS if column not in (*columns, *ADDED)]:
        raise UserError(f"{name} lacks columns: {', '.join(missing)}; restore it with git")
    return [{column: row.get(column) or "" for column in COLUMNS} for row in rows]


def read_openings(file: Path) -> list[Row]:
    """Return the rows of a record file, oldest first; raise UserError if columns are missing."""
    return parse_openings(file.read_text(encoding="utf-8"), str(file))


def write_openings(file: Path, rows: Iterable[Row]) -> None:
    """Replace a record file by these rows; the file is complete at every moment, also after a power failure."""
    part = file.with_name(f"{file.name}.part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(file)


def merge_openings(records: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the union of records of several branches, oldest first; of one opening, the completed row is kept."""
    merged: dict[tuple[str, ...], Row] = {}
    for row in (row for rows in records for row in rows):
        key = tuple(row[column] for column in ("opened_at", "data", "version", "model", "commit"))
        if key not in merged or not merged[key]["value"]:
            merged[key] = row
    return sorted(merged.values(), key=lambda row: row["opened_at"])


def time_of_opening(earlier: Iterable[Row]) -> str:
    """Return the time of an opening that begins now, ISO 8601 in UTC.

    It is later than that of each earlier opening, also if the clock was set back, because the rows are in the order of
    their times.

    Args:
        earlier: rows of a record.
    """
    now, last = (
        datetime.now(UTC).isoformat(timespec="microseconds"),
        max((row["opened_at"] for row in earlier), default=""),
    )
    if now > last:
        return now
    return (datetime.fromisoformat(last) + timedelta(microseconds=1)).isoformat(timespec="microseconds")


def openings_of(rows: Iterable[Row], data: str, version: str, model: str) -> list[Row]:
    """Return the openings of one test split for one model.

    Args:
        rows: rows of a record.
        data: name of the data set.
        version: version of the data.
        model: first 12 digits of the SHA-256 of the model file.
    """
    wanted = {"data": data, "version": version, "model": model}
    return [row for row in rows if wanted.items() <= row.items()]


def refuse_second_opening(earlier: Sequence[Row], reason: str) -> None:
    """Raise UserError if a model was scored on the same test split before and no reason is given."""
    scored = [row for row in earlier if row["value"]]
    if scored and not reason:
        last = scored[-1]
        raise UserError(
            f"the sealed test set was opened for this model at {last['opened_at']}: {last['score']} {last['value']}; "
            "a second opening makes it less independent: give a reason for it (--reason), which is recorded"
        )
