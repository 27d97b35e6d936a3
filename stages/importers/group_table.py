"""Groups of images from a table: beside the images, such as the patients in `metadata.csv`, or in the project.

Tables of the project are in data/splits, on which the stage `ingest` depends, so that it runs again when one changes.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from stages.config.schema_data import Ingest
from stages.core.errors import UserError, did_you_mean
from stages.core.plurals import list_names, quantity
from stages.images.archives import SourceFiles
from stages.importers.image_paths import ImageFinder
from stages.importers.sample import Sample, read_label_file
from stages.importers.table import read_table

MAX_LISTED = 3
FOLDER = "data/splits"
"""Folder of the tables of the project."""
PATH, GROUP = "path", "group"
"""Columns of a table of the project."""


def name_group_table(name: str) -> str:
    """Return the path of the table of groups that `configure` proposes for a data set."""
    return f"{FOLDER}/{name}.groups.csv"


def is_project_table(name: str) -> bool:
    """Return whether `ingest.group_table` names a table in `FOLDER`, and not in the source."""
    return PurePosixPath(name).parent == PurePosixPath(FOLDER)


def with_groups_of_table(files: SourceFiles, samples: Sequence[Sample], ingest: Ingest) -> list[Sample]:
    """Return the samples with the groups of `ingest.group_table`; unchanged if it is empty.

    Args:
        files: files of the source by path.
        samples: images, whose paths are relative to `ingest.inside`.
        ingest: params of the source.

    Raises:
        Unreadable: the table cannot be read.
        UserError: the table or a column of it is missing, or an image has no group in a table of the source.
    """
    name, columns = ingest.group_table, ingest.columns
    if not name:
        return list(samples)
    if name not in files and is_project_table(name):
        return _with_groups_of_project(samples, name)
    if name not in files:
        hint = did_you_mean(name, sorted(files))
        raise UserError(
            f"ingest.group_table: {name} is not in the source; {hint} Tables of the project are in {FOLDER}"
        )
    rows = read_table(read_label_file(files, name), name).rows
    for key, column in (("path", columns.path), ("group", columns.group)):
        if column not in rows.columns:
            hint = did_you_mean(str(column), list(rows.columns))
            raise UserError(f"{name} has no column {column!r} (ingest.columns.{key}); {hint}")
    group_of = _find_groups(samples, zip(rows[columns.path], rows[columns.group].str.strip(), strict=True))
    if missing := [sample.path for sample in samples if sample.path not in group_of]:
        images = quantity(len(missing), "image has", "images have")
        raise UserError(
            f"ingest.group_table: {images} no group in {name} ({list_names(missing, MAX_LISTED)}); add a row for each, "
            "with its group, or leave the images out by ingest.files"
        )
    return [replace(sample, group=group_of[sample.path]) for sample in samples]


def _with_groups_of_project(samples: Sequence[Sample], name: str) -> list[Sample]:
    """Return the samples with the groups of a table in `FOLDER`; images without a row keep theirs, and are counted."""
    group_of = _find_groups(samples, read_group_table(Path(name)).items())
    if missing := [sample.path for sample in samples if sample.path not in group_of]:
        images = quantity(len(missing), "image has no row", "images have no row")
        print(
            f"ingest: {images} in {name} ({list_names(missing, MAX_LISTED)}); the split does not keep them together "
            "with those in it; `macula configure` adds similar images to the table",
            flush=True,
        )
    return [replace(sample, group=group_of.get(sample.path, sample.group)) for sample in samples]


def _find_groups(samples: Sequence[Sample], rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the group by path of the images that rows of path and group name; rows without a group are left out."""
    written = dict(row for row in rows if row[1])
    found, _ = ImageFinder(sample.path for sample in samples).find_all(written)
    return {found[path]: group for path, group in written.items() if path in found}


def read_group_table(file: Path) -> dict[str, str]:
    """Return the group by path of a table of the project.

    Raises:
        UserError: the table does not exist or cannot be read, lacks a column, or names two groups for a path.
    """
    try:
        rows = read_table(file.read_bytes(), str(file)).rows
    except FileNotFoundError:
        raise UserError(
            f"ingest.group_table: {file} does not exist; `macula configure` writes such a table and states the command "
            "that moves it there"
        ) from None
    except OSError as error:
        raise UserError(f"ingest.group_table: {file} cannot be read: {error.strerror or error}") from None
    if missing := [column for column in (PATH, GROUP) if column not in rows.columns]:
        raise UserError(
            f"ingest.group_table: {file} has no column {missing[0]}; its columns must be {PATH} and {GROUP}"
        )
    groups: dict[str, str] = {}
    for path, group in zip(rows[PATH], rows[GROUP].str.strip(), strict=True):
        if groups.setdefault(path, group) != group:
            raise UserError(
                f"ingest.group_table: {file} names the groups {groups[path]} and {group} for {path}; keep one"
            )
    return groups


def format_group_table(groups: Mapping[str, str]) -> str:
    """Return the text of a table of the project, one row per image, sorted by group and path.

    >>> format_group_table({"b.png": "a.png", "a.png": "a.png"}).split()
    ['path,group', 'a.png,a.png', 'b.png,a.png']
    """
    rows = sorted((group, path) for path, group in groups.items())
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([(PATH, GROUP), *((path, group) for group, path in rows)])
    return text.getvalue()
