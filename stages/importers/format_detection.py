"""Detect the label formats of a source by trying every importer that its files allow."""

import contextlib
import io
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import IGNORE_INDEX
from stages.images.archives import HIDDEN_FILES, TABLE_SUFFIXES, Rejection, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable
from stages.importers import IMPORTERS, SEVERAL_FILES, Sample, select_inside
from stages.importers.class_folder_checks import FolderDoubt, examine_class_folders, read_image_lists
from stages.importers.coco import are_classes_of_images, find_group_key, marks_most_as_crowd
from stages.importers.coco_groups import propose_group_key
from stages.importers.csv_text import decode_csv
from stages.importers.deeplabcut import is_deeplabcut
from stages.importers.file_selection import select_files
from stages.importers.filename_matching import (
    FilePairing,
    TargetInspection,
    inspected_pairings,
    marks_unknown,
)
from stages.importers.folder_levels import find_class_level
from stages.importers.foreign_formats import describe_foreign_files
from stages.importers.foreign_tables import (
    describe_foreign_table,
    describe_missing_images,
    describe_missing_labels,
    describe_run_lengths,
)
from stages.importers.image_paths import ImageFinder
from stages.importers.label_files_of_splits import group_by_split
from stages.importers.label_image_files import LabelImageFiles, read_values
from stages.importers.masks_in_class_folders import find_unpaired_masks, pattern_of_masks
from stages.importers.name_fields import describe_fields, find_class_in_names, find_numbers_in_names, has_role_words
from stages.importers.redundant_files import find_redundant_files
from stages.importers.sample import SPLIT_WORDS, ImportResult, read_label_file
from stages.importers.side_by_side import (
    Inspected,
    explain_names,
    explain_two_images,
    find_several_inputs,
    find_versions,
    judge,
)
from stages.importers.sidecar_files import NO_TARGET
from stages.importers.table import read_table
from stages.importers.table_columns import NO_COLUMNS, find_folder_column, find_path_column, infer_columns
from stages.importers.target_choice import Target, Verdict, judge_targets
from stages.importers.voc import find_pairs
from stages.importers.yolo import find_label_files

MIN_COVERAGE = 0.5  # share of the maximum coverage from which a more specific format is preferred
MAX_LISTED = 3  # files that a reason names
MAX_DECODED = 200  # masks that are kept in memory
MAX_FOLDER_SHARE = 0.95  # share of the images in one folder above which folders are not classes
DATA_FOLDERS = frozenset(
    "image images img imgs jpegimages mask masks gt truth label labels annotation annotations target targets seg "
    "segmentation segmentations segmentationclass segmentationobject noisy clean input output".split()
)
"""Folder names that denote the role of files, not classes."""
IMAGE_FOLDERS = frozenset("image images img imgs jpegimages input".split())
SOURCE_DEFAULTS: dict[str, Any] = {
    "files": [], "images": "", "targets": "", "name_regex": "", "mask_values": {}, "ignore_values": [],
    "group_regex": "", "sequence_block": 1, "coco_group": "", "unlabelled": "reject", "overlaps": "reject",
    "crowd": "ignore", "columns": NO_COLUMNS,
}  # fmt: skip
"""Neutral values of the keys of `ingest` that describe a data set."""
CHOICE_OF_INPUT = (
    "which of them is the image to predict from? ingest.images names it; the others are not used. If all are required, "
    "such as the channels of one image, join them in one file"
)
MOST_CROWDS = (
    "the file marks most objects as iscrowd, as some tools do for every mask; check that they are single objects"
)
IMPORT_ERRORS = (UserError, OSError, RecursionError, ValueError, TypeError, KeyError)
"""Exceptions of importers on files in another format; the candidate is dropped and the reason is reported."""


