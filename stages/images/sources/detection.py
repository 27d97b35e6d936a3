"""How the labels of a source could be read: every reading that the files allow is tried, not guessed from one name."""

import contextlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from stages.frame import UserError
from stages.frame.sections import Columns, Ingest
from stages.images.files import TABLES, Files, Refusal
from stages.images.reading import SUFFIXES
from stages.images.sources import FORMS, Item, below
from stages.images.sources.deeplabcut import is_deeplabcut
from stages.images.sources.item import NOT_DATA, SPLIT_WORDS
from stages.images.sources.pairing import beside, pairings
from stages.images.sources.table import read_table

ABOUT = 0.5  # of the files that the widest reading explains
FEW = 0.2  # distinct labels, as a share of the rows
LABELS = frozenset("label labels class classes category diagnosis species grade level tag tags".split())
GROUPS = frozenset("patient subject animal person individual scene group series video slide specimen".split())
IDS = frozenset("id index nr no number width height size".split())
SEPARATORS = ("|", ";", ",")


@dataclass(frozen=True)
class Reading:
    """One way to read a source."""

    form: str
    inside: str
    why: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Further keys of `ingest`."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Key of `changes`: why it is so."""
    own_split: bool = False
    """The source itself names all three splits."""
    explains: int = 0
    """How many files it gives a meaning to."""
    items: tuple[Item, ...] = ()
    refused: tuple[Refusal, ...] = ()


def readings(files: Files, ingest: Ingest) -> list[Reading]:
    """All readings that give images with labels, the one to propose first.

    Args:
        files: of the source, while it is open.
        ingest: the section whose other keys hold.
    """
    files = {path: read for path, read in files.items() if not NOT_DATA.search(path)}
    tried = [read for one in _candidates(files) if (read := _tried(files, one, ingest)) is not None]
    widest = max((one.explains for one in tried), default=0)

    def order(one: Reading) -> tuple[bool, int, int, int]:
        return one.explains < ABOUT * widest, list(FORMS).index(one.form), -one.explains, len(one.refused)

    distinct: dict[tuple[str, tuple[str, ...]], Reading] = {}
    for one in sorted(tried, key=order):
        distinct.setdefault((one.form, tuple(item.path for item in one.items)), one)
    return list(distinct.values())


def _tried(files: Files, one: Reading, ingest: Ingest) -> Reading | None:
    """With the images that it gives; None where it gives none."""
    changed = Ingest.model_validate(ingest.model_dump() | one.changes | {"form": one.form, "inside": one.inside})
    try:
        part, name = below(files, one.inside, Path())
        with contextlib.redirect_stdout(io.StringIO()):
            items, refused = FORMS[one.form](part, name, changed, one.own_split)
    except UserError:
        return None
    complete = bool(items) and {item.split for item in items} == set(SPLIT_WORDS.values())
    if not items or (one.own_split and not complete):
        return None
    explains = one.explains or len(items)
    return replace(one, own_split=complete, explains=explains, items=tuple(items), refused=tuple(refused))


def _candidates(files: Files) -> Iterator[Reading]:
    yield from _of_files(files)
    yield from _of_annotation_folders(files)
    yield from _of_pairs(files)
    yield from _of_class_folders(files)


def _of_files(files: Files) -> Iterator[Reading]:
    """A table, a COCO file or an npz."""
    for path in files:
        lower = path.lower()
        if lower.endswith(".npz"):
            yield Reading("arrays", path, "it holds arrays of images and labels")
        elif lower.endswith(".json") and _is_coco(files[path]()):
            yield Reading("coco", path, "it lists images, annotations and categories")
        elif lower.endswith(".csv") and is_deeplabcut(files[path]()):
            yield Reading("deeplabcut", path, "it begins with scorer, bodyparts, coords")
        elif lower.endswith(TABLES):
            yield from _of_table(files, path)


def _is_coco(data: bytes) -> bool:
    try:
        held = json.loads(data)
    except ValueError:
        return False
    return isinstance(held, dict) and all(isinstance(held.get(k), list) for k in ("images", "annotations"))


def _of_annotation_folders(files: Files) -> Iterator[Reading]:
    for form, folder, ending, why in (
        ("voc", "Annotations", ".xml", "there are XML files in a folder Annotations"),
        ("yolo", "labels", ".txt", "there are text files in a folder labels"),
    ):
        places = set()
        for path in files:
            parts = PurePosixPath(path).parts
            if path.lower().endswith(ending) and folder in parts[:-1]:
                places.add("/".join(parts[: parts.index(folder)]))
        for inside in sorted(places):
            yield Reading(form, inside, why)


def _of_pairs(files: Files) -> Iterator[Reading]:
    for pairing in pairings(files):
        found = beside(files, pairing)
        if found is None:
            continue
        images, targets = (p.removeprefix(f"{pairing.root}/") for p in (pairing.images, pairing.targets))
        changes: dict[str, Any] = {"images": images, "targets": targets}
        reasons = {"targets": f"{len(pairing.files)} images have such a file"}
        if found.values and set(found.values) != {0}:
            changes["values"] = _named(found.values)
            shares = ", ".join(f"{value} covers {share:.0%}" for value, share in found.values.items())
            reasons["values"] = f"the names are yours to give: {shares}"
        why = {
            "masks": "they hold few values, as masks do",
            "instances": "several files of two values belong to an image: a mask a thing",
            "dots": "they hold small bright dots on black",
            "pairs": "they are pictures of the same scenes; which of the two is asked is yours to say",
        }
        yield Reading(found.form, pairing.root, why[found.form], changes, reasons, explains=pairing.explains)


