"""Import labelled images from folders and archives: registry of the importers, format detection, and opening a source.

The importers themselves are in the modules of this package. `format_detection` tries them all for `configure`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from stages.config.schema_data import Ingest
from stages.core.errors import UserError, did_you_mean
from stages.core.path_parts import folders_of
from stages.core.plurals import quantity
from stages.images.archives import HIDDEN_FILES, TABLE_SUFFIXES, Rejection, SourceFiles, list_source_files
from stages.images.decode import Unreadable, is_image_path
from stages.importers.arrays import import_arrays
from stages.importers.coco import import_coco
from stages.importers.deeplabcut import import_deeplabcut, is_deeplabcut
from stages.importers.file_selection import select_files, unless_deselected
from stages.importers.folders import import_folders
from stages.importers.group_table import with_groups_of_table
from stages.importers.indexed_files import select_below
from stages.importers.names import import_names
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, read_label_file
from stages.importers.sidecar_files import import_dots, import_instances, import_masks, import_pairs
from stages.importers.table import import_table
from stages.importers.voc import find_pairs, import_voc
from stages.importers.yolo import find_label_files, import_yolo, names_classes

__all__ = [
    "IMPORTERS",
    "SPLIT_WORDS",
    "Sample",
    "select_inside",
    "detect_format",
    "open_source",
    "reject_ambiguous_labels",
]

IMPORTERS: dict[str, Callable[[SourceFiles, str, Ingest, bool], ImportResult]] = {
    "deeplabcut": import_deeplabcut,
    "coco": import_coco,
    "voc": import_voc,
    "yolo": import_yolo,
    "instances": import_instances,
    "masks": import_masks,
    "dots": import_dots,
    "table": import_table,
    "arrays": import_arrays,
    "pairs": import_pairs,
    "folders": import_folders,
    "names": import_names,
}
"""Importer by label format: (files, name of the file that is `ingest.inside` or "", params, has_split) -> result.