@dataclass(frozen=True)
class FormatCandidate:
    """A label format in which a source can be read."""

    format: str
    inside: str
    reason: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Values that differ from `SOURCE_DEFAULTS`, by key."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Reason by key of `ingest`, for example `targets` or `columns.group`."""
    asks: tuple[str, ...] = ()
    """Questions about this interpretation, each beginning with the key of the params."""
    has_split: bool = False
    """Whether the source defines all three splits."""
    targets: frozenset[str] = frozenset()
    """Sidecar files that contain the labels."""
    doubt: str = ""
    """Reason why other target files of the same images are the annotation; empty if there is none."""
    samples: tuple[Sample, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    unused: tuple[Rejection, ...] = ()
    """Files that are not images or not part of the data set."""
    question: str = ""
    """Question to ask if this format is chosen, or another one for the same images; empty if the evidence decides."""
    is_doubtful: bool = False
    """Whether any other candidate is preferred, because there is no positive evidence for this one."""

    @property
    def coverage(self) -> int:
        """Number of image files that are samples or targets."""
        pictures = {path for path in self.targets if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES}
        return len(self.samples) + len(pictures)


def find_formats(files: SourceFiles, ingest: Ingest) -> tuple[list[FormatCandidate], list[str]]:
    """Try all candidate formats and return those that yield labelled images.

    Args:
        files: files of the open source.
        ingest: limits to apply; keys that describe a data set are not used.

    Returns:
        candidates, the best first, and the reasons why other candidates failed.
    """
    files = {path: read for path, read in files.items() if not HIDDEN_FILES.search(path)}
    redundant = find_redundant_files(files)
    files, _ = select_files(files, [f"!{pattern}" for pattern in redundant])
    successful: list[FormatCandidate] = []
    failures = describe_foreign_files(files)
    inspected = _without_measured_objects(files, inspected_pairings(files))
    examine = partial(examine_class_folders, files, versions=find_versions(inspected), lists=read_image_lists(files))
    for candidate in _candidates(files, inspected, failures):
        try:
            if (found := _try_candidate(files, candidate, ingest)) and (found := _examine(found, examine, failures)):
                successful.append(found)
        except IMPORT_ERRORS as error:
            failures.append(f"{candidate.format} in {candidate.inside or 'the source'}: {_reason(error)}")
    if not successful and (fields := describe_fields(_images(files))):
        failures.insert(1, fields)
    widest = max((candidate.coverage for candidate in successful if not candidate.is_doubtful), default=0)

    def order(candidate: FormatCandidate) -> tuple[bool, bool, bool, int, int, bool, int, int]:
        is_heldout = SPLIT_WORDS.get(PurePosixPath(candidate.inside).name.lower()) in ("val", "test")
        narrow = candidate.coverage < MIN_COVERAGE * widest
        rank, depth = list(IMPORTERS).index(candidate.format), candidate.inside.count("/")
        doubtful = candidate.is_doubtful, narrow, bool(candidate.doubt)
        return *doubtful, rank, -candidate.coverage, is_heldout, -depth, len(candidate.rejected)

    distinct: dict[Any, FormatCandidate] = {}
    for candidate in sorted(successful, key=order):
        distinct.setdefault(
            (candidate.format, candidate.inside, candidate.targets, tuple(sample.path for sample in candidate.samples)),
            candidate,
        )
    return [_leaving_out(candidate, redundant) for candidate in distinct.values()], failures


def _leaving_out(candidate: FormatCandidate, redundant: dict[str, str]) -> FormatCandidate:
    """Return a candidate that leaves out files by their patterns, with the reasons."""
    if not redundant:
        return candidate
    reasons = "; ".join(f"{pattern}: {reason}" for pattern, reason in redundant.items())
    return replace(
        candidate,
        changes=candidate.changes | {"files": [f"!{pattern}" for pattern in redundant]},
        reasons=candidate.reasons | {"files": reasons},
    )


def _try_candidate(files: SourceFiles, candidate: FormatCandidate, ingest: Ingest) -> FormatCandidate | None:
    """Import the samples of a candidate; None if there are none, or if the expected splits are missing.

    Raises:
        UserError: the file of a candidate, such as a table, has no valid row.
    """
    candidate, samples, rejected = _without_unlabelled(files, candidate, ingest, *_import(files, candidate, ingest))
    if not samples and rejected and candidate.inside in files:
        raise UserError(f"no image is accepted, for example {rejected[0].path}: {rejected[0].reason}")
    complete = {sample.split for sample in samples} == set(SPLIT_WORDS.values())
    if not samples or (candidate.has_split and not complete):
        return None
    unused = tuple(one for one in rejected if one.is_unused)
    counted = tuple(one for one in rejected if not one.is_unused)
    return replace(candidate, has_split=complete, samples=tuple(samples), rejected=counted, unused=unused)


def _import(files: SourceFiles, candidate: FormatCandidate, ingest: Ingest) -> ImportResult:
    """Import the samples of a candidate."""
    changed = Ingest.model_validate(
        ingest.model_dump()
        | SOURCE_DEFAULTS
        | candidate.changes
        | {"format": candidate.format, "inside": candidate.inside}
    )
    part, name = select_inside(files, candidate.inside, Path())
    with contextlib.redirect_stdout(io.StringIO()):
        return IMPORTERS[candidate.format](part, name, changed, candidate.has_split)


def _without_unlabelled(
    files: SourceFiles, candidate: FormatCandidate, ingest: Ingest, samples: list[Sample], rejected: list[Rejection]
) -> tuple[FormatCandidate, list[Sample], list[Rejection]]:
    """Return the candidate with images without target files as unused, with a question, if too many would be rejected.

    Args:
        files: files of the source by path.
        candidate: candidate of a format with target files.
        ingest: limits to apply.
        samples: its samples.
        rejected: its rejected files.
    """
    without = [one.path for one in rejected if one.reason.startswith(NO_TARGET)]
    kind = {"masks": "mask", "instances": "mask", "dots": "dot image"}.get(candidate.format, "")
    too_many = len(rejected) > ingest.max_rejected * (len(rejected) + len(samples))
    if not (samples and without and kind and too_many):
        return candidate, samples, rejected
    is_mask = LabelImageFiles(files).is_one
    masks = [path for path in without if is_mask(f"{candidate.inside}/{path}".removeprefix("/"))]
    bare = [path for path in without if path not in masks]
    asks, whys = [], []
    if bare:
        number = f"{len(bare)} of {quantity(len(bare) + len(samples), 'image')} {'has' if len(bare) == 1 else 'have'}"
        names = list_names(bare, MAX_LISTED)
        whys.append(f"{number} no {kind} ({names})")
        asks.append(
            f"ingest.unlabelled: {number} no {kind} ({names}): have they not been labelled (skip), or do they show no "
            "object (empty)?"
        )
    if masks:
        more = f"{quantity(len(masks), 'file is a mask', 'files are masks')} without an image of this name"
        whys.append(f"{more} ({list_names(masks, MAX_LISTED)})")
        asks.append(f"ingest.targets: {whys[-1]} and not used: do they belong to the other masks?")
    changed = replace(
        candidate,
        changes=candidate.changes | {"unlabelled": "skip"},
        reasons=candidate.reasons | {"unlabelled": f"{'; '.join(whys)}: otherwise rejected"},
        asks=(*candidate.asks, *asks),
    )
    return changed, samples, [replace(one, is_unused=one.is_unused or one.path in without) for one in rejected]


def _reason(error: Exception) -> str:
    """Return the message of an exception; with its type if the message alone does not explain it."""
    unexplained = not str(error) or isinstance(error, RecursionError | TypeError | KeyError | json.JSONDecodeError)
    return f"cannot be read ({type(error).__name__}: {error})" if unexplained else str(error)


def _examine(
    found: FormatCandidate, examine: Callable[[dict[str, str]], FolderDoubt], failures: list[str]
) -> FormatCandidate | None:
    """Return a candidate with the question that it raises; None, with the reason in `failures`, if it is refused.

    Labels in names are always a question, so that any doubt is a reason to refuse them.
    """
    if found.format not in ("folders", "names"):
        return found
    label_of = {
        f"{found.inside}/{sample.path}".removeprefix("/"): label
        for sample in found.samples
        for label in sample.annotate(1, 1).labels or ()
    }
    if not label_of:
        return found  # numbers
    doubt = examine(label_of)
    refusal = doubt.refusal or (doubt.question if found.format == "names" else "")
    if refusal:
        if refusal not in failures:
            failures.insert(0, refusal)
        return None
    return replace(found, question=doubt.question)


def _candidates(files: SourceFiles, inspected: Inspected, failures: list[str]) -> Iterator[FormatCandidate]:
    single: list[FormatCandidate] = []
    for path in files:
        try:
            for candidate in _from_file(files, path):
                single.append(candidate)
                yield candidate
        except IMPORT_ERRORS as error:
            reason = _reason(error)
            failures.append(reason if reason.startswith(path) else f"{path}: {reason}")
    yield from _from_coco_of_splits([one for one in single if one.format == "coco"])
    yield from _from_several_tables(files, single, sum(path.lower().endswith(TABLE_SUFFIXES) for path in files))
    yield from _from_annotation_folders(files)
    yield from _from_pairings(files, inspected, failures)
    masks = [pairing for pairing, found in inspected if _is_readable(files, pairing, found) and found.format != "pairs"]
    yield from _from_class_folders(files, masks, failures)
    yield from _from_names(_images(files))


def _from_pairings(files: SourceFiles, inspected: Inspected, failures: list[str]) -> Iterator[FormatCandidate]:
    """Yield the candidates of images with target files; add the reasons why others are none to `failures`."""
    reported = set()
    refused: dict[str, str] = {}
    questions: dict[str, str] = {}
    for rivals, is_refused, images in find_several_inputs(inspected):
        if is_refused:
            refused.setdefault("two images", explain_two_images(images))
        for one in rivals:
            questions[f"{one.images} {one.targets}"] = "" if is_refused else f"{images}: {CHOICE_OF_INPUT}"
    verdicts = _judge_targets(files, inspected)
    for pairing, found in inspected:
        question = questions.get(f"{pairing.images} {pairing.targets}")
        if question == "":
            continue
        reason, is_doubtful = found.reason, False
        if found.format == "pairs":
            judgement = judge(pairing, found, inspected)
            if judgement.verdict == "refused":
                refused.setdefault(judgement.reason, " and ".join(pairing.files[0]) + f" {judgement.reason}")
                continue
            reason, question = judgement.reason, question or judgement.question
            is_doubtful = judgement.verdict != "named"
        if _is_readable(files, pairing, found):
            changes, reasons = _describe_pairing(pairing, found)
            verdict = verdicts.get(id(pairing), Verdict())
            reasons["targets"] = "; ".join((reasons["targets"], *verdict.notes))
            yield FormatCandidate(
                found.format, pairing.root, f"{reason}; but {verdict.doubt}" if verdict.doubt else reason,
                changes, reasons, targets=pairing.named, question=question or "", is_doubtful=is_doubtful,
                doubt=verdict.doubt, asks=tuple(filter(None, (found.ask, verdict.ask))),
            )  # fmt: skip
            continue
        if reason := explain_names(pairing, found):
            refused.setdefault(reason, " and ".join(pairing.files[0]) + f" {reason}")
        if (pairing.root, found.reason) not in reported:
            reported.add((pairing.root, found.reason))
            failures.append(f"{pairing.images} with {pairing.targets}: {_explain(files, pairing, found)}")
    failures[:0] = refused.values()


def _without_measured_objects(files: SourceFiles, inspected: Inspected) -> Inspected:
    """Return the pairings, of which none are image pairs if a measured number in the names makes them one object."""
    if not (measured := find_numbers_in_names(_images(files))):
        return inspected
    views = TargetInspection("", f"{measured.reason}, so that these are several images of one object", {})
    return [(pairing, views if found.format == "pairs" else found) for pairing, found in inspected]


def _is_readable(files: SourceFiles, pairing: FilePairing, found: TargetInspection) -> bool:
    """Return whether the targets have a known format, and belong to no other image."""
    return bool(found.format) and not (pairing.several and _target_of_another_image(pairing, files))


def _explain(files: SourceFiles, pairing: FilePairing, found: TargetInspection) -> str:
    other = _target_of_another_image(pairing, files) if found.format else ""
    return f"{other} has the name of another image, to which it belongs" if other else found.reason


def _images(files: SourceFiles) -> list[str]:
    return [path for path in files if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES]


def _from_names(images: list[str]) -> Iterator[FormatCandidate]:
    """Yield the candidate of labels in the names of the images, unless some of the images are masks or the like."""
    if has_role_words(images, DATA_FOLDERS - IMAGE_FOLDERS):
        return
    found = find_numbers_in_names(images) or find_class_in_names(images)
    if found is not None:
        changes, reasons = {"name_regex": found.regex}, {"name_regex": found.reason}
        yield FormatCandidate("names", "", found.reason, changes, reasons, asks=(found.question,))


def _from_file(files: SourceFiles, path: str) -> Iterator[FormatCandidate]:
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
                if not key and (found := find_group_key(content)):
                    what = f"{what}; images with the same {found} form a group"
            yield FormatCandidate("coco", path, what, changes, reasons)
    elif lower.endswith(".csv") and is_deeplabcut(read_label_file(files, path)):
        yield FormatCandidate("deeplabcut", path, "the file begins with the header rows of DeepLabCut")
    elif lower.endswith(TABLE_SUFFIXES):
        yield from _from_table(files, path)


def _from_table(files: SourceFiles, path: str) -> Iterator[FormatCandidate]:
    rows, decimal = read_table(read_label_file(files, path), path)
    part, _ = select_inside(files, path, Path())
    images = [name for name in part if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
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
    listed = {*paths, path, PurePosixPath(path).name}
    if others := [name for name in part if name not in listed]:
        shared = os.path.commonpath([str(PurePosixPath(p).parent) for p in paths]) if paths else ""
        ending = {PurePosixPath(p).suffix for p in paths}
        changes["images"] = f"{shared}/**".removeprefix("./").removeprefix("/") + (
            ending.pop() if len(ending) == 1 else ""
        )
        unlisted = f"{quantity(len(others), 'other file')} {'is' if len(others) == 1 else 'are'} not listed"
        reasons["images"] = f"the table lists these; {unlisted}, for example {others[0]}"
    yield FormatCandidate("table", path, f"the column {column} contains paths of images", changes, reasons)


def _from_coco_of_splits(single: list[FormatCandidate]) -> Iterator[FormatCandidate]:
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


def _from_several_tables(files: SourceFiles, tables: list[FormatCandidate], count: int) -> Iterator[FormatCandidate]:
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


def _from_annotation_folders(files: SourceFiles) -> Iterator[FormatCandidate]:
    texts = find_label_files(files).labels
    beside = {
        str(PurePosixPath(path).parent)
        for path, text in texts.items()
        if path.rpartition("/")[0] == text.rpartition("/")[0]
    }
    for format_, places, reason in (
        ("voc", _above(files, ("annotations", "annotation"), ".xml"), "a folder of annotations contains XML files"),
        ("voc", _above_pairs(files), "XML files of Pascal VOC have the names of images"),
        ("yolo", _above(files, ("labels",), ".txt"), "a folder labels contains text files"),
        ("yolo", {place.removeprefix(".") for place in beside}, "text files have the names of the images beside them"),
    ):
        above = {os.path.commonpath(places)} if places and "" not in places else set()
        above |= {str(parent).removeprefix(".") for place in places for parent in PurePosixPath(place).parents}
        for inside in sorted(places | above):
            changes, reasons = _for_unlabelled(files, inside) if format_ == "yolo" else ({}, {})
            yield FormatCandidate(format_, inside, reason, changes, reasons)


def _above(files: SourceFiles, folders: tuple[str, ...], ending: str) -> set[str]:
    """Return the folders that contain a folder of one of these names, in any case, with a file of this ending."""
    parts = [PurePosixPath(path).parts for path in files if path.lower().endswith(ending)]
    places = ((names, i) for names in parts for i, name in enumerate(names[:-1]) if name.lower() in folders)
    return {"/".join(names[:i]) for names, i in places}


def _above_pairs(files: SourceFiles) -> set[str]:
    """Return the folders that contain an image and its annotation file of Pascal VOC, as `find_pairs` finds them."""
    try:
        pairs = find_pairs(files)
    except Unreadable:  # named by the importer of another candidate, or as a file that is not read
        return set()
    parents = ({str(PurePosixPath(path).parent).removeprefix(".") for path in pair} for pair in pairs)
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


def _judge_targets(files: SourceFiles, inspected: Inspected) -> dict[int, Verdict]:
    """Return which of several target files of the same images are the annotation, by the id of the pairing."""
    annotated = [
        one for one, found in inspected if found.format in ("masks", "instances") and _is_readable(files, one, found)
    ]
    read = lru_cache(MAX_DECODED)(partial(read_values, files))
    return dict(zip(map(id, annotated), judge_targets([_as_target(one) for one in annotated], read), strict=True))


def _as_target(pairing: FilePairing) -> Target:
    files_of = {image: paths for (image, _), paths in zip(pairing.files, pairing.targets_of, strict=True)}
    return Target(pairing.targets, files_of)


def _target_of_another_image(pairing: FilePairing, files: SourceFiles) -> str:
    """Return a target file that has the name of another image beside its image, as masks of slices have; else ''."""
    image_folder = {PurePosixPath(target).parent: PurePosixPath(image).parent for image, target in pairing.files}
    used = {*pairing.named, *(image for image, _ in pairing.files)}
    others = {(PurePosixPath(path).parent, PurePosixPath(path).stem) for path in files if path not in used}
    apart = (path for path in sorted(pairing.named) if image_folder.get(parent := PurePosixPath(path).parent) != parent)
    return next(
        (path for path in apart if (image_folder.get(PurePosixPath(path).parent), PurePosixPath(path).stem) in others),
        "",
    )


def _describe_pairing(pairing: FilePairing, found: TargetInspection) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the patterns and mask values of a pairing, and the reasons for them."""
    images, targets = (p.removeprefix(f"{pairing.root}/") for p in (pairing.images, pairing.targets))
    changes: dict[str, Any] = {"images": images, "targets": targets}
    reasons = {"targets": f"{len(pairing.files)} images have a matching file"}
    if found.overlaps:
        changes["overlaps"] = "combine"
        reasons["overlaps"] = f"{found.overlaps}; set it to reject if overlaps are errors of the annotation"
    if set(found.values) - {0}:
        has_ignore = marks_unknown(found.values)
        shares = ", ".join(f"{value} covers {100 * share:.3g}%" for value, share in found.values.items())
        known = [value for value in found.values if not (has_ignore and value == IGNORE_INDEX)]
        other = "foreground" if len(known) == 2 else "class{}"
        changes["mask_values"] = {value: "background" if value == 0 else other.format(value) for value in known}
        reasons["mask_values"] = f"replace the names of the classes; of the pixels, {shares}"
        if has_ignore:
            changes["ignore_values"] = [IGNORE_INDEX]
            reasons["ignore_values"] = "the other values count up from 0, so 255 may mark unknown pixels"
    return changes, reasons


def _from_class_folders(files: SourceFiles, masks: list[FilePairing], failures: list[str]) -> Iterator[FormatCandidate]:
    """Yield a candidate for each folder whose subfolders contain images and look like classes or splits.

    Args:
        files: files of the source by path.
        masks: images with masks or dot images. These are left out, and folders that separate them are not classes.
        failures: reasons against candidates; more are added.
    """
    named = frozenset(path for pairing in masks for path in pairing.named)
    unpaired = find_unpaired_masks(files, named)
    named |= unpaired
    roles = DATA_FOLDERS | _separating_folders(masks)
    if not masks:
        yield from _from_class_level(_images(files), roles)
    inner: dict[str, Counter[str]] = defaultdict(Counter)
    found: dict[str, set[str]] = defaultdict(set)
    for path in files:
        parts = PurePosixPath(path).parts
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
            for depth in range(len(parts) - 1):
                inner["/".join(parts[:depth])][parts[depth]] += path not in named
                found["/".join(parts[:depth])] |= {part.lower() for part in parts[depth + 1 : -1]} & roles
    for inside, counts in inner.items():
        counts = +counts  # noqa: PLW2901  # without the folders that contain only masks
        sizes = sorted(counts.values())
        splits = sorted(folder for folder in counts if folder.lower() in SPLIT_WORDS)
        changes, reasons = _without_masks(inside, masks)
        others = [path for path in unpaired if f"{path}/".startswith(f"{inside}/".removeprefix("/"))]
        asks: tuple[str, ...] = ()
        if others:
            changes, reasons, asks = _without_unpaired(files, inside, named, others)
        if len(splits) > 1:
            why = f"the folders {', '.join(splits)} denote splits"
            found_here = FormatCandidate("folders", inside, why, changes, reasons, has_split=True, asks=asks)
        elif len(sizes) < 2 or sizes[len(sizes) // 2] < 2 or sizes[-1] > MAX_FOLDER_SHARE * sum(sizes):
            continue  # one image per folder, or a few stray images next to the main folder
        elif len(found[inside]) < 2 and not {folder.lower() for folder in counts} & roles:
            why = f"{len(counts)} folders contain images, one class each"
            found_here = FormatCandidate("folders", inside, why, changes, reasons, asks=asks)
        else:
            continue
        if others and not changes:
            failures.append(f"folders in {inside or 'the source'}: {asks[0]}")
        else:
            yield found_here


def _without_unpaired(
    files: SourceFiles, inside: str, masks: frozenset[str], unpaired: list[str]
) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """Return the pattern by which masks among the images of class folders are left out, the reason, and a question.

    Args:
        files: files of the source by path.
        inside: folder of the class folders.
        masks: all masks of the source.
        unpaired: masks below the folder that no pattern pairs with images.
    """
    start = f"{inside}/".removeprefix("/")
    images = [path.removeprefix(start) for path in files if path.startswith(start) and path not in masks]
    pattern = pattern_of_masks([path.removeprefix(start) for path in masks if path.startswith(start)], images)
    number = quantity(len(unpaired), "file is a mask", "files are masks")
    seen = f"{number} by measurement (few values in large regions), such as {min(unpaired)}"
    if not pattern:
        return {}, {}, (f"{seen}, and no pattern separates them from the images; move them to a folder of their own",)
    ask = f"ingest.targets: {seen}, and left out: are they images of a class?"
    return {"targets": pattern}, {"targets": f"{seen}, and left out"}, (ask,)


def _from_class_level(images: list[str], roles: frozenset[str]) -> Iterator[FormatCandidate]:
    """Yield the candidate in which a level of nested folders names the class."""
    found = find_class_level(images, roles)
    if found is not None:
        tops = {path.removeprefix(f"{found.inside}/").split("/")[0].lower() for path in images}
        has_split = {SPLIT_WORDS.get(top) for top in tops} == {*SPLIT_WORDS.values()}
        reasons = {"images": found.reason}
        asks = (f"ingest.images: {found.question}",) if found.question else ()
        yield FormatCandidate(
            *("folders", found.inside, found.reason, {"images": found.pattern}, reasons), has_split=has_split, asks=asks
        )


def _separating_folders(masks: list[FilePairing]) -> set[str]:
    """Return the folder names in which the paths of images and of their masks differ, in lower case."""
    folders = {
        (PurePosixPath(image).parts[:-1], PurePosixPath(target).parts[:-1])
        for pairing in masks
        for image, target in pairing.files
    }
    return {part.lower() for pair in folders for both in zip(*pair, strict=False) if len({*both}) > 1 for part in both}


def _without_masks(inside: str, masks: list[FilePairing]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the patterns by which the importer of class folders leaves out most of the masks, and the reason."""
    below = [one for one in masks if f"{one.root}/".startswith(f"{inside}/".removeprefix("/"))]
    if not below:
        return {}, {}
    best = max(below, key=lambda one: len(one.named))
    changes = {"images": best.images, "targets": best.targets}
    changes = {key: pattern.removeprefix(f"{inside}/") for key, pattern in changes.items()}
    return changes, {"targets": f"{quantity(len(best.named), 'file is a mask', 'files are masks')} and left out"}
