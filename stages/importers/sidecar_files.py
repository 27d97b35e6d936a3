"""Images with files beside them: masks, a mask per thing, dots, or another image; matched by patterns with {key}."""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, bounding_box, encode_rle
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import Unreadable, decode_image, decode_label_image
from stages.images.sandbox import run_isolated
from stages.importers.path_patterns import PLACEHOLDERS, compile_pattern
from stages.importers.sample import Annotate, ImportResult, Sample, fixed_annotation, split_from_path

Array = np.ndarray[Any, Any]
Named = list[tuple[str, str | None]]
"""Paths of an image's files, each with the class that its path names."""
BACKGROUND = "background"
FOREGROUND = (BACKGROUND, "foreground")
THING = "object"
RINGS = 16  # grey level that a JPEG's rings on black do not reach


def _matched(files: SourceFiles, ingest: Ingest) -> tuple[dict[str, str], dict[str, Named]]:
    """Path of each image by its key, and the files that belong to it."""
    if "{key}" not in ingest.images or "{key}" not in ingest.targets:
        raise UserError(
            f"ingest.images: {ingest.images!r}, ingest.targets: {ingest.targets!r}: both need {{key}} where the name "
            "of an image stands, as images/{key}.png and masks/{key}.png"
        )
    of_images, of_targets = (
        compile_pattern(ingest.images, "ingest.images"),
        compile_pattern(ingest.targets, "ingest.targets"),
    )
    images: dict[str, str] = {}
    targets: dict[str, Named] = defaultdict(list)
    for path in files:
        if found := of_images.fullmatch(path):
            if found["key"] in images:
                raise UserError(f"ingest.images: {images[found['key']]} and {path} have the same key {found['key']!r}")
            images[found["key"]] = path
    own = {path: key for key, path in images.items()}
    matches = [(path, found) for path in files if (found := _as_target(of_targets, path, images, own.get(path)))]
    named = {found["key"] for _, found in matches}
    for path, found in matches:
        if own.get(path) in named:
            continue  # a_b.png is an image as a.png is, where there is an a_b_mask.png
        if path in own and found["key"] in images:
            del images[own[path]]  # a_mask.png is the mask of a.png, not another image
        targets[found["key"]].append((path, found.groupdict().get("label")))
    for words, pattern, hits in (("images", ingest.images, images), ("targets", ingest.targets, targets)):
        if not hits:
            known = ", ".join(sorted(files)[:3])
            raise UserError(f"ingest.{words}: {pattern} matches none of {len(files)} files, which are as {known}")
    return images, targets


def _as_target(pattern: re.Pattern[str], path: str, images: Iterable[str], own: str | None) -> re.Match[str] | None:
    """The match of which the key is that of another image, the longest: beside a * a key could be of any length."""
    found = pattern.fullmatch(path)
    if found is None or (found["key"] in images and found["key"] != own and not _has_star_beside_key(pattern)):
        return found
    keys = {part[i:j] for part in path.split("/") for i in range(len(part)) for j in range(i + 1, len(part) + 1)}
    for key in sorted((key for key in keys if key in images and key != own), key=lambda key: (-len(key), key)):
        if fitting := re.fullmatch(pattern.pattern.replace(PLACEHOLDERS["{key}"], f"(?P<key>{re.escape(key)})"), path):
            return fitting
    return None if found["key"] == own else found


def _has_star_beside_key(pattern: re.Pattern[str]) -> bool:
    inside = re.escape(PLACEHOLDERS["{key}"])
    star = re.escape(PLACEHOLDERS["*"])
    return bool(re.search(rf"{star}[^/]*{inside}|{inside}[^/]*{star}", pattern.pattern))


def _paired(files: SourceFiles, ingest: Ingest, item: Callable[[str, Named], Sample]) -> ImportResult:
    images, targets = _matched(files, ingest)
    items = [item(path, targets[key]) for key, path in images.items() if key in targets]
    refused = [
        Rejection(path, f"has no file {_filled(ingest.targets, key)}")
        for key, path in images.items()
        if key not in targets
    ]
    refused += [
        Rejection(named[0][0], f"has no image {_filled(ingest.images, key)}")
        for key, named in targets.items()
        if key not in images
    ]
    return items, refused


def _filled(pattern: str, key: str) -> str:
    return pattern.replace("{key}", key)


