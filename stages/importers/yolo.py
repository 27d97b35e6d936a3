"""Import YOLO labels: one text file per image, one line per object, coordinates relative to the image size."""

import io
import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.dataset.annotations import Annotation, ObjectAnnotation, annotate_mask
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable
from stages.images.polygons import rasterize_polygons
from stages.importers.sample import Annotate, ImportResult, Sample, read_text, split_from_path


def import_yolo(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import images/.../NAME.jpg with labels/.../NAME.txt; class names are in data.yaml or classes.txt.

    Args:
        files: files of the source by path.
        name: not used; the folders have fixed names.
        ingest: parameters of `ingest`; not used.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: the class names are missing or cannot be read.
    """
    names = _names(files)
    samples, rejected, seen = [], [], set()
    for path in (
        p for p in files if PurePosixPath(p).suffix.lower() in IMAGE_SUFFIXES and re.search(r"(^|/)images/", p)
    ):
        labels = re.sub(r"(^|/)images/", r"\1labels/", path, count=1)
        labels = str(PurePosixPath(labels).with_suffix(".txt"))
        if labels not in files:
            rejected.append(
                Rejection(path, f"has no file {labels}; add an empty file if the image contains no objects")
            )
            continue
        seen.add(labels)
        samples.append(Sample(path, _annotate(files, labels, names), None, split_from_path(path), files[path]))
    written = (p for p in files if re.search(r"(^|/)labels/.*\.txt$", p) and PurePosixPath(p).name != "classes.txt")
    orphans = (p for p in written if p not in seen)
    return samples, rejected + [Rejection(p, "no image has the same name") for p in orphans]


def _names(files: SourceFiles) -> dict[int, str]:
    for path in sorted(files):
        if PurePosixPath(path).name in ("data.yaml", "dataset.yaml", "data.yml"):
            try:
                content: Any = YAML(typ="safe", pure=True).load(io.BytesIO(files[path]()))
            except (YAMLError, ValueError) as error:
                raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
            names: Any = content.get("names") if isinstance(content, dict) else None
            try:
                pairs = names.items() if isinstance(names, dict) else enumerate(names)
                return {int(number): str(label) for number, label in pairs}
            except (TypeError, ValueError):
                found = "is missing" if names is None else f"is {repr(names)[:60]}"
                raise UserError(
                    f"{path}: `names` {found}; a list of the class names, or a mapping from class number to name, is "
                    "required"
                ) from None
        if PurePosixPath(path).name == "classes.txt":
            return dict(enumerate(line.strip() for line in read_text(files, path).splitlines() if line.strip()))
    raise UserError("no class names were found: add a data.yaml with `names`, or a classes.txt")


def _annotate(files: SourceFiles, path: str, names: dict[int, str]) -> Annotate:
    def annotate(height: int, width: int) -> Annotation:
        lines = files[path]().decode("utf-8-sig", errors="replace").splitlines()
        shapes = (
            _shape(line, f"{path} line {n}", names, height, width) for n, line in enumerate(lines, 1) if line.strip()
        )
        return Annotation(shapes=tuple(shapes))

    return annotate


def _shape(line: str, where: str, names: dict[int, str], height: int, width: int) -> ObjectAnnotation:
    try:
        number, *values = (float(cell) for cell in line.split())
    except ValueError:
        raise Unreadable(f"{where}: {line[:60]!r} is not a list of numbers") from None
    if number not in names:
        known = ", ".join(f"{k} {v}" for k, v in list(names.items())[:10])
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        defined = f"the classes are {known}{more}" if names else "the list of class names is empty"
        raise Unreadable(f"{where}: class {number:g} is not defined; {defined}")
    wrong = [v for v in values if not -0.001 <= v <= 1.001]
    if wrong or len(values) < 4 or (len(values) > 4 and len(values) % 2):
        what = (
            f"{wrong[0]:g} is not between 0 and 1; coordinates are relative to the image size"
            if wrong
            else f"{quantity(len(values), 'number')} after the class; a box requires 4, a polygon 6, 8, 10, ..."
        )
        raise Unreadable(f"{where}: {what}")
    label = names[int(number)]
    if len(values) == 4:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        if w <= 0 or h <= 0:
            raise Unreadable(f"{where}: the box has width {w:g} and height {h:g}; both must be greater than 0")
        return ObjectAnnotation(
            label, (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
        )
    corners_P2 = np.clip(np.array(values), 0, 1).reshape(-1, 2) * [width, height]
    return annotate_mask(label, rasterize_polygons([corners_P2.ravel().tolist()], height, width, where))
