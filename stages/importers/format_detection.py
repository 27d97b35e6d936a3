"""Detect the label formats of a source by trying every importer that its files allow."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.plurals import list_names, quantity
from stages.images.archives import HIDDEN_FILES, TABLE_SUFFIXES, Rejection, SourceFiles
from stages.importers import IMPORTERS, Sample, select_inside
from stages.importers.class_folder_candidates import class_folder_candidates
from stages.importers.class_folder_checks import FolderDoubt, FolderEvidence, examine_class_folders
from stages.importers.file_selection import select_files
from stages.importers.filename_matching import (
    inspected_pairings,
)
from stages.importers.foreign_formats import describe_foreign_files
from stages.importers.format_candidate import (
    MAX_LISTED,
    SOURCE_DEFAULTS,
    FormatCandidate,
    image_paths,
)
from stages.importers.group_table_proposal import propose_group_table
from stages.importers.indexed_files import IndexedFiles
from stages.importers.label_file_candidates import (
    annotation_folder_candidates,
    candidates_of_file,
    candidates_of_several_tables,
    coco_candidates_of_splits,
)
from stages.importers.label_image_files import LabelImageFiles
from stages.importers.name_fields import (
    NameReading,
    describe_fields,
    find_class_in_names,
    find_numbers_in_names,
    has_role_words,
)
from stages.importers.pairing_candidates import is_readable, pairing_candidates, without_measured_objects
from stages.importers.redundant_files import find_redundant_files
from stages.importers.role_words import DATA_FOLDERS, IMAGE_FOLDERS
from stages.importers.sample import SPLIT_WORDS, ImportResult
from stages.importers.side_by_side import (
    Inspected,
    find_versions,
)
from stages.importers.sidecar_files import NO_TARGET

MIN_COVERAGE = 0.5  # share of the maximum coverage from which a more specific format is preferred
FEWEST_OF_ALL = 0.2  # share of all images below which folders of a few of them are not classes
IMPORT_ERRORS = (UserError, OSError, RecursionError, ValueError, TypeError, KeyError)
"""Exceptions of importers on files in another format; the candidate is dropped and the reason is reported."""


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
    files = IndexedFiles(select_files(files, [f"!{pattern}" for pattern in redundant])[0])
    successful: list[FormatCandidate] = []
    failures = describe_foreign_files(files)
    measured = find_numbers_in_names(image_paths(files))
    inspected = without_measured_objects(inspected_pairings(files, files.measured_masks), measured)
    examine = partial(examine_class_folders, FolderEvidence(files, find_versions(inspected)))
    for candidate in _candidates(files, inspected, measured, failures):
        try:
            if (found := _try_candidate(files, candidate, ingest)) and (found := _examine(found, examine, failures)):
                successful.append(found)
        except IMPORT_ERRORS as error:
            failures.append(f"{candidate.format} in {candidate.inside or 'the source'}: {_reason(error)}")
    if not successful and (fields := describe_fields(image_paths(files))):
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
    ranked = list(distinct.values())
    if ranked and ranked[0].format == "folders" and len(ranked[0].samples) < FEWEST_OF_ALL * len(image_paths(files)):
        few = f"{len(ranked[0].samples)} of {quantity(len(image_paths(files)), 'image')}"
        failures.insert(0, f"folders in {ranked[0].inside or 'the source'}: only {few} lie in folders of classes")
        ranked = [one for one in ranked if one.format != "folders"]
    ranked = [propose_group_table(files, candidate, ingest) for candidate in ranked]
    return [_leaving_out(candidate, redundant) for candidate in ranked], failures


def _leaving_out(candidate: FormatCandidate, redundant: dict[str, str]) -> FormatCandidate:
    """Return a candidate that leaves out files by their patterns, with the reasons."""
    if not redundant:
        return candidate
    reasons = "; ".join(f"{pattern}: {reason}" for pattern, reason in redundant.items())
    return replace(
        candidate,
        changes=candidate.changes | {"files": [*candidate.changes.get("files", ()), *(f"!{one}" for one in redundant)]},
        reasons=candidate.reasons | {"files": "; ".join(filter(None, (candidate.reasons.get("files"), reasons)))},
    )


def _try_candidate(files: IndexedFiles, candidate: FormatCandidate, ingest: Ingest) -> FormatCandidate | None:
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
    part, name = select_inside(select_files(files, changed.files)[0], candidate.inside, Path())
    with contextlib.redirect_stdout(io.StringIO()):
        return IMPORTERS[candidate.format](part, name, changed, candidate.has_split)


def _without_unlabelled(
    files: IndexedFiles, candidate: FormatCandidate, ingest: Ingest, samples: list[Sample], rejected: list[Rejection]
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
    is_mask = LabelImageFiles(files, files.measured_masks).is_one
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


def _candidates(
    files: IndexedFiles, inspected: Inspected, measured: NameReading | None, failures: list[str]
) -> Iterator[FormatCandidate]:
    """Yield all candidates.

    Args:
        files: files of the source by path.
        inspected: pairings of images and targets.
        measured: number in the names of the images, if they contain one.
        failures: reasons against candidates; more are added.
    """
    single: list[FormatCandidate] = []
    for path in files:
        try:
            for candidate in candidates_of_file(files, path):
                single.append(candidate)
                yield candidate
        except IMPORT_ERRORS as error:
            reason = _reason(error)
            failures.append(reason if reason.startswith(path) else f"{path}: {reason}")
    yield from coco_candidates_of_splits([one for one in single if one.format == "coco"])
    yield from candidates_of_several_tables(files, single, sum(path.lower().endswith(TABLE_SUFFIXES) for path in files))
    yield from annotation_folder_candidates(files)
    yield from pairing_candidates(files, inspected, failures)
    masks = [pairing for pairing, found in inspected if is_readable(files, pairing, found) and found.format != "pairs"]
    yield from class_folder_candidates(files, masks, failures)
    yield from _from_names(image_paths(files), measured)


def _from_names(images: list[str], measured: NameReading | None) -> Iterator[FormatCandidate]:
    """Yield the candidate of labels in the names of the images, unless some of the images are masks or the like.

    Args:
        images: paths of the images.
        measured: number in their names, if they contain one.
    """
    if has_role_words(images, DATA_FOLDERS - IMAGE_FOLDERS):
        return
    found = measured or find_class_in_names(images)
    if found is not None:
        changes, reasons = {"name_regex": found.regex}, {"name_regex": found.reason}
        yield FormatCandidate("names", "", found.reason, changes, reasons, asks=(found.question,))
