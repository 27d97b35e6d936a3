"""Import YOLO labels: one text file per image, one row per object, coordinates relative to the image size."""

import io
import json
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.path_parts import name_of, parent_of, stem_of, suffix_of, without_suffix
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import Annotation, ObjectAnnotation, annotate_mask
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import Unreadable, is_image_path
from stages.images.polygons import rasterize_polygons
from stages.importers.image_paths import ImageFinder
from stages.importers.sample import (
    SPLIT_WORDS,
    ImportResult,
    Sample,
    fixed_annotation,
    read_label_file,
    read_text,
    split_from_path,
    unlabelled_samples,
)

MAX_POINTS = 1000
CLASS_LISTS = ("classes.txt", "_darknet.labels")
NOTES = "notes.json"  # written by Label Studio, with the number of each class
OTHER_TEXTS = frozenset("classes predefined_classes train val valid validation test readme".split())
"""Names of text files that are not labels of an image."""


@dataclass(frozen=True)
class YoloClasses:
    """Names of the classes by number, and of the key points, from the files beside the labels."""

    names: dict[int, str]
    points: tuple[str, ...] = ()
    """Names of the key points; empty if the labels are boxes or polygons."""
    values: int = 0
    """Numbers of a key point: 2, or 3 with the visibility."""


@dataclass(frozen=True)
class YoloFiles:
    """Images of a source with their label files."""

    labels: dict[str, str]
    """Label file by image."""
    unlabelled: dict[str, str]
    """Expected label file by image, for images of the same folders that have none."""
    orphans: tuple[str, ...]
    """Label files without an image."""


