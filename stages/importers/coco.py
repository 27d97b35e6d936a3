"""Import COCO JSON files: boxes, polygons, run-length masks, key points, and classes of whole images."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.path_parts import parent_of
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import Annotation, ObjectAnnotation, annotate_mask
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import Unreadable, is_image_path
from stages.images.polygons import is_coordinate, rasterize_polygons
from stages.importers.coco_groups import propose_group_key
from stages.importers.coco_masks import decode_coco_mask
from stages.importers.image_paths import ImageFinder
from stages.importers.label_files_of_splits import files_of_pattern, files_of_split, split_in_name
from stages.importers.sample import (
    ImportResult,
    Sample,
    fixed_annotation,
    read_label_file,
    split_from_path,
    unlabelled_samples,
)

Json = dict[str, Any]
MAX_LISTED = 3  # files that a message names
FEWEST_GROUPS = 2  # values of a key that groups images with classes of whole images, without a param
MAX_CROWD_SHARE = 0.5  # share of crowds among the objects above which `iscrowd` cannot mean groups of objects


@dataclass(frozen=True)
class _CocoFile:
    """A parsed COCO file."""

    name: str
    """Path of the file."""
    content: Json
    split: str | None
    """Split that its name or folder denotes, if it is one of several files; None: that of each image."""

    @cached_property
    def categories(self) -> dict[Any, Json]:
        """Categories by id."""
        return {category["id"]: category for category in self.content["categories"]}

    @cached_property
    def annotations_of(self) -> dict[Any, list[Json]]:
        """Annotations by id of their image."""
        found: dict[Any, list[Json]] = defaultdict(list)
        for annotation in self.content["annotations"]:
            found[annotation["image_id"]].append(annotation)
        return found

    @cached_property
    def group_key(self) -> str:
        """Key that identifies the place or sequence of every image; empty if there is none."""
        return propose_group_key(self.content, FEWEST_GROUPS)[0]


def import_coco(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import the images that COCO files list; an annotation is an object or a set of key points.

    The `file_name` of an image is its path in the source, or leads to exactly one file (`ImageFinder`). Without `name`,
    all files that match the pattern `ingest.targets` are read, such as one per split.
    If no annotation has a box, a mask or key points, as in files of camera traps, they are classes of whole images.

    Args:
        files: files of the source by path.
        name: path of the JSON file; empty to read those of the pattern.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        Unreadable: a file cannot be read.
        UserError: a file is not JSON or not COCO, ids or names are missing or invalid, there are no annotations, an
            annotation refers to a missing image, an image has no `ingest.coco_group`, or the pattern matches no file.
    """
    names = [name] if name else files_of_pattern(files, ingest.targets)
    parsed = [
        _CocoFile(one, _parse(read_label_file(files, one), one), None if name else split_in_name(one)) for one in names
    ]
    annotations = [entry for one in parsed for entry in one.content["annotations"]]
    if not annotations:
        number = quantity(sum(len(one.content["images"]) for one in parsed), "image is", "images are")
        raise UserError(
            f"{names[0]}: `annotations` is empty, although {number} listed; name the file that contains the labels in "
            "ingest.inside, or export it again with the annotations"
        )
    has_points = any(annotation.get("keypoints") for annotation in annotations)
    are_classes = all(are_classes_of_images(one.content) for one in parsed)
    samples: dict[str, Sample] = {}
    rejected: list[Rejection] = []
    listed: set[str] = set()
    for one in parsed:
        found, failed = ImageFinder(files if name else files_of_split(files, one.name)).find_all(
            image["file_name"] for image in one.content["images"]
        )
        listed |= {*found.values()}
        for image in one.content["images"]:
            written = image["file_name"]
            path = found.get(written)
            if path is None or path in samples:
                reason = failed[written] if path is None else "another image has the same file"
                rejected.append(Rejection(written, f"{one.name}: {reason}"))
            elif not one.content["annotations"]:
                rejected.append(Rejection(path, f"{one.name} lists it without any annotation", is_unused=True))
            else:
                try:
                    samples[path] = _to_sample(files, path, one, image, has_points, are_classes, ingest)
                except Unreadable as error:
                    rejected.append(Rejection(path, str(error)))
    others = _unlisted(files, listed, names)
    negatives, unlisted = unlabelled_samples(files, others, ingest)
    return [*samples.values(), *negatives], rejected + unlisted


