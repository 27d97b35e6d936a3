"""Import COCO JSON files: boxes, polygons, run-length masks and key points."""

import json
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.dataset.annotations import Annotation, ObjectAnnotation, annotate_mask, decode_rle
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable
from stages.images.polygons import is_coordinate, rasterize_polygons
from stages.importers.sample import Annotate, ImportResult, Sample, split_from_path

Array = np.ndarray[Any, Any]
Json = dict[str, Any]


def import_coco(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import the images that a COCO file lists; an annotation is an object or a set of key points.

    The `file_name` of an image is its path in the source, or the end of exactly one path.

    Args:
        files: files of the source by path.
        name: path of the JSON file.
        ingest: parameters of `ingest`; not used.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: the file is not JSON or not COCO, ids are missing or duplicated, or an annotation refers to a missing
            image.
    """
    data = _parse(files[name](), name)
    categories = {c["id"]: c for c in data["categories"]}
    by_image: dict[Any, list[Json]] = defaultdict(list)
    images = {image["id"]: image for image in data["images"]}
    for annotation in data["annotations"]:
        if annotation.get("image_id") not in images:
            raise UserError(
                f"{name}: annotation {annotation['id']} has image_id {annotation.get('image_id')!r}, which is not the "
                "id of an image in `images`; add the image or remove the annotation"
            )
        by_image[annotation["image_id"]].append(annotation)
    samples, rejected, seen = [], [], set()
    by_name: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_name[PurePosixPath(file).name].append(file)
    for number, image in images.items():
        path = _locate(str(image.get("file_name")), files, by_name)
        if path is None or path in seen:
            rejected.append(
                Rejection(
                    str(image.get("file_name")),
                    f"{name}: "
                    + ("another image has the same file" if path else "no file, or more than one, matches file_name"),
                )
            )
            continue
        seen.add(path)
        samples.append(
            Sample(path, _annotate(by_image[number], categories, name), None, split_from_path(path), files[path])
        )
    folders = {PurePosixPath(path).parent for path in seen}  # other annotation files list the images of other folders
    others = (
        p
        for p in files
        if PurePosixPath(p).suffix.lower() in IMAGE_SUFFIXES and p not in seen and PurePosixPath(p).parent in folders
    )
    return samples, rejected + [Rejection(p, f"is not listed in {name}") for p in others]


def _parse(content: bytes, name: str) -> Json:
    """Parse the file and check the lists and ids that COCO requires.

    Raises:
        UserError: this is not a COCO file, or ids are missing or duplicated.
    """
    try:
        data: Any = json.loads(content)
    except ValueError as error:
        raise UserError(f"{name} is not valid JSON: {error}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise UserError(f"{name} has no list `{key}`, which COCO files of instances or key points require")
        ids = [entry.get("id") if isinstance(entry, dict) else None for entry in data[key]]
        doubled = [number for number, count in Counter(map(str, ids)).items() if count > 1]
        if None in ids or doubled:
            what = "an entry without an id" if None in ids else f"the id {doubled[0]} more than once"
            raise UserError(f"{name}: `{key}` contains {what}; ids must exist and be unique")
    return data


def _locate(written: str, files: SourceFiles, by_name: dict[str, list[str]]) -> str | None:
    """Return the file of a path, or the only file whose path ends with it; None if there is none or several."""
    written = written.replace("\\", "/").removeprefix("./")
    if written in files:
        return written
    ends = [path for path in by_name.get(PurePosixPath(written).name, ()) if path.endswith("/" + written)]
    return ends[0] if len(ends) == 1 else None


def _annotate(annotations: list[Json], categories: dict[Any, Json], name: str) -> Annotate:
    def annotate(height: int, width: int) -> Annotation:
        named = [(a, f"{name}, annotation {a['id']}") for a in annotations]
        for entry, where in named:
            if entry.get("category_id") not in categories:
                raise Unreadable(f"{where}: category {entry.get('category_id')!r} is not in `categories`")
        if any(entry.get("keypoints") for entry, _ in named):
            if len(named) != 1:
                raise Unreadable(
                    f"{named[0][1]}: the image has {len(named)} annotations, but only one is supported for key points; "
                    "crop the image into images of one object each"
                )
            return Annotation(points=_points(named[0][0], categories, named[0][1]))
        return Annotation(shapes=tuple(_shape(entry, categories, height, width, where) for entry, where in named))

    return annotate


def _points(entry: Json, categories: dict[Any, Json], where: str) -> dict[str, tuple[float, float] | None]:
    names = categories[entry["category_id"]].get("keypoints") or []
    values = entry["keypoints"]
    if len(values) != 3 * len(names):
        raise Unreadable(
            f"{where}: `keypoints` contains {quantity(len(values), 'number')}, but the category has "
            f"{quantity(len(names), 'key point')}; each requires x, y and visibility"
        )
    triples = zip(names, values[::3], values[1::3], values[2::3], strict=True)
    return {str(name): (float(x), float(y)) if seen else None for name, x, y, seen in triples}


def _shape(entry: Json, categories: dict[Any, Json], height: int, width: int, where: str) -> ObjectAnnotation:
    label, crowd = str(categories[entry["category_id"]].get("name")), bool(entry.get("iscrowd"))
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        return annotate_mask(label, rasterize_polygons(segmentation, height, width, where), crowd)
    if isinstance(segmentation, dict):
        return annotate_mask(label, _decode_mask(segmentation, height, width, where), crowd)
    box = entry.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(is_coordinate(v) for v in box)
        or box[2] <= 0
        or box[3] <= 0
    ):
        raise Unreadable(f"{where}: the bbox is {box}; x, y, width > 0 and height > 0 are required")
    x, y, w, h = (float(v) for v in box)
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise Unreadable(f"{where}: the bbox {box} is outside the {width}x{height} image")
    return ObjectAnnotation(
        label, (max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)), None, crowd
    )


def _decode_mask(data: Json, height: int, width: int, where: str) -> Array:
    """Return the boolean mask [height, width] of a run-length encoding, compressed or not."""
    size, counts = data.get("size"), data.get("counts")
    if size != [height, width]:
        raise Unreadable(
            f"{where}: the mask has size {size} (height, width), but the image has size [{height}, {width}]"
        )
    try:
        if isinstance(counts, str):
            from pycocotools import mask as coco_mask

            mask_HW: Array = np.asarray(coco_mask.decode({"size": size, "counts": counts.encode()})).astype(bool)
        else:
            mask_HW = decode_rle(counts or (), height, width)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unreadable(f"{where}: the mask cannot be decoded: {error}") from None
    if mask_HW.shape != (height, width) or not mask_HW.any():
        raise Unreadable(f"{where}: the mask covers no pixel")
    return mask_HW
