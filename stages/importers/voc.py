"""Import Pascal VOC: one XML file of boxes per image."""

import re
from dataclasses import replace
from functools import partial
from xml.etree import ElementTree

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.path_parts import stem_of, without_suffix
from stages.dataset.annotations import Annotation, ObjectAnnotation
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import Unreadable, is_image_path
from stages.images.polygons import is_coordinate
from stages.importers.sample import (
    SPLIT_WORDS,
    ImportResult,
    Sample,
    read_label_file,
    read_text,
    unlabelled_samples,
)
from stages.importers.xml_text import parse_xml

IMAGES = re.compile(r"(?i)(^|/)JPEGImages/")
FOLDER = re.compile(r"(?i)(^|(?<=/))(JPEGImages|images?|Annotations?|xmls?|labels?)/")
"""Folders in which the paths of an image and of its annotation file may differ."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def import_voc(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import Annotations/NAME.xml with JPEGImages/NAME.jpg; ImageSets/Main/{train,val,test}.txt define the splits.

    Args:
        files: files of the source by path.
        name: not used; the folders have fixed names.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: two images match the same annotation file, or a list of a split is not valid UTF-8 or shares an image
            with another list.
    """
    paths = [p for p in files if is_image_path(p)]
    paths = [p for p in paths if IMAGES.search(p)] or paths  # other folders contain label images of the same names
    long = len({stem_of(p) for p in paths}) < len(paths)
    images: dict[str, str] = {}
    for path in paths:
        key = _key(path, long)
        if key in images:
            raise UserError(f"{images[key]} and {path} both match {key}.xml; rename one of them")
        images[key] = path
    splits = _splits(files, long)
    samples, rejected, seen = [], [], set()
    for path in (p for p in files if p.lower().endswith(".xml")):
        key = _key(path, long)
        if key not in images or key in seen:
            taken = f"{images[key]} already has another annotation file" if key in seen else f"no image is named {key}"
            rejected.append(Rejection(path, taken))
            continue
        seen.add(key)
        annotate = partial(_annotate, files, path, ingest.crowd == "ignore")
        size, read = partial(_size, files, path), files[images[key]]
        samples.append(Sample(images[key], annotate, None, splits.get(key), read, labelled_size=size))
    others = {path: f"has no file {key}.xml" for key, path in images.items() if key not in seen}
    negatives, unlabelled = unlabelled_samples(files, others, ingest)
    split_of = {images[key]: split for key, split in splits.items() if key in images}
    return samples + [replace(one, split=split_of.get(one.path)) for one in negatives], rejected + unlabelled


def find_pairs(files: SourceFiles) -> list[tuple[str, str]]:
    """Return the images and annotation files of the same name, in any folders.

    Without such files of Pascal VOC, the list is empty.
    """
    images = {stem_of(path): path for path in files if is_image_path(path)}
    texts = [path for path in files if path.lower().endswith(".xml")]
    beside = {without_suffix(path): path for path in images.values()}
    pairs = [(beside.get(text[:-4], images.get(stem_of(text), "")), text) for text in texts]
    pairs = [(image, text) for image, text in pairs if image]
    return pairs if pairs and re.search(rb"<annotation[\s>]", read_label_file(files, pairs[0][1])) else []


def _key(path: str, long: bool) -> str:
    """Return the key that an image and its annotation share.

    The key is the stem of the file or, if names recur in other folders, the path without the folders of either kind.
    """
    return without_suffix(FOLDER.sub("", path)) if long else stem_of(path)


def _splits(files: SourceFiles, long: bool) -> dict[str, str]:
    """Return the split of each image by its key."""
    splits: dict[str, str] = {}
    for path in files:
        match = re.fullmatch(r"(.*/)?ImageSets/Main/(train|val|test)\.txt", path)
        for line in read_text(files, path).splitlines() if match else ():
            if not line.strip():
                continue
            assert match is not None, "only lists are read"
            key = ((match[1] or "") if long else "") + line.split()[0]
            split = SPLIT_WORDS[match[2]]
            if splits.setdefault(key, split) != split:
                raise UserError(f"{path}: {key} is in both {splits[key]} and {split}; remove it from one of them")
    return splits


def _annotate(files: SourceFiles, path: str, ignores_hard: bool, height: int, width: int) -> Annotation:
    root = parse_xml(read_label_file(files, path), path)
    shapes = (
        _shape(element, f"{path}, object {number}", ignores_hard, height, width)
        for number, element in enumerate(root.iter("object"), start=1)
    )
    return Annotation(shapes=tuple(shapes))


def _size(files: SourceFiles, path: str) -> tuple[int, int] | None:
    """Return the height and width that the file states; None if there are none."""
    root = parse_xml(read_label_file(files, path), path)
    height, width = ((root.findtext(f"size/{side}") or "").strip() for side in ("height", "width"))
    is_stated = all(side.isdecimal() and int(side) for side in (height, width))
    return (int(height), int(width)) if is_stated else None


def _shape(element: ElementTree.Element, place: str, ignores_hard: bool, height: int, width: int) -> ObjectAnnotation:
    """Convert one object; VOC counts pixels from 1 and includes the last pixel of the box."""
    label = (element.findtext("name") or "").strip()
    if not label:
        raise Unreadable(f"{place} has no class in its element `name`; add it")
    where = f"{place} ({label})"
    written = [element.findtext(f"bndbox/{corner}") for corner in CORNERS]
    box_text = ", ".join(value or "none" for value in written)
    try:
        corners = [float(value or "") for value in written]
    except ValueError:
        corners = []
    if not corners or not all(is_coordinate(value) for value in corners):
        raise Unreadable(f"{where}: {', '.join(CORNERS)} are {box_text}, which are not four finite numbers")
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        reversed_ = x1 < x0 or y1 < y0
        problem = "has a minimum above its maximum" if reversed_ else "has no area"
        advice = "exchange these corners, or correct them" if reversed_ else "correct it, or remove the object"
        raise Unreadable(f"{where}: the box {box_text} ({', '.join(CORNERS)}) {problem}; {advice}")
    if x1 <= 0 or y1 <= 0 or x0 > width or y0 > height:
        raise Unreadable(f"{where}: the box {box_text} is outside the {width}x{height} image")
    box = (max(0.0, x0 - 1), max(0.0, y0 - 1), min(float(width), x1), min(float(height), y1))
    hard = ignores_hard and (element.findtext("difficult") or "").strip() == "1"  # VOC does not score these
    return ObjectAnnotation(label, box, None, hard)
