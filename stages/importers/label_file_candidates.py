"""Candidates in which files list the labels of many images, or folders contain annotation files."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core.path_parts import IMAGE_SUFFIXES, name_of, parent_of
from stages.core.plurals import list_names, quantity
from stages.images.archives import TABLE_SUFFIXES, SourceFiles
from stages.images.decode import Unreadable, is_image_path
from stages.importers import SEVERAL_FILES, select_inside
from stages.importers.coco import FEWEST_GROUPS, are_classes_of_images, marks_most_as_crowd
from stages.importers.coco_groups import propose_group_key
from stages.importers.csv_text import decode_csv
from stages.importers.deeplabcut import is_deeplabcut
from stages.importers.foreign_tables import (
    describe_foreign_table,
    describe_missing_images,
    describe_missing_labels,
    describe_run_lengths,
)
from stages.importers.format_candidate import MAX_LISTED, FormatCandidate
from stages.importers.image_paths import ImageFinder
from stages.importers.label_files_of_splits import group_by_split
from stages.importers.sample import read_label_file
from stages.importers.table import read_table
from stages.importers.table_columns import find_folder_column, find_path_column, infer_columns
from stages.importers.voc import find_pairs
from stages.importers.yolo import find_label_files

MOST_CROWDS = (
    "the file marks most objects as iscrowd, as some tools do for every mask; check that they are single objects"
)


def candidates_of_file(files: SourceFiles, path: str) -> Iterator[FormatCandidate]:
    """Yield the candidates of a table, a JSON file or an npz."""
    lower = path.lower()
    if lower.endswith(".npz"):
        yield FormatCandidate("arrays", path, "the file contains arrays of images and labels")
    elif lower.endswith(".json"):
        content = json.loads(read_label_file(files, path))
        if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations")):
            changes, reasons = (
                ({"crowd": "objects"}, {"crowd": MOST_CROWDS}) if marks_most_as_crowd(content) else ({}, {})
            )
            key, why = propose_group_key(content)
            if key:
                changes, reasons = {**changes, "coco_group": key}, {**reasons, "coco_group": why}
            what = "the file lists images, annotations and categories"
            if are_classes_of_images(content):
                what = f"{what}; no annotation has a box or an outline: these are classes of whole images"
                if not key and (found := propose_group_key(content, FEWEST_GROUPS)[0]):
                    what = f"{what}; images with the same {found} form a group"
            yield FormatCandidate("coco", path, what, changes, reasons)
    elif lower.endswith(".csv") and is_deeplabcut(read_label_file(files, path)):
        yield FormatCandidate("deeplabcut", path, "the file begins with the header rows of DeepLabCut")
    elif lower.endswith(TABLE_SUFFIXES):
        yield from _from_table(files, path)


def _from_table(files: SourceFiles, path: str) -> Iterator[FormatCandidate]:
    rows, decimal = read_table(read_label_file(files, path), path)
    part, _ = select_inside(files, path, Path())
    images = [name for name in part if is_image_path(name)]
    if runs := describe_run_lengths(rows):
        raise ValueError(runs)
    if headers := [str(name) for name in rows if PurePosixPath(str(name)).suffix.lower() in IMAGE_SUFFIXES]:
        raise ValueError(
            f"the first row contains the path of an image ({headers[0]}) instead of names of columns; add a first row "
            "such as path,label"
        )
    place, folders = find_path_column(rows, images), find_folder_column(rows, images)
    if place is None and folders is None:
        raise ValueError(describe_missing_images(rows, images))
    column, folder = place or folders  # type: ignore[misc]  # one of them is given
    if layout := describe_foreign_table(rows, column, decimal):
        raise ValueError(layout)
    columns, reasons = infer_columns(rows.drop(columns=column), decimal)
    if not (columns["label"] or columns["scalars"] or columns["points"]):
        raise ValueError(describe_missing_labels(rows, column, decimal))
    changes: dict[str, Any] = {"columns": columns | {"path": column, "folder": folder}}
    written = [f"{folder}/{cell}".removeprefix("/") for cell in rows[column]]
    if place is None:
        label = columns["label"]
        if label is not None and rows[label].nunique() > len(rows) / 2:
            raise ValueError(f"the column {column} contains folders of images, but nearly each has its own {label}")
        why = f"the column {column} contains folders of images, each of which is a group"
        folders_asked = (
            f"ingest.inside: each row of {path} is about a folder, such as {rows[column].iloc[0]}: if the folders are "
            "the classes themselves, choose --format folders"
        )
        yield FormatCandidate("table", path, why, changes, reasons, asks=(folders_asked,))
        return
    found, _ = ImageFinder(part).find_all(written)
    paths = [found.get(cell, cell) for cell in written]
    listed = {*paths, path, name_of(path)}
    if others := [name for name in part if name not in listed]:
        shared = os.path.commonpath([str(PurePosixPath(p).parent) for p in paths]) if paths else ""
        ending = {PurePosixPath(p).suffix for p in paths}
        changes["images"] = f"{shared}/**".removeprefix("./").removeprefix("/") + (
            ending.pop() if len(ending) == 1 else ""
        )
        unlisted = f"{quantity(len(others), 'other file')} {'is' if len(others) == 1 else 'are'} not listed"
        reasons["images"] = f"the table lists these; {unlisted}, for example {others[0]}"
    yield FormatCandidate("table", path, f"the column {column} contains paths of images", changes, reasons)


def coco_candidates_of_splits(single: list[FormatCandidate]) -> Iterator[FormatCandidate]:
    """Yield a candidate that reads COCO files as one if their names differ only in the split.

    Args:
        single: candidates of one COCO file each.
    """
    for pattern, paths in group_by_split([one.inside for one in single]).items():
        named = [one for one in single if one.inside in paths]
        marked = next((one for one in named if one.changes), named[0])
        why = f"{len(paths)} files list images, annotations and categories, one file per split"
        reasons = {"targets": f"matches {list_names(paths, MAX_LISTED)}"} | marked.reasons
        yield FormatCandidate("coco", "", why, {"targets": pattern} | marked.changes, reasons)


def candidates_of_several_tables(
    files: SourceFiles, tables: list[FormatCandidate], count: int
) -> Iterator[FormatCandidate]:
    """Yield a candidate that reads tables of several folders as one, if all have the same layout.

    Args:
        files: files of the source by path.
        tables: candidates of one file each, of which the tables are used.
        count: number of all tables in the source.
    """
    for format_ in SEVERAL_FILES:
        same = [one for one in tables if one.format == format_]
        folders = {one.inside.rpartition("/")[0] for one in same}
        columns = same[0].changes.get("columns") if same else None
        if len(folders) < 2 or any(one.changes.get("columns") != columns for one in same):
            continue
        if format_ == "deeplabcut" and len({_names_of_points(files, one.inside) for one in same}) > 1:
            continue  # tables of different animals
        if format_ == "table" and len(same) < count:
            continue  # the importer reads all tables below the folder
        inside = "" if "" in folders else os.path.commonpath(folders)
        why = f"{len(same)} tables, each about the images of its folder, which is their group"
        changes = {} if columns is None else {"columns": columns}
        yield FormatCandidate(format_, inside, why, changes, same[0].reasons if columns else {})


def _names_of_points(files: SourceFiles, path: str) -> tuple[str, ...]:
    """Return the header cells of the points of a DeepLabCut table, without the first."""
    return tuple(re.split(r"[,;\t]", decode_csv(read_label_file(files, path)).splitlines()[1])[1:])


def annotation_folder_candidates(files: SourceFiles) -> Iterator[FormatCandidate]:
    """Yield a candidate for each folder that contains annotation files of Pascal VOC or YOLO, and for those above."""
    texts = find_label_files(files).labels
    beside = {parent_of(path) for path, text in texts.items() if parent_of(path) == parent_of(text)}
    for format_, places, reason in (
        ("voc", _above(files, ("annotations", "annotation"), ".xml"), "a folder of annotations contains XML files"),
        ("voc", _above_pairs(files), "XML files of Pascal VOC have the names of images"),
        ("yolo", _above(files, ("labels",), ".txt"), "a folder labels contains text files"),
        ("yolo", beside, "text files have the names of the images beside them"),
    ):
        above = {os.path.commonpath(places)} if places and "" not in places else set()
        above |= {
            "/".join(parts[:end]) for parts in (place.split("/") for place in places) for end in range(len(parts))
        }
        for inside in sorted(places | above):
            changes, reasons = _for_unlabelled(files, inside) if format_ == "yolo" else ({}, {})
            yield FormatCandidate(format_, inside, reason, changes, reasons)


def _above(files: SourceFiles, folders: tuple[str, ...], ending: str) -> set[str]:
    """Return the folders that contain a folder of one of these names, in any case, with a file of this ending."""
    parts = [path.split("/") for path in files if path.lower().endswith(ending)]
    places = ((names, i) for names in parts for i, name in enumerate(names[:-1]) if name.lower() in folders)
    return {"/".join(names[:i]) for names, i in places}


def _above_pairs(files: SourceFiles) -> set[str]:
    """Return the folders that contain an image and its annotation file of Pascal VOC, as `find_pairs` finds them."""
    try:
        pairs = find_pairs(files)
    except Unreadable:  # named by the importer of another candidate, or as a file that is not read
        return set()
    parents = ({parent_of(path) for path in pair} for pair in pairs)
    return {os.path.commonpath(both) if "" not in both else "" for both in parents}


def _for_unlabelled(files: SourceFiles, inside: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return changes and reasons if a minority of the images has no label file, as images without objects have none."""
    found = find_label_files(select_inside(files, inside, Path())[0])
    if not 0 < len(found.unlabelled) <= len(found.labels):
        return {}, {}
    number = quantity(len(found.unlabelled), "image has", "images have")
    why = (
        f"{number} no label file, such as {next(iter(found.unlabelled))}: in YOLO, images without objects; set it to "
        "reject if they have not been labelled yet"
    )
    return {"unlabelled": "empty"}, {"unlabelled": why}