def _to_sample(
    files: SourceFiles, path: str, file: _CocoFile, image: Json, has_points: bool, are_classes: bool, ingest: Ingest
) -> Sample:
    """Return the sample of an image.

    Args:
        files: files of the source by path.
        path: path of the image.
        file: COCO file that lists it.
        image: its entry.
        has_points: whether annotations are key points.
        are_classes: whether annotations are classes of whole images.
        ingest: params of the source.

    Raises:
        Unreadable: an annotation of a class is invalid.
    """
    entries, split = file.annotations_of.get(image["id"], []), file.split or split_from_path(path)
    group = _group(image, ingest.coco_group, file.name) if ingest.coco_group else None
    if are_classes:
        if group is None and (key := file.group_key):
            group = str(image[key])
        annotation = _class_names(entries, file.categories, file.name)
        return Sample(path, fixed_annotation(annotation), group, split, files[path])
    annotate = partial(_annotate, entries, file.categories, file.name, has_points, ingest.crowd == "ignore")
    return Sample(path, annotate, group, split, files[path], labelled_size=partial(_size, image))


def _unlisted(files: SourceFiles, listed: set[str], names: list[str]) -> dict[str, str]:
    """Return the reason by path of the images that no file lists, in the folders of those that are listed.

    Other annotation files list the images of other folders.
    """
    folders = {parent_of(path) for path in listed}
    reason = f"is not listed in {list_names(names, MAX_LISTED)}"
    return {path: reason for path in files if is_image_path(path) and path not in listed and parent_of(path) in folders}


def marks_most_as_crowd(data: Json) -> bool:
    """Return whether a COCO file marks most objects as crowds, as tools do that set `iscrowd` for every mask."""
    marked = [bool(entry.get("iscrowd")) for entry in data["annotations"] if isinstance(entry, dict)]
    return sum(marked) > MAX_CROWD_SHARE * len(marked)


def are_classes_of_images(data: Json) -> bool:
    """Return whether no annotation of a COCO file describes a part of an image."""
    parts = ("bbox", "segmentation", "keypoints")
    return bool(data["annotations"]) and not any(
        isinstance(entry, dict) and any(entry.get(part) for part in parts) for entry in data["annotations"]
    )


def _class_names(annotations: list[Json], categories: dict[Any, Json], name: str) -> Annotation:
    """Return the classes of a whole image.

    Args:
        annotations: its entries in `annotations`.
        categories: categories by id.
        name: path of the file, for the error messages.
    """
    if not annotations:
        raise Unreadable(f"{name}: no annotation gives the class of this image")
    for entry in annotations:
        _check_category(entry, categories, f"{name}, annotation {entry['id']}")
    return Annotation(labels=tuple(sorted({str(categories[entry["category_id"]]["name"]) for entry in annotations})))


def _check_category(entry: Json, categories: dict[Any, Json], where: str) -> None:
    category = entry.get("category_id")
    if not isinstance(category, int | float | str) or category not in categories:
        raise Unreadable(f"{where}: category {category!r} is not in `categories`")


def _parse(content: bytes, name: str) -> Json:
    """Parse the file and check the lists and ids that COCO requires.

    Raises:
        UserError: this is not a COCO file, ids or names are missing or invalid, or an annotation has no image.
    """
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not valid JSON: {error}; export it again, in UTF-8") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise UserError(f"{name} has no list `{key}`, which COCO files of instances or key points require")
        ids = [entry.get("id") if isinstance(entry, dict) else None for entry in data[key]]
        wrong = [number for number in ids if number is not None and not isinstance(number, int | float | str)]
        doubled = [number for number, count in Counter(map(str, ids)).items() if count > 1]
        if None in ids or wrong or doubled:
            what = "an entry without an id" if None in ids else f"the id {doubled[0] if doubled else wrong[0]}"
            problem = "" if None in ids else " more than once" if doubled else ", which is not a number or text"
            raise UserError(f"{name}: `{key}` contains {what}{problem}; ids must exist and be unique")
    for category in data["categories"]:
        if not isinstance(category.get("name"), str | int | float) or category["name"] == "":
            raise UserError(f"{name}: category {category['id']} has no name; add it, since it is the class")
    images = {image["id"] for image in data["images"]}
    for image in data["images"]:
        if not isinstance(image.get("file_name"), str):
            raise UserError(f"{name}: image {image['id']} has no file_name; add the path of its file")
    for annotation in data["annotations"]:
        image_id = annotation.get("image_id")
        if not isinstance(image_id, int | float | str) or image_id not in images:
            raise UserError(
                f"{name}: annotation {annotation['id']} has image_id {image_id!r}, which is not the id of an image in "
                "`images`; add the image or remove the annotation"
            )
    return data


