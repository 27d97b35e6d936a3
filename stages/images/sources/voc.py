"""Pascal VOC: an XML file of boxes per image."""

import re
from pathlib import PurePosixPath
from xml.etree import ElementTree

from stages.frame import UserError
from stages.frame.sections import Ingest
from stages.images.annotations import Annotation, Shape
from stages.images.files import Files, Refusal
from stages.images.reading import SUFFIXES, Unreadable
from stages.images.sources.item import SPLIT_WORDS, Annotate, Found, Item

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(files: Files, name: str, ingest: Ingest, own_split: bool) -> Found:
    """Annotations/NAME.xml beside JPEGImages/NAME.jpg; ImageSets/Main/{train,val,test}.txt name the splits."""
    images = {PurePosixPath(p).stem: p for p in files if PurePosixPath(p).suffix.lower() in SUFFIXES}
    splits = _splits(files)
    items, refused, seen = [], [], set()
    for path in (p for p in files if p.lower().endswith(".xml")):
        key = PurePosixPath(path).stem
        if key not in images:
            refused.append(Refusal(path, f"there is no image named {key}"))
            continue
        seen.add(key)
        items.append(Item(images[key], _annotate(files, path), None, splits.get(key), files[images[key]]))
    return items, refused + [Refusal(p, f"has no file {key}.xml") for key, p in images.items() if key not in seen]


def _splits(files: Files) -> dict[str, str]:
    """Split of each image by name."""
    splits: dict[str, str] = {}
    for path in files:
        found = re.search(r"(^|/)ImageSets/Main/(train|val|test)\.txt$", path)
        for line in files[path]().decode().splitlines() if found else ():
            key, split = line.split()[0] if line.strip() else "", SPLIT_WORDS[found[2]]  # type: ignore[index]
            if key and splits.setdefault(key, split) != split:
                raise UserError(f"{path}: {key} is in {splits[key]} and in {split}; it may be in one split only")
    return splits


def _annotate(files: Files, path: str) -> Annotate:
    def annotate(height: int, width: int) -> Annotation:
        data = files[path]()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise Unreadable(f"{path} declares entities, which can swell without bound; remove the declaration")
        try:
            root = ElementTree.fromstring(data)  # noqa: S314 without entities there is nothing to expand
        except ElementTree.ParseError as error:
            raise Unreadable(f"{path} is not readable XML: {error}") from None
        shapes = (
            _shape(thing, number, path, height, width) for number, thing in enumerate(root.iter("object"), start=1)
        )
        return Annotation(shapes=tuple(shape for shape in shapes if shape))

    return annotate


def _shape(thing: ElementTree.Element, number: int, path: str, height: int, width: int) -> Shape | None:
    """VOC's pixels count from 1 and the last one belongs to the box."""
    label = (thing.findtext("name") or "").strip()
    written = [thing.findtext(f"bndbox/{corner}") for corner in CORNERS]
    try:
        x0, y0, x1, y1 = (float(value or "") for value in written)
    except ValueError:
        raise Unreadable(f"{path}, object {number} ({label}): its box is {written}, not four numbers") from None
    if not label:
        raise Unreadable(f"{path}, object {number} has no name")
    if x1 <= x0 or y1 <= y0:
        print(f"ingest: {path}, object {number} ({label}): the box {written} has no area and was left out", flush=True)
        return None
    if x1 <= 0 or y1 <= 0 or x0 > width or y0 > height:
        raise Unreadable(f"{path}, object {number} ({label}): the box {written} lies outside of {width}x{height}")
    return Shape(label, (max(0.0, x0 - 1), max(0.0, y0 - 1), min(float(width), x1), min(float(height), y1)))