def _named(values: dict[int, float]) -> dict[int, str]:
    if len(values) == 2 and 0 in values:
        return {value: "background" if value == 0 else "foreground" for value in values}
    return {value: "background" if value == 0 else f"class{value}" for value in values}


def _of_class_folders(files: Files) -> Iterator[Reading]:
    """A folder whose folders hold images."""
    inner: dict[str, set[str]] = defaultdict(set)
    for path in files:
        parts = PurePosixPath(path).parts
        if PurePosixPath(path).suffix.lower() in SUFFIXES:
            for depth in range(len(parts) - 1):
                inner["/".join(parts[:depth])].add(parts[depth])
    for inside, folders in inner.items():
        splits = {folder for folder in folders if folder.lower() in SPLIT_WORDS}
        if len(splits) > 1:
            yield Reading("folders", inside, f"the folders {', '.join(sorted(splits))} name splits", own_split=True)
        elif len(folders) > 1:
            yield Reading("folders", inside, f"{len(folders)} folders hold images, a class each")


def _of_table(files: Files, path: str) -> Iterator[Reading]:
    try:
        rows = read_table(files[path](), path)
        part, _ = below(files, path, Path())
    except UserError:
        return
    images = {name for name in part if PurePosixPath(name).suffix.lower() in SUFFIXES}
    found = _path_column(rows, images)
    if found is None:
        return
    column, folder = found
    columns, reasons = _columns(rows.drop(columns=column), len(rows))
    changes: dict[str, Any] = {"columns": {**columns, "path": column, "folder": folder}}
    beyond = sorted(name for name in images if not name.startswith(f"{folder}/")) if folder else []
    if beyond:
        changes["images"] = f"{folder}/**"
        reasons["images"] = f"the table is of these; {len(beyond)} images lie elsewhere, as {beyond[0]}"
    if columns["label"] or columns["scalars"] or columns["points"]:
        yield Reading("table", path, f"its column {column} names images", changes, reasons)


def _path_column(rows: pd.DataFrame, images: set[str]) -> tuple[str, str] | None:
    """The column that names images, and the folder in which its paths begin."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[PurePosixPath(image).name].append(image)
    best: tuple[int, str, str] = (0, "", "")
    for column in rows.columns:
        folders: Counter[str] = Counter()
        for cell in rows[column]:
            written = cell.replace("\\", "/").removeprefix("./")
            ends = (i for i in by_name[PurePosixPath(written).name] if i == written or i.endswith(f"/{written}"))
            folders.update({image.removesuffix(written).rstrip("/") for image in ends})
        for folder, count in folders.items():
            best = max(best, (count, str(column), folder), key=lambda found: found[0])
    return best[1:] if best[0] >= len(rows) / 2 else None


def _columns(rows: pd.DataFrame, count: int) -> tuple[dict[str, Any], dict[str, str]]:
    """What the other columns are taken for, and why."""
    numbers = {name: pd.to_numeric(rows[name].replace("", None), errors="coerce") for name in rows.columns}
    is_number = {name: bool(values.notna().any() and (values.notna() | (rows[name] == "")).all())
                 for name, values in numbers.items()}  # fmt: skip
    words = {name: set(str(name).lower().replace("-", "_").split("_")) for name in rows.columns}
    plain: dict[str, Any] = {"label": None, "separator": "", "scalars": [], "points": [], "group": None, "split": None}
    found = Columns(path="path", folder="", **plain).model_dump() | plain
    reasons = {}
    for name in rows.columns:
        cells = rows[name].str.strip()
        if set(cells.str.lower()) <= set(SPLIT_WORDS):
            found["split"] = name
        elif words[name] & GROUPS and found["group"] is None:
            found["group"] = name
            reasons["columns.group"] = "so that no one is in two splits; null if it means something else"
    taken = {found["split"], found["group"]}
    free = [name for name in rows.columns if name not in taken]
    found["points"] = [
        name[:-2] for name in free if name.endswith("_x") and is_number[name] and is_number.get(f"{name[:-2]}_y")
    ]
    named = [name for name in free if words[name] & LABELS]
    texts = [name for name in free if not is_number[name] and 1 < rows[name].nunique() <= FEW * count]
    measured = [name for name in free if is_number[name] and not words[name] & IDS and (rows[name] != "").all()]
    if named:
        found["label"] = named[0]
        separator = _separator(rows[named[0]])
        if separator:
            found["separator"] = separator
            reasons["columns.separator"] = "cells hold several words that recur"
    elif found["points"]:
        pass
    elif measured:
        found["scalars"] = measured
    elif texts:
        found["label"] = texts[0]
    others = [
        name for name in free if name not in {found["label"], *found["scalars"]} and name[:-2] not in found["points"]
    ]
    if others:
        reasons["columns"] = f"not used: {', '.join(others)}"
    return found, reasons


def _separator(cells: pd.Series) -> str:
    """What parts several classes in a cell; empty where nothing does."""
    for sign in SEPARATORS:
        parts = cells.str.split(sign, regex=False)
        if (parts.str.len() > 1).mean() >= 0.05:
            vocabulary = {part.strip() for row in parts for part in row}
            if len(vocabulary) < cells.nunique() or len(vocabulary) <= FEW * len(cells):
                return sign
    return ""