def _group(image: Json, key: str, name: str) -> str:
    """Return the value of the key of an image that identifies its group."""
    value = image.get(key)
    if not isinstance(value, str | int) or value == "":
        raise UserError(
            f"{name}: the image {image['file_name']} has the {key} {value!r}, but ingest.coco_group requires a text or "
            f"an integer for every image; add it, or set ingest.coco_group to one of {', '.join(image)} or to ''"
        )
    return str(value)


def _size(image: Json) -> tuple[int, int] | None:
    """Return the height and width that the file states; None if there are none."""
    height, width = image.get("height"), image.get("width")
    stated = all(isinstance(side, int | float) and side > 0 for side in (height, width))
    return (int(height), int(width)) if stated else None  # type: ignore[arg-type]


def _annotate(
    annotations: list[Json],
    categories: dict[Any, Json],
    name: str,
    has_points: bool,
    ignores_crowds: bool,
    height: int,
    width: int,
) -> Annotation:
    """Return the labels of an image.

    Args:
        annotations: its entries in `annotations`.
        categories: categories by id.
        name: path of the file, for the error messages.
        has_points: whether any entry of the file has key points.
        ignores_crowds: whether `iscrowd` excludes an object.
        height: height of the image, pixels.
        width: width of the image, pixels.
    """
    named = [(entry, f"{name}, annotation {entry['id']}") for entry in annotations]
    for entry, where in named:
        _check_category(entry, categories, where)
    if has_points and not named and len(categories) == 1:
        (category,) = categories.values()
        return Annotation(points=dict.fromkeys(_point_names(category, f"{name}, category {category['id']}")))
    if any(entry.get("keypoints") for entry, _ in named):
        if len(named) != 1:
            raise Unreadable(
                f"{named[0][1]}: the image has {len(named)} annotations, but only one is supported for key points; "
                "crop the image into images of one object each"
            )
        entry, where = named[0]
        return Annotation(points=_points(entry, _point_names(categories[entry["category_id"]], where), where))
    shapes = (_shape(entry, categories, ignores_crowds, height, width, where) for entry, where in named)
    return Annotation(shapes=tuple(shapes))


def _point_names(category: Json, where: str) -> list[str]:
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise Unreadable(
            f"{where}: the category's `keypoints` are {str(names)[:60]}; a list of different names is required"
        )
    return names


def _points(entry: Json, names: list[str], where: str) -> dict[str, tuple[float, float] | None]:
    values = entry["keypoints"]
    if not isinstance(values, list) or len(values) != 3 * len(names):
        found = quantity(len(values), "number") if isinstance(values, list) else str(values)[:60]
        raise Unreadable(
            f"{where}: `keypoints` contains {found}, but the category has {quantity(len(names), 'key point')}; each "
            "requires x, y and visibility"
        )
    if wrong := [value for value in values if not is_coordinate(value)]:
        raise Unreadable(f"{where}: `keypoints` contains {str(wrong[0])[:60]!r}, which is not a finite number")
    triples = zip(names, values[::3], values[1::3], values[2::3], strict=True)
    return {name: (float(x), float(y)) if seen else None for name, x, y, seen in triples}


def _shape(
    entry: Json, categories: dict[Any, Json], ignores_crowds: bool, height: int, width: int, where: str
) -> ObjectAnnotation:
    label, crowd = str(categories[entry["category_id"]]["name"]), ignores_crowds and bool(entry.get("iscrowd"))
    segmentation = entry.get("segmentation")
    if segmentation is not None and not isinstance(segmentation, list | dict):
        raise Unreadable(
            f"{where}: the segmentation is {str(segmentation)[:60]!r}; polygons or run lengths are required"
        )
    if isinstance(segmentation, list) and segmentation:
        return annotate_mask(label, rasterize_polygons(segmentation, height, width, where), crowd)
    if isinstance(segmentation, dict):
        return annotate_mask(label, decode_coco_mask(segmentation, height, width, where), crowd)
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