def import_yolo(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import images with one text file each: labels/.../NAME.txt for images/.../NAME.jpg, or in the same folder.

    The names of the classes are in a YAML file with `names`, in classes.txt, notes.json or a file NAME.names. Rows
    are boxes or polygons, or key points if the YAML file has `kpt_shape`. Folders named train, val or test define the
    splits, or else the lists of images train.txt, val.txt (or valid.txt) and test.txt, as Darknet reads them.

    Args:
        files: files of the source by path.
        name: not used; the files are found by their names.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; an image must not be in two lists then.

    Raises:
        Unreadable: a file of class names or a list of images cannot be read.
        UserError: the class names are missing, invalid or contradictory, no image has a label file, or an image is in
            the lists of two splits.
    """
    classes, found = _read_classes(files), find_label_files(files)
    if not found.labels:
        raise UserError(
            f"none of {quantity(len(found.unlabelled), 'image')} has a label file: images/NAME.jpg requires "
            "labels/NAME.txt, and an image in another folder requires NAME.txt beside it; check ingest.inside"
        )
    listed = _listed_splits(files, {*found.labels.values()}, has_split)
    samples = [
        Sample(
            path,
            partial(_annotate, files, labels, classes),
            None,
            split_from_path(path) or listed.get(path),
            files[path],
        )
        for path, labels in found.labels.items()
    ]
    others = {path: f"has no file {labels}" for path, labels in found.unlabelled.items()}
    negatives, rejected = unlabelled_samples(files, others, ingest)
    if classes.points:
        none = fixed_annotation(Annotation(points=dict.fromkeys(classes.points)))
        negatives = [replace(sample, annotate=none) for sample in negatives]
    negatives = [replace(sample, split=sample.split or listed.get(sample.path)) for sample in negatives]
    return samples + negatives, rejected + [Rejection(path, "no image has the same name") for path in found.orphans]


def find_label_files(files: SourceFiles) -> YoloFiles:
    """Find the label file of each image: below `labels` for an image below `images`, or in the same folder."""
    labels, unlabelled = {}, {}
    for path in (path for path in files if is_image_path(path)):
        sibling = f"{without_suffix(path)}.txt"
        apart = re.sub(r"(^|/)images/", r"\1labels/", sibling, count=1)
        if apart in files or sibling in files:
            labels[path] = apart if apart in files else sibling
        else:
            unlabelled[path] = apart
    folders = {parent_of(path) for path in labels}  # other folders may contain anything
    if not all(re.search(r"(^|/)images/", path) for path in labels):
        unlabelled = {path: text for path, text in unlabelled.items() if parent_of(path) in folders}
    elif labels:
        unlabelled = {path: text for path, text in unlabelled.items() if re.search(r"(^|/)images/", path)}
    folders |= {parent_of(path) for path in labels.values()}
    orphans = (
        path
        for path in files
        if path.lower().endswith(".txt")
        and (parent_of(path) in folders or re.search(r"(^|/)labels/", path))
        and stem_of(path).lower() not in OTHER_TEXTS
    )
    used = set(labels.values())
    return YoloFiles(labels, unlabelled, tuple(path for path in orphans if path not in used))


def _listed_splits(files: SourceFiles, labels: set[str], has_split: bool) -> dict[str, str]:
    """Return the split of each image that a text file named train, val or test lists.

    Lines without an image of the source are skipped: a list may belong to a larger set of images.
    """
    finder, splits = ImageFinder(files), dict[str, str]()
    for path in sorted(files):
        split = SPLIT_WORDS.get(stem_of(path).lower())
        if split is None or path in labels or not path.lower().endswith(".txt"):
            continue
        lines = (line.strip() for line in read_text(files, path).splitlines())
        for image in finder.find_all(filter(None, lines))[0].values():
            if has_split and splits.get(image, split) != split:
                raise UserError(f"{path}: {image} is in both {splits[image]} and {split}; remove it from one of them")
            splits[image] = split
    return splits


def names_classes(path: str) -> bool:
    """Return whether a file may contain the names of the classes."""
    return name_of(path) in (*CLASS_LISTS, NOTES) or suffix_of(path).lower() in (".names", ".yaml", ".yml")


def _read_classes(files: SourceFiles) -> YoloClasses:
    """Read the class names; all files that contain them must agree."""
    known: dict[str, YoloClasses] = {}
    for path in filter(names_classes, sorted(files)):
        if suffix_of(path).lower() in (".yaml", ".yml"):
            if (classes := _from_yaml(read_label_file(files, path), path)) is not None:
                known[path] = classes
        elif name_of(path) == NOTES:
            known[path] = YoloClasses(_from_notes(read_text(files, path), path))
        else:
            lines = (line.strip() for line in read_text(files, path).splitlines())
            known[path] = YoloClasses(dict(enumerate(line for line in lines if line)))
    if not known:
        raise UserError("no class names were found: add a data.yaml with `names`, or a classes.txt")
    (first, classes), *others = sorted(known.items(), key=lambda item: -len(item[1].points))
    for path, other in others:
        if other.names != classes.names:
            raise UserError(f"{first} and {path} contain different class names; keep the right one of these files")
    return classes


def _from_notes(text: str, path: str) -> dict[int, str]:
    """Return the class names by number from a file of Label Studio."""
    try:
        content: Any = json.loads(text)
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise UserError(f"{path} has no list `categories` of id and name, as Label Studio writes it: {error}") from None
    if not all(type(number) is int and isinstance(label, str) and label for number, label in names.items()):
        raise UserError(f"{path}: `categories` are {names!r:.60}; each requires a number as id, and a name")
    return names


def _from_yaml(data: bytes, path: str) -> YoloClasses | None:
    """Return the classes of a YAML file; None if it has none and is not named as their usual file."""
    if stem_of(path) not in ("data", "dataset") and not re.search(rb"(?m)^names\s*:", data):
        return None
    try:
        content: Any = YAML(typ="safe", pure=True).load(io.BytesIO(data))
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    names: Any = content.get("names") if isinstance(content, dict) else None
    pairs = list(names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else ()))
    if not pairs or not all(
        isinstance(number, int) and isinstance(label, str | int) and not isinstance(label, bool) and label != ""
        for number, label in pairs
    ):
        found = "is missing" if names is None else f"is {names!r:.60}" if isinstance(names, str | int) else "is invalid"
        raise UserError(
            f"{path}: `names` {found}; a list of the class names, or a mapping from class number to name, is required "
            "(with names such as `true` or `1.5` in quotes)"
        )
    points, values = _key_points(content, path)
    return YoloClasses({number: str(label) for number, label in pairs}, points, values)


def _key_points(content: dict[str, Any], path: str) -> tuple[tuple[str, ...], int]:
    """Return the names of the key points, and the numbers of each."""
    shape: Any = content.get("kpt_shape")
    if shape is None:
        return (), 0
    is_shape = isinstance(shape, list) and len(shape) == 2 and all(isinstance(value, int) for value in shape)
    if not is_shape or not 1 <= shape[0] <= MAX_POINTS or shape[1] not in (2, 3):
        raise UserError(
            f"{path}: `kpt_shape` is invalid; [number of key points (1 to {MAX_POINTS}), 2 or 3] is required"
        )
    names: Any = content.get("kpt_names")
    if names is None:
        return tuple(f"point{number}" for number in range(shape[0])), shape[1]
    if isinstance(names, dict) and names:  # the names by class
        names, *others = names.values()
        names = names if all(other == names for other in others) else None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len({*names}) != shape[0]:
        raise UserError(f"{path}: `kpt_names` must be a list of {shape[0]} different names, as `kpt_shape` states")
    return tuple(names), shape[1]


def _annotate(files: SourceFiles, path: str, classes: YoloClasses, height: int, width: int) -> Annotation:
    lines = read_label_file(files, path).decode("utf-8-sig", errors="replace").splitlines()
    rows = [(line, f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not classes.points:
        return Annotation(shapes=tuple(_shape(line, where, classes.names, height, width) for line, where in rows))
    if len(rows) > 1:
        raise Unreadable(
            f"{path} contains {len(rows)} objects, but only one is supported for key points; crop the image into "
            "images of one object each"
        )
    points = [_points(line, where, classes, height, width) for line, where in rows]
    return Annotation(points=points[0] if points else dict.fromkeys(classes.points))


def _numbers(line: str, where: str, names: dict[int, str]) -> tuple[str, list[float]]:
    """Return the class of a row and the numbers after it."""
    try:
        number, *values = (float(cell) for cell in line.split())
    except ValueError:
        raise Unreadable(f"{where}: {line[:60]!r} is not a list of numbers") from None
    if number not in names:
        known = list_names((f"{k} {v}" for k, v in names.items()), 10)
        defined = f"the classes are {known}" if names else "the list of class names is empty"
        raise Unreadable(f"{where}: class {number:g} is not defined; {defined}")
    return names[int(number)], values


def _check_relative(values: list[float], where: str) -> None:
    if wrong := [value for value in values if not -0.001 <= value <= 1.001]:
        raise Unreadable(f"{where}: {wrong[0]:g} is not between 0 and 1; coordinates are relative to the image size")


def _points(
    line: str, where: str, classes: YoloClasses, height: int, width: int
) -> dict[str, tuple[float, float] | None]:
    """Return the key points of a row; without a visibility, a point at 0, 0 or at negative coordinates is missing."""
    _, values = _numbers(line, where, classes.names)
    step, names = classes.values, classes.points
    if len(values) != 4 + step * len(names):
        raise Unreadable(
            f"{where}: {quantity(len(values), 'number')} after the class; a box and {quantity(len(names), 'key point')}"
            f" of {step} numbers require {4 + step * len(names)}"
        )
    points: dict[str, tuple[float, float] | None] = {}
    for name, start in zip(names, range(4, len(values), step), strict=True):
        x, y, *seen = values[start : start + step]
        if seen and seen[0] not in (0, 1, 2):
            raise Unreadable(f"{where}: the visibility of {name} is {seen[0]:g}; 0, 1 or 2 is required")
        if seen[0] == 0 if seen else x < 0 or y < 0 or x == y == 0:
            points[name] = None
            continue
        _check_relative([x, y], where)
        points[name] = (x * width, y * height)  # not half a pixel less: converters divide the coordinates of COCO
    return points


def _shape(line: str, where: str, names: dict[int, str], height: int, width: int) -> ObjectAnnotation:
    label, values = _numbers(line, where, names)
    _check_relative(values, where)
    if len(values) < 4 or (len(values) > 4 and len(values) % 2):
        found = quantity(len(values), "number")
        raise Unreadable(f"{where}: {found} after the class; a box requires 4, a polygon 6, 8, 10, ...")
    if len(values) == 4:
        x, y, w, h = values
        x0, x1 = (min(max(0.0, edge * width), float(width)) for edge in (x - w / 2, x + w / 2))
        y0, y1 = (min(max(0.0, edge * height), float(height)) for edge in (y - h / 2, y + h / 2))
        if x0 >= x1 or y0 >= y1:
            raise Unreadable(
                f"{where}: the box has width {w:g} and height {h:g}; both must be greater than 0, and the box inside "
                "the image"
            )
        return ObjectAnnotation(label, (x0, y0, x1, y1))
    corners_P2 = np.clip(np.array(values), 0, 1).reshape(-1, 2) * [width, height]
    return annotate_mask(label, rasterize_polygons([corners_P2.ravel().tolist()], height, width, where))
