"""COCO JSON: boxes, polygons, run lengths, key points."""

import json
import math
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation, ObjectAnnotation, bounding_box, decode_rle, encode_rle
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable
from stages.importers.sample import Annotate, ImportResult, Sample, split_from_path

Json = dict[str, Any]
FAR = 1e6  # pixels; coordinates beyond it make rasterizers hang


def import_coco(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """Images by `file_name` beside the JSON file; an annotation is a thing, or key points where an image has one."""
    data = _parsed(files[name](), name)
    categories = {c["id"]: c for c in data["categories"]}
    by_image: dict[Any, list[Json]] = defaultdict(list)
    images = {image["id"]: image for image in data["images"]}
    for annotation in data["annotations"]:
        if annotation.get("image_id") not in images:
            raise UserError(
                f"{name}: annotation {annotation['id']} is of image {annotation.get('image_id')!r}, which is not there"
            )
        by_image[annotation["image_id"]].append(annotation)
    items, refused, seen = [], [], set()
    by_name: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_name[PurePosixPath(file).name].append(file)
    for number, image in images.items():
        path = _located(str(image.get("file_name")), files, by_name)
        if path is None or path in seen:
            refused.append(
                Rejection(
                    str(image.get("file_name")),
                    f"{name}: {'two images are this file' if path else 'there is no such file'}",
                )
            )
            continue
        seen.add(path)
        items.append(
            Sample(path, _annotate(by_image[number], categories, name), None, split_from_path(path), files[path])
        )
    folders = {PurePosixPath(path).parent for path in seen}  # the images of other files of annotations lie elsewhere
    others = (
        p
        for p in files
        if PurePosixPath(p).suffix.lower() in IMAGE_SUFFIXES and p not in seen and PurePosixPath(p).parent in folders
    )
    return items, refused + [Rejection(p, f"is not listed in {name}") for p in others]


def _parsed(data: bytes, name: str) -> Json:
    """The file, with what every line of it must have.

    Raises:
        UserError: it is no COCO file, or ids are missing or doubled.
    """
    try:
        held = json.loads(data)
    except ValueError as error:
        raise UserError(f"{name} is not readable JSON: {error}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(held, dict) or not isinstance(held.get(key), list):
            raise UserError(f"{name} has no list `{key}`; a COCO file of instances or key points has one")
        ids = [entry.get("id") if isinstance(entry, dict) else None for entry in held[key]]
        doubled = [number for number, count in Counter(map(str, ids)).items() if count > 1]
        if None in ids or doubled:
            what = "an entry without id" if None in ids else f"the id {doubled[0]} twice"
            raise UserError(f"{name}: `{key}` holds {what}; ids must be there and differ")
    return held


def _located(written: str, files: SourceFiles, by_name: dict[str, list[str]]) -> str | None:
    """The file of that path, or the only one whose path ends so."""
    written = written.replace("\\", "/").removeprefix("./")
    if written in files:
        return written
    ends = [path for path in by_name.get(PurePosixPath(written).name, ()) if path.endswith("/" + written)]
    return ends[0] if len(ends) == 1 else None


def _annotate(annotations: list[Json], categories: dict[Any, Json], name: str) -> Annotate:
    def annotate(height: int, width: int) -> Annotation:
        named = [(a, f"{name}, annotation {a['id']}") for a in annotations]
        for one, where in named:
            if one.get("category_id") not in categories:
                raise Unreadable(f"{where}: category {one.get('category_id')!r} is not in the list of categories")
        if any(one.get("keypoints") for one, _ in named):
            if len(named) != 1:
                raise Unreadable(
                    f"{named[0][1]}: {len(named)} things with key points; one an image is read: crop them apart"
                )
            return Annotation(points=_points(named[0][0], categories, named[0][1]))
        return Annotation(shapes=tuple(_shape(one, categories, height, width, where) for one, where in named))

    return annotate


def _points(one: Json, categories: dict[Any, Json], where: str) -> dict[str, tuple[float, float] | None]:
    names = categories[one["category_id"]].get("keypoints") or []
    values = one["keypoints"]
    if len(values) != 3 * len(names):
        raise Unreadable(f"{where}: {len(values)} numbers for {len(names)} key points; each has x, y and visibility")
    triples = zip(names, values[::3], values[1::3], values[2::3], strict=True)
    return {str(name): (float(x), float(y)) if seen else None for name, x, y, seen in triples}


def _shape(one: Json, categories: dict[Any, Json], height: int, width: int, where: str) -> ObjectAnnotation:
    label, crowd = str(categories[one["category_id"]].get("name")), bool(one.get("iscrowd"))
    spec = one.get("segmentation")
    if isinstance(spec, list) and spec:
        return polygon_mask(spec, label, height, width, where, crowd)
    if isinstance(spec, dict):
        return _of_runs(spec, label, height, width, where, crowd)
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_near(v) for v in box) or box[2] <= 0 or box[3] <= 0:
        raise Unreadable(f"{where}: its bbox is {box}; x, y, width > 0 and height > 0 are needed")
    x, y, w, h = (float(v) for v in box)
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise Unreadable(f"{where}: its bbox {box} lies outside of {width}x{height}")
    return ObjectAnnotation(
        label, (max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)), None, crowd
    )


def _is_near(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < FAR


def polygon_mask(
    polygons: list[Any], label: str, height: int, width: int, where: str, crowd: bool = False
) -> ObjectAnnotation:
    """Polygons of one thing, each x1, y1, x2, y2 ..., as a shape with its mask.

    Raises:
        Unreadable: fewer than three corners, a coordinate that is no number or far away, or no pixel inside.
    """
    from pycocotools import mask as coco_mask

    for polygon in polygons:
        if (
            not isinstance(polygon, list)
            or len(polygon) < 6
            or len(polygon) % 2
            or not all(_is_near(v) for v in polygon)
        ):
            raise Unreadable(f"{where}: the polygon {str(polygon)[:60]} is no list of three corners or more, x and y")
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    mask_HW = coco_mask.decode(runs).astype(bool)
    if not mask_HW.any():
        raise Unreadable(f"{where}: its outline covers no pixel of {width}x{height}")
    return ObjectAnnotation(label, bounding_box(mask_HW), encode_rle(mask_HW), crowd)


def _of_runs(held: Json, label: str, height: int, width: int, where: str, crowd: bool) -> ObjectAnnotation:
    size, counts = held.get("size"), held.get("counts")
    if size != [height, width]:
        raise Unreadable(f"{where}: its mask is of {size} (height, width), the image of [{height}, {width}]")
    try:
        if isinstance(counts, str):
            from pycocotools import mask as coco_mask

            mask_HW = np.asarray(coco_mask.decode({"size": size, "counts": counts.encode()})).astype(bool)
        else:
            mask_HW = decode_rle(counts or (), height, width)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unreadable(f"{where}: its run lengths cannot be read: {error}") from None
    if mask_HW.shape != (height, width) or not mask_HW.any():
        raise Unreadable(f"{where}: its mask covers no pixel")
    return ObjectAnnotation(label, bounding_box(mask_HW), encode_rle(mask_HW), crowd)