The most specific format comes first: among the formats that cover at least half as many images as the best, `configure`
proposes the first.
"""
SINGLE_FILE_FORMATS = {
    "table": "labels.csv",
    "arrays": "data.npz",
    "coco": "instances.json",
    "deeplabcut": "CollectedData.csv",
}
"""Formats that consist of one file, which `ingest.inside` must name; the value is an example."""
SEVERAL_FILES = ("table", "deeplabcut")
"""Formats of one file of which a folder may contain several, which are read as one."""


def detect_format(files: SourceFiles, name: str) -> tuple[str, str]:
    """Return the label format of a source and the reason for the choice.

    Formats that require patterns (`instances`, `masks`, `dots`, `pairs`) are not detected.

    Args:
        files: files of the source.
        name: file that `ingest.inside` names, or the source itself if it is an npz; empty for a folder.

    Raises:
        Unreadable: the file cannot be read.
        UserError: `name` is a file of an unknown format.
    """
    lower = name.lower()
    if lower.endswith(".npz"):
        return "arrays", f"{name} contains arrays"
    if lower.endswith(".json"):
        return "coco", f"{name} is JSON"
    if lower.endswith(TABLE_SUFFIXES):
        if lower.endswith(".csv") and is_deeplabcut(read_label_file(files, name)):
            return "deeplabcut", f"{name} begins with the header rows of DeepLabCut"
        return "table", f"{name} is a table"
    if name:
        raise UserError(
            f"ingest.inside: {name} is not a folder or a file with a supported suffix "
            f"({', '.join(TABLE_SUFFIXES)}, .npz, .json); name one of these"
        )
    names_of_folders = {part for path in files for part in folders_of(path)}
    if {"annotations", "jpegimages"} <= {folder.lower() for folder in names_of_folders} and any(
        path.lower().endswith(".xml") for path in files
    ):
        return "voc", "the folders Annotations and JPEGImages exist"
    if {"images", "labels"} <= names_of_folders and any(re.search(r"(^|/)labels/.*\.txt$", path) for path in files):
        return "yolo", "the folders images and labels exist, with text files"
    if any(map(names_classes, files)) and find_label_files(files).labels:
        return "yolo", "there are class names, and text files with the names of images"
    if find_pairs(files):
        return "voc", "XML files of Pascal VOC have the names of images"
    return "folders", "one folder per class"


@contextmanager
def open_source(source: Path, ingest: Ingest, has_split: bool) -> Iterator[ImportResult]:
    """List the samples of a source; their bytes can be read while the context is open.

    Args:
        source: folder, archive or npz file.
        ingest: which part of the source to read and how it is labelled.
        has_split: whether the source defines the splits itself (`split.by: source`).

    Yields:
        samples, and the files or rows that were rejected.

    Raises:
        UserError: the source is missing, damaged, in an unknown format, or contains no labelled images; `ingest.inside`
            is not in it, or names no file although the format requires one; the importer refuses the files or params;
            or `ingest.group_regex` or `ingest.origin_regex` does not suit a path.
    """
    with ExitStack() as stack:
        files, rejected = list_source_files(source, stack)
        files = {path: read for path, read in files.items() if not HIDDEN_FILES.search(path)}
        files, left_out = select_files(files, ingest.files)
        whole = files
        files, name = select_inside(files, ingest.inside.strip("/"), source)
        if source.suffix.lower() == ".npz":
            name = source.name
        format_: str = ingest.format
        reason = "set by ingest.format"
        if format_ == "auto":
            with _reporting_unreadable():
                format_, reason = detect_format(files, name)
        has_tables = format_ in SEVERAL_FILES and any(path.lower().endswith(TABLE_SUFFIXES) for path in files)
        has_pattern = format_ == "coco" and bool(ingest.targets)
        if format_ in SINGLE_FILE_FORMATS and not (name or has_tables or has_pattern):
            raise UserError(
                f"ingest.inside: the format {format_} consists of one file; name it, for example "
                f"labels/{SINGLE_FILE_FORMATS[format_]}"
            )
        if format_ != "folders":
            print(f"ingest: label format {format_}: {reason}", flush=True)
        with _reporting_unreadable():
            samples, unfit = IMPORTERS[format_](files, name, ingest, has_split)
            samples = with_groups_of_table(whole, samples, ingest)
        unfit = unless_deselected(unfit, ingest.files, ingest.inside.strip("/").removesuffix(name).rstrip("/"))
        if has_split:
            unassigned = "has no split in the source, which split.by: source requires"
            unfit += [Rejection(sample.path, unassigned) for sample in samples if sample.split is None]
            samples = [sample for sample in samples if sample.split is not None]
        if not samples:
            raise UserError(_no_samples_message(source / ingest.inside, bool(files), rejected + unfit))
        yield (
            [_with_group_and_origin(sample, ingest) for sample in samples],
            left_out + rejected + unfit,
        )


@contextmanager
def _reporting_unreadable() -> Iterator[None]:
    """Raise UserError if a file that describes the whole source cannot be read."""
    try:
        yield
    except Unreadable as error:
        raise UserError(f"{error}; correct or remove this file") from error


def select_inside(files: SourceFiles, inside: str, source: Path) -> tuple[SourceFiles, str]:
    """Select the files below `inside` and name them relative to it.

    If `inside` is a file, the files of its folder are selected, or all files if that folder contains no image.

    Args:
        files: files of the source.
        inside: path of a folder or file in the source; empty for the whole source.
        source: path of the source, for the error message.

    Returns:
        selected files, and the name of `inside` among them if it is a file, else ''.

    Raises:
        UserError: the source has no such folder or file.
    """
    if not inside:
        return files, ""
    if inside in files:
        root, _, name = inside.rpartition("/")
        siblings = select_inside(files, root, source)[0]
        if not root or any(is_image_path(path) for path in siblings):
            return siblings, name
        return files, inside  # layout of COCO: annotations/NAME.json, images in a sibling folder
    part = select_below(files, inside)
    if not part:
        folders = sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."})
        hint = did_you_mean(inside, folders) if folders else "it contains no folders"
        raise UserError(f"ingest.inside: {inside} is not in {source}; {hint}")
    return part, ""


def reject_ambiguous_labels(labels: set[str]) -> None:
    """Raise UserError if two class names differ only in case or in Unicode normalization."""
    spellings: dict[str, str] = {}
    for label in sorted(labels):
        key = unicodedata.normalize("NFC", label).casefold()
        if key in spellings:
            raise UserError(
                f"the classes {spellings[key]!a} and {label!a} differ only in case or in the Unicode "
                "encoding of their letters; merge or rename them"
            )
        spellings[key] = label


def _with_group_and_origin(sample: Sample, ingest: Ingest) -> Sample:
    """Return the sample with group and origin from its path where the source does not define them."""
    group = sample.group if sample.group is not None else _match_path(sample.path, ingest.group_regex, "group")
    return replace(
        sample, group=group, origin=sample.origin or _match_path(sample.path, ingest.origin_regex, "origin") or ""
    )


def _match_path(path: str, pattern: str, key: str) -> str | None:
    if not pattern:
        return None
    match = re.search(pattern, path)
    if match is None:
        raise UserError(f"ingest.{key}_regex: {pattern!r} does not match {path}; it must match the path of every image")
    if not match.group(1):
        raise UserError(
            f"ingest.{key}_regex: the first parentheses of {pattern!r} match no text in {path}; correct the pattern"
        )
    return match.group(1)


def _no_samples_message(where: Path, has_files: bool, rejected: list[Rejection]) -> str:
    if not rejected and not has_files:
        return f"ingest.source: {where} contains no files; set it to a folder, zip, tar or npz of images"
    if not rejected:
        return f"ingest.source: {where} contains no labelled images; check ingest.inside and ingest.format"
    reasons = "; ".join(f"{r.path!a}: {r.reason}" for r in rejected[:3])
    files = f"{quantity(len(rejected), 'file')} {'was' if len(rejected) == 1 else 'were'}"
    return f"ingest.source: {where} contains no labelled images; {files} rejected, for example {reasons}"
