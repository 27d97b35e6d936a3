"""How the labels of a source could be read: every reading that the files allow is tried, not guessed from one name."""

import contextlib
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE_INDEX
from stages.images.archives import HIDDEN_FILES, TABLE_SUFFIXES, Rejection, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES
from stages.importers import IMPORTERS, Sample, select_inside
from stages.importers.deeplabcut import is_deeplabcut
from stages.importers.filename_matching import (
    FilePairing,
    TargetInspection,
    find_pairings,
    inspect_targets,
    marks_unknown,
)
from stages.importers.sample import SPLIT_WORDS
from stages.importers.table import read_table
from stages.importers.table_columns import NO_COLUMNS, find_path_column, infer_columns

ABOUT = 0.5  # of the images that the widest reading explains, from which a more telling form comes first
LOPSIDED = 0.95  # share of the images in one folder, from which the folders are no classes
TOGETHER = frozenset(
    "image images img imgs jpegimages mask masks gt truth label labels annotation annotations target targets seg "
    "segmentation segmentations segmentationclass segmentationobject noisy clean input output".split()
)
"""Names of folders that hold what belongs together, not classes."""
SOURCE_DEFAULTS: dict[str, Any] = {
    "images": "", "targets": "", "mask_values": {}, "ignore_values": [], "group_regex": "", "sequence_block": 1,
    "columns": NO_COLUMNS,
}  # fmt: skip
"""Keys of `ingest` that belong to one data set, where they say nothing."""
WRONG = (UserError, OSError, RecursionError, ValueError, TypeError, KeyError)
"""What a file that is not what it is called may raise; it then is no candidate, and the reason is kept."""


