"""Where labelled images come from: every form in which labels are written, loose or in an archive."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from stages.config.schema_data import Ingest
from stages.core.errors import UserError, did_you_mean
from stages.images.archives import HIDDEN_FILES, TABLE_SUFFIXES, Rejection, SourceFiles, list_source_files
from stages.images.decode import IMAGE_SUFFIXES
from stages.importers.arrays import import_arrays
from stages.importers.coco import import_coco
from stages.importers.deeplabcut import import_deeplabcut, is_deeplabcut
from stages.importers.folders import import_folders
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample
from stages.importers.sidecar_files import import_dots, import_instances, import_masks, import_pairs
from stages.importers.table import import_table
from stages.importers.voc import import_voc
from stages.importers.yolo import import_yolo

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
}
"""(files, name of the file that `ingest.inside` is or "", params, whether the source names splits) -> what is there.

The most telling first: of forms that explain about as many files, `configure` proposes the first.
"""
IN_ONE_FILE = {"table": "labels.csv", "arrays": "data.npz", "coco": "instances.json", "deeplabcut": "CollectedData.csv"}
"""Forms of which `ingest.inside` names the file, with an example."""


def detect_format(files: SourceFiles, name: str) -> tuple[str, str]:
    """The form in which labels are written, and why it is taken for it.

    Raises:
        UserError: `name` is a file of no known form.
    """
    lower = name.lower()
    if lower.endswith(".npz"):
        return "arrays", f"{name} holds arrays"
    if lower.endswith(".json"):
        return "coco", f"{name} is JSON"
    if lower.endswith(TABLE_SUFFIXES):
        if lower.endswith(".csv") and is_deeplabcut(files[name]()):
            return "deeplabcut", f"{name} begins with scorer, bodyparts, coords"
        return "table", f"{name} is a table"
    if name:
        raise UserError(
            f"ingest.inside: {name} is none of {', '.join(TABLE_SUFFIXES)}, .npz, .json; name a folder or such a file"
        )
    folders_of = {part for path in files for part in PurePosixPath(path).parts[:-1]}
    if {"Annotations", "JPEGImages"} <= folders_of and any(path.lower().endswith(".xml") for path in files):
        return "voc", "there are the folders Annotations and JPEGImages"
    if {"images", "labels"} <= folders_of and any(re.search(r"(^|/)labels/.*\.txt$", path) for path in files):
        return "yolo", "there are the folders images and labels with text files"
    return "folders", "there is a folder per class"


@contextmanager
def open_source(source: Path, ingest: Ingest, own_split: bool) -> Iterator[ImportResult]:
    """List the images of a source; their bytes can be read while the context is open.

    Args:
        source: the folder, archive or npz.
        ingest: what to read inside it and how it is labelled.
        own_split: the source itself names the splits.

    Raises:
        UserError: the source is missing, empty, damaged, or not of a known form.
    """
    with ExitStack() as stack:
        files, refused = list_source_files(source, stack)
        files = {path: read for path, read in files.items() if not HIDDEN_FILES.search(path)}
        files, name = select_inside(files, ingest.inside.strip("/"), source)
        if source.suffix.lower() == ".npz":
            name = source.name
        form, why = (ingest.format, "ingest.format says so") if ingest.format != "auto" else detect_format(files, name)
        if form in IN_ONE_FILE and not name:
            raise UserError(
                f"ingest.inside: form {form} is written in one file; name it, as labels/{IN_ONE_FILE[form]}"
            )
        if form != "folders":
            print(f"ingest: labels are read as {form}: {why}", flush=True)
        items, unfit = IMPORTERS[form](files, name, ingest, own_split)
        if own_split:
            nowhere = "the source says no split for it, as split.by: source wants"
            unfit += [Rejection(item.path, nowhere) for item in items if item.split is None]
            items = [item for item in items if item.split is not None]
        if not items:
            raise UserError(_nothing_found(source / ingest.inside, refused + unfit))
        yield [_blocked(_named(item, ingest), ingest.sequence_block) for item in items], refused + unfit


def select_inside(files: SourceFiles, inside: str, source: Path) -> tuple[SourceFiles, str]:
    """The files below `inside`, named relative to it; and the name of the file that `inside` is, or ''.

    Raises:
        UserError: the source holds nothing of that name.
    """
    if not inside:
        return files, ""
    if inside in files:
        root, _, name = inside.rpartition("/")
        beside = select_inside(files, root, source)[0]
        if not root or any(PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES for path in beside):
            return beside, name
        return files, inside  # as COCO itself has it: annotations/NAME.json, and the images beside that folder
    part = {name.removeprefix(inside + "/"): read for name, read in files.items() if name.startswith(inside + "/")}
    if not part:
        known = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."} or {"(no folders)"}
        raise UserError(f"ingest.inside: {inside} is not in {source}; {did_you_mean(inside, sorted(known)[:20])}")
    return part, ""


def reject_ambiguous_labels(labels: set[str]) -> None:
    """Two spellings of one class, which a person or another file system would take for one."""
    spellings: dict[str, str] = {}
    for label in sorted(labels):
        key = unicodedata.normalize("NFC", label).casefold()
        if key in spellings:
            raise UserError(
                f"the classes {spellings[key]!a} and {label!a} differ only in case or in the encoding of "
                "their letters; give them one name, or names that differ"
            )
        spellings[key] = label


def _named(item: Sample, ingest: Ingest) -> Sample:
    """With the group and the origin that the path names, where the source itself names none."""
    group = item.group if item.group is not None else _in_path(item.path, ingest.group_regex, "group")
    return replace(item, group=group, origin=item.origin or _in_path(item.path, ingest.origin_regex, "origin") or "")


def _in_path(path: str, pattern: str, key: str) -> str | None:
    if not pattern:
        return None
    found = re.search(pattern, path)
    if found is None or not found.group(1):
        raise UserError(f"ingest.{key}: {pattern!r} finds no {key} in {path}; it must name the {key} of every image")
    return found.group(1)


def _blocked(item: Sample, length: int) -> Sample:
    """In one group with its neighbours by number: it stays there whatever images are added later."""
    if length == 1:
        return item
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", item.path)
    if found is None:
        raise UserError(
            f"ingest.sequence_block: {length}, but there is no number in {item.path}, by which images would follow it"
        )
    return replace(item, group=f"{item.group or found[1]}#{int(found[2]) // length * length}")


def _nothing_found(where: Path, refused: list[Rejection]) -> str:
    if not refused:
        return f"ingest.source: {where} holds no files"
    reasons = "; ".join(f"{r.path!a}: {r.reason}" for r in refused[:3])
    return f"ingest.source: {where} holds no labelled image; {len(refused)} files were refused, as {reasons}"