def import_masks(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """A label image per image; or, with {label} in the pattern, one per class."""
    if "{label}" in ingest.targets:
        _, targets = _matched(files, ingest)
        found = {label for named in targets.values() for _, label in named if label}
        names = (BACKGROUND, *sorted(found - {BACKGROUND}))
    else:
        given = dict.fromkeys(
            ingest.mask_values[value] for value in sorted(ingest.mask_values)
        )  # values may share a class
        names = tuple(sorted(given, key=lambda name: name != BACKGROUND)) or FOREGROUND

    def item(path: str, named: Named) -> Sample:
        if "{label}" in ingest.targets:
            target: Callable[[int, int], bytes] = partial(_of_classes, files, named, names)
        elif len(named) > 1:
            raise UserError(
                f"{path} has the masks {named[0][0]} and {named[1][0]}; form: instances takes one per thing"
            )
        else:
            target = partial(_of_values, files, named[0][0], ingest, names)
        split = split_from_path(path)
        return Sample(path, fixed_annotation(Annotation(mask=names)), None, split, files[path], target=target)

    return _paired(files, ingest, item)


def _indices(files: SourceFiles, path: str, height: int, width: int) -> Array:
    """[height, width] values of a label image: of a palette its indices, of equal colours their level."""
    try:
        return run_isolated(decode_label_image, files[path](), height, width)
    except Unreadable as error:
        raise Unreadable(f"its mask {path}: {error}") from None


def _of_values(files: SourceFiles, path: str, ingest: Ingest, names: tuple[str, ...], height: int, width: int) -> bytes:
    value_HW = _indices(files, path, height, width)
    known = sorted(ingest.mask_values)
    if not known:
        index_HW = (value_HW != 0).astype(np.uint8)
    else:
        index_HW = np.full(value_HW.shape, IGNORE_INDEX, np.uint8)
        for value in known:
            index_HW[value_HW == value] = names.index(ingest.mask_values[value])
        strange = sorted(set(np.unique(value_HW).tolist()) - set(known) - set(ingest.ignore_values))
        if strange:
            raise Unreadable(
                f"its mask {path} holds {', '.join(map(str, strange[:5]))}, which neither "
                f"ingest.mask_values ({known}) nor ingest.ignore_values ({list(ingest.ignore_values)}) names"
            )
    for value in ingest.ignore_values:
        index_HW[value_HW == value] = IGNORE_INDEX
    return _encode_png(index_HW)


def _of_classes(files: SourceFiles, named: Named, names: tuple[str, ...], height: int, width: int) -> bytes:
    index_HW = np.zeros((height, width), np.uint8)
    for path, label in named:
        assert label is not None, "the pattern has {label}"
        there_HW = _indices(files, path, height, width) != 0
        if (twice := there_HW & (index_HW != 0)).any():
            y, x = np.argwhere(twice)[0]
            raise Unreadable(f"its mask {path} overlaps that of {names[index_HW[y, x]]}, as at x {x}, y {y}")
        index_HW[there_HW] = names.index(label)
    return _encode_png(index_HW)


def _size(array: Array) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _encode_png(index_HW: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(index_HW).save(buffer, "PNG")
    return buffer.getvalue()


def import_instances(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """A mask per thing; the class by {label} in the pattern, or all of one class."""

    def item(path: str, named: Named) -> Sample:
        return Sample(path, _things(files, named), None, split_from_path(path), files[path])

    return _paired(files, ingest, item)


def _things(files: SourceFiles, named: Named) -> Annotate:
    def annotate(height: int, width: int) -> Annotation:
        shapes = []
        for path, label in sorted(named):
            mask_HW = _indices(files, path, height, width) != 0
            if mask_HW.any():
                shapes.append(ObjectAnnotation(label or THING, bounding_box(mask_HW), encode_rle(mask_HW)))
            else:
                print(f"ingest: {path} is empty and was left out", flush=True)
        return Annotation(shapes=tuple(shapes))

    return annotate


def import_dots(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """An image of bright dots per image, a dot a thing."""

    def item(path: str, named: Named) -> Sample:
        if "{label}" not in ingest.targets:
            _refuse_several(path, named, "files of dots")
        return Sample(
            path, partial(_dotted, files, named, ingest.max_megapixels), None, split_from_path(path), files[path]
        )

    return _paired(files, ingest, item)


def _dotted(files: SourceFiles, named: Named, max_megapixels: float, height: int, width: int) -> Annotation:
    shapes = []
    for path, label in sorted(named):
        for x, y in _middles(files[path](), path, max_megapixels, height, width):
            shapes.append(ObjectAnnotation(label or THING, (x, y, x + 1, y + 1)))
    return Annotation(shapes=tuple(shapes))


def _middles(data: bytes, path: str, max_megapixels: float, height: int, width: int) -> list[tuple[float, float]]:
    """Places (x, y) of what is not black; in a JPEG, which has faint rings, of what is above half of the brightest."""
    from scipy import ndimage

    try:
        picture = run_isolated(decode_image, data, max_megapixels)
    except Unreadable as error:
        raise Unreadable(f"its dots {path}: {error}") from None
    image = picture.image
    level_HW = (image if image.ndim == 2 else image.max(axis=2)).astype(float)
    if level_HW.shape != (height, width):
        raise Unreadable(f"its dots {path} are {_size(level_HW)}, the image {width}x{height}")
    least = max(RINGS, level_HW.max() / 2) if picture.format == "JPEG" else 0
    piece_HW, count = ndimage.label(level_HW > least, np.ones((3, 3)))
    middles = ndimage.center_of_mass(piece_HW > 0, piece_HW, np.arange(1, count + 1)) if count else []
    return [(float(x), float(y)) for y, x in middles]


def _refuse_several(path: str, named: Named, what: str) -> None:
    if len(named) > 1:
        raise UserError(f"{path} has the {what} {named[0][0]} and {named[1][0]}; ingest.targets must match one")


def import_pairs(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """Another image per image."""

    def item(path: str, named: Named) -> Sample:
        _refuse_several(path, named, "pictures")
        annotation, other = fixed_annotation(Annotation(image=True)), files[named[0][0]]
        return Sample(path, annotation, None, split_from_path(path), files[path], target=lambda height, width: other())

    return _paired(files, ingest, item)