@dataclass(frozen=True)
class FormatCandidate:
    """One way to read a source."""

    format: str
    inside: str
    reason: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Keys of `PLAIN` that say something."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Key of `changes`: why it is so."""
    has_split: bool = False
    """The source itself names all three splits."""
    targets: frozenset[str] = frozenset()
    """Files beside the images, of which the labels come."""
    samples: tuple[Sample, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @property
    def explains(self) -> int:
        """How many image files it gives a meaning to."""
        pictures = {path for path in self.targets if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES}
        return len(self.samples) + len(pictures)


def find_formats(files: SourceFiles, ingest: Ingest) -> tuple[list[FormatCandidate], list[str]]:
    """All readings that give images with labels, the one to propose first; and why others give none.

    Args:
        files: of the source, while it is open.
        ingest: whose limits hold; what belongs to one data set in it is not used.
    """
    files = {path: read for path, read in files.items() if not HIDDEN_FILES.search(path)}
    tried: list[FormatCandidate] = []
    failures: list[str] = []
    for one in _candidates(files, failures):
        try:
            if found := _tried(files, one, ingest):
                tried.append(found)
        except WRONG as error:
            failures.append(f"{one.format} in {one.inside or 'the source'}: {error}")
    widest = max((one.explains for one in tried), default=0)

    def order(one: FormatCandidate) -> tuple[bool, int, int, bool, int, int]:
        for_later = SPLIT_WORDS.get(PurePosixPath(one.inside).name.lower()) in ("val", "test")
        narrow = one.explains < ABOUT * widest
        form, depth = list(IMPORTERS).index(one.format), one.inside.count("/")
        return narrow, form, -one.explains, for_later, -depth, len(one.rejected)

    distinct: dict[Any, FormatCandidate] = {}
    for one in sorted(tried, key=order):
        distinct.setdefault((one.format, one.inside, one.targets, tuple(item.path for item in one.samples)), one)
    return list(distinct.values()), failures


def _tried(files: SourceFiles, one: FormatCandidate, ingest: Ingest) -> FormatCandidate | None:
    """With the images that it gives; None where it gives none, or not the splits that it promises."""
    changed = Ingest.model_validate(
        ingest.model_dump() | SOURCE_DEFAULTS | one.changes | {"format": one.format, "inside": one.inside}
    )
    part, name = select_inside(files, one.inside, Path())
    with contextlib.redirect_stdout(io.StringIO()):
        items, refused = IMPORTERS[one.format](part, name, changed, one.has_split)
    complete = {item.split for item in items} == set(SPLIT_WORDS.values())
    if not items or (one.has_split and not complete):
        return None
    return replace(one, has_split=complete, samples=tuple(items), rejected=tuple(refused))


def _candidates(files: SourceFiles, failures: list[str]) -> Iterator[FormatCandidate]:
    for path in files:
        try:
            yield from _of_file(files, path)
        except WRONG as error:
            failures.append(f"{path}: {error}")
    yield from _of_annotation_folders(files)
    together = set()
    for pairing in find_pairings(files):
        found = inspect_targets(files, pairing)
        if found.form:
            changes, reasons = _of_pairing(pairing, found)
            yield FormatCandidate(found.form, pairing.root, found.why, changes, reasons, targets=pairing.named)
        elif (pairing.root, found.why) not in together:
            together.add((pairing.root, found.why))
            failures.append(f"{pairing.images} with {pairing.targets}: {found.why}")
    yield from _of_class_folders(files)


def _of_file(files: SourceFiles, path: str) -> Iterator[FormatCandidate]:
    """A table, a COCO file or an npz."""
    lower = path.lower()
    if lower.endswith(".npz"):
        yield FormatCandidate("arrays", path, "it holds arrays of images and labels")
    elif lower.endswith(".json"):
        held = json.loads(files[path]())
        if isinstance(held, dict) and all(isinstance(held.get(key), list) for key in ("images", "annotations")):
            yield FormatCandidate("coco", path, "it lists images, annotations and categories")
    elif lower.endswith(".csv") and is_deeplabcut(files[path]()):
        yield FormatCandidate("deeplabcut", path, "it begins with scorer, bodyparts, coords")
    elif lower.endswith(TABLE_SUFFIXES):
        yield from _of_table(files, path)


def _of_table(files: SourceFiles, path: str) -> Iterator[FormatCandidate]:
    rows = read_table(files[path](), path)
    part, _ = select_inside(files, path, Path())
    images = [name for name in part if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    place = find_path_column(rows, images)
    if place is None:
        raise ValueError(
            f"no column names images as they lie there; the columns are {', '.join(map(str, rows.columns))}"
            + (f", the first row {', '.join(rows.iloc[0])}" if len(rows) else "")
        )
    column, folder = place
    columns, reasons = infer_columns(rows.drop(columns=column))
    if not (columns["label"] or columns["scalars"] or columns["points"]):
        raise ValueError(f"its column {column} names images, and no other holds classes, numbers or points")
    changes: dict[str, Any] = {"columns": columns | {"path": column, "folder": folder}}
    paths = [f"{folder}/{cell}".removeprefix("/") for cell in rows[column]]
    listed = {*paths, path, PurePosixPath(path).name}
    if others := [name for name in part if name not in listed]:
        shared = os.path.commonpath([str(PurePosixPath(p).parent) for p in paths]) if paths else ""
        ending = {PurePosixPath(p).suffix for p in paths}
        changes["images"] = f"{shared}/**".removeprefix("./").removeprefix("/") + (
            ending.pop() if len(ending) == 1 else ""
        )
        reasons["images"] = f"the table is of these; {len(others)} files beside are not, as {others[0]}"
    yield FormatCandidate("table", path, f"its column {column} names images", changes, reasons)


def _of_annotation_folders(files: SourceFiles) -> Iterator[FormatCandidate]:
    for form, folder, ending, why in (
        ("voc", "Annotations", ".xml", "there are XML files in a folder Annotations"),
        ("yolo", "labels", ".txt", "there are text files in a folder labels"),
    ):
        places = set()
        for path in files:
            parts = PurePosixPath(path).parts
            if path.lower().endswith(ending) and folder in parts[:-1]:
                places.add("/".join(parts[: parts.index(folder)]))
        above = {os.path.commonpath(places)} if places and "" not in places else set()
        above |= {str(PurePosixPath(place).parent).removeprefix(".") for place in places}
        for inside in sorted(places | above):
            yield FormatCandidate(form, inside, why)


def _of_pairing(pairing: FilePairing, found: TargetInspection) -> tuple[dict[str, Any], dict[str, str]]:
    """Patterns and values, and reasons."""
    images, targets = (p.removeprefix(f"{pairing.root}/") for p in (pairing.images, pairing.targets))
    changes: dict[str, Any] = {"images": images, "targets": targets}
    reasons = {"targets": f"{len(pairing.files)} images have such a file"}
    if set(found.values) - {0}:
        void = marks_unknown(found.values)
        shares = ", ".join(f"{value} covers {100 * share:.3g} %" for value, share in found.values.items())
        known = [value for value in found.values if not (void and value == IGNORE_INDEX)]
        other = "foreground" if len(known) == 2 else "class{}"
        changes["mask_values"] = {value: "background" if value == 0 else other.format(value) for value in known}
        reasons["mask_values"] = f"the names are yours to give: {shares}"
        if void:
            changes["ignore_values"] = [IGNORE_INDEX]
            reasons["ignore_values"] = "the other values count up from 0: it may say that the truth is unknown"
    return changes, reasons


def _of_class_folders(files: SourceFiles) -> Iterator[FormatCandidate]:
    """A folder whose folders hold images."""
    inner: dict[str, Counter[str]] = defaultdict(Counter)
    for path in files:
        parts = PurePosixPath(path).parts
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
            for depth in range(len(parts) - 1):
                inner["/".join(parts[:depth])][parts[depth]] += 1
    for inside, counts in inner.items():
        sizes = sorted(counts.values())
        splits = sorted(folder for folder in counts if folder.lower() in SPLIT_WORDS)
        if len(splits) > 1:
            yield FormatCandidate("folders", inside, f"the folders {', '.join(splits)} name splits", has_split=True)
        elif len(sizes) < 2 or sizes[len(sizes) // 2] < 2 or sizes[-1] > LOPSIDED * sum(sizes):
            continue  # a picture each, or stray ones beside the folder that is meant
        elif not {folder.lower() for folder in counts} & TOGETHER:
            yield FormatCandidate("folders", inside, f"{len(counts)} folders hold images, a class each")
