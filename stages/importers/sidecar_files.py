"""Import images with sidecar files: masks, instance masks, dots, or paired images, matched by patterns with {key}."""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from stages.config.combinations import pattern_problem
from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, annotate_labels
from stages.dataset.combined_classes import (
    BACKGROUND,
    Classes,
    combine,
    combine_masks,
    order_labels,
    refuse_joined_names,
)
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import Unreadable, decode_image
from stages.images.label_images import Size, is_lossy
from stages.images.sandbox import WORKERS, run_isolated
from stages.importers.mask_files import MaskFiles
from stages.importers.path_patterns import STARS, compile_pattern, fill_pattern, key_names, named_group, plain_key
from stages.importers.sample import (
    Annotate,
    ImportResult,
    Sample,
    fixed_annotation,
    split_from_path,
    without_objects,
)

Array = np.ndarray[Any, Any]
Key = tuple[str, ...]
"""Text of the placeholders that identify an image, that of {key} first."""
TargetFiles = list[tuple[str, str | None]]
"""Paths of the target files of an image, each with the class that its path names; None without {label}."""
FOREGROUND = (BACKGROUND, "foreground")
DEFAULT_CLASS = "object"
NO_TARGET = "has no target file"
MAX_RINGING = 16  # grey level that JPEG ringing on black does not reach


def match_files(files: SourceFiles, ingest: Ingest) -> tuple[dict[Key, str], dict[Key, TargetFiles]]:
    """Return the path of each image by its key, and the target files by the same key.

    Raises:
        UserError: a pattern is invalid, lacks {key}, matches no file, or gives two images the same key.
    """
    if problem := pattern_problem(ingest):
        raise UserError(problem)
    of_images, of_targets = (
        compile_pattern(ingest.images, "ingest.images"),
        compile_pattern(ingest.targets, "ingest.targets"),
    )
    names = _key_names(ingest)
    matching: dict[Key, list[str]] = defaultdict(list)
    targets: dict[Key, TargetFiles] = defaultdict(list)
    for path in files:
        if found := of_images.fullmatch(path):
            matching[tuple(found[name] for name in names)].append(path)
    images = {key: _single_image(key, paths, of_targets) for key, paths in matching.items()}
    if len(names) > 1:
        images = _with_keys_of_targets(images, files, ingest, of_targets)
    own = {path: key for key, path in images.items()}
    matcher = _TargetMatcher(of_targets, names, images)
    matches = [(path, *match) for path in files if (match := matcher.match(path, own.get(path)))]
    named = {key for _, key, _ in matches}
    for path, key, label in matches:
        if own.get(path) in named:
            continue  # a_b.png is an image too if a_b_mask.png exists
        if path in own and key in images:
            del images[own[path]]  # a_mask.png is the mask of a.png, not another image
        targets[key].append((path, label))
    targets = _without_foreign_labels(images, _with_keys_of_images(images, targets))
    for words, pattern, hits in (("images", ingest.images, images), ("targets", ingest.targets, targets)):
        if not hits:
            besides = " other than the images" if words == "targets" else ""
            known = f", for example {', '.join(sorted(files)[:3])}" if files else ""
            raise UserError(
                f"ingest.{words}: {pattern} matches no file{besides}; the source contains "
                f"{quantity(len(files), 'file')}{known}{_explain_placeholders(pattern)}"
            )
    return images, targets


def _without_foreign_labels(images: dict[Key, str], targets: dict[Key, TargetFiles]) -> dict[Key, TargetFiles]:
    """Return the target files without those of labels that occur for no image: other data in the place of {label}."""
    own = {label for key, named in targets.items() if key in images for _, label in named}
    kept = {key: [one for one in named if one[1] in own] for key, named in targets.items()}
    return {key: named for key, named in kept.items() if named} if own else targets


def _with_keys_of_images(images: dict[Key, str], targets: dict[Key, TargetFiles]) -> dict[Key, TargetFiles]:
    """Return the target files by the keys of their images, whose numbers may have other leading zeros.

    A key with the same text comes first: 01 belongs to 1 only if 1 is a single image without a target file of its own.
    """
    free: dict[Key, list[Key]] = defaultdict(list)
    for key in images.keys() - targets.keys():
        free[plain_key(key)].append(key)
    found: dict[Key, TargetFiles] = defaultdict(list)
    for key, named in targets.items():
        others = [] if key in images else free[plain_key(key)]
        found[others[0] if len(others) == 1 else key].extend(named)
    return found


def _single_image(key: Key, paths: list[str], of_targets: re.Pattern[str]) -> str:
    """Return the image of a key: its only file, or the only one that is not a target, as a.jpg beside a.png."""
    others = [path for path in paths if len(paths) == 1 or not of_targets.fullmatch(path)]
    if len(others) == 1:
        return others[0]
    one, other = (others or paths)[:2]
    raise UserError(
        f"ingest.images: {one} and {other} have the same key {'/'.join(key)!r}; change the pattern so that it matches "
        "only one of them, or name the folder that differs, as in {patient}/{key}.png"
    )


def _explain_placeholders(pattern: str) -> str:
    """Return what placeholders other than {key} mean, since a name in braces may be meant literally; else ''."""
    others = [name for name in key_names(pattern) if name != "key"]
    return (
        f"; {{{others[0]}}} stands for any text within a folder; write * in place of literal braces" if others else ""
    )


def _key_names(ingest: Ingest) -> tuple[str, ...]:
    """Return the placeholders that identify an image; both patterns must have the same."""
    of_images, of_targets = key_names(ingest.images), key_names(ingest.targets)
    if of_images != of_targets:
        name = sorted(set(of_images) ^ set(of_targets))[0]
        has, lacks = ("images", "targets") if name in of_images else ("targets", "images")
        raise UserError(
            f"ingest.{has} contains {{{name}}}, but ingest.{lacks} ({getattr(ingest, lacks)!r}) does not; use it in "
            "both patterns, or * for text that does not identify an image"
        )
    return of_images


def _with_keys_of_targets(
    images: dict[Key, str], files: SourceFiles, ingest: Ingest, of_targets: re.Pattern[str]
) -> dict[Key, str]:
    """Return the images with the key under which a target file names them.

    Several placeholders in one name can often be matched in several ways: `{name}_{key}` divides X_01_000 into X_01 and
    000, or into X and 01_000, whereas `{name}_dots_{key}` matches X_dots_01_000 in one way only.
    """
    names, own = _key_names(ingest), {path: key for key, path in images.items()}
    for path in files:
        if found := of_targets.fullmatch(path):
            image = fill_pattern(ingest.images, {name: found[name] for name in names})
            if image in own and image != path:
                own[image] = tuple(found[name] for name in names)
    return {key: path for path, key in own.items()}


class _TargetMatcher:
    """Matches target files with the keys of images."""

    def __init__(self, pattern: re.Pattern[str], names: tuple[str, ...], images: dict[Key, str]) -> None:
        self.pattern, self.names, self.images = pattern, names, set(images)
        self.first = {key[0] for key in images}
        self.lengths = {len(text) for text in self.first}
        inside, star = re.escape(named_group("key")), re.escape(STARS["*"])
        self.star_beside_key = bool(re.search(rf"{star}[^/]*{inside}|{inside}[^/]*{star}", pattern.pattern))

    def match(self, path: str, own: Key | None) -> tuple[Key, str | None] | None:
        """Return the key of another image, the one with the longest {key} if a * is next to it, and the label.

        Args:
            path: path of the file.
            own: key of the file if it is an image as well.
        """
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        key = self._key(found)
        if key in self.images and key != own and not self.star_beside_key:
            return key, found.groupdict().get("label")
        parts = {part[i : i + n] for part in path.split("/") for n in self.lengths for i in range(len(part) - n + 1)}
        for text in sorted(parts & self.first, key=lambda text: (-len(text), text)):
            fixed = self.pattern.pattern.replace(named_group("key"), f"(?P<key>{re.escape(text)})")
            fitting = re.fullmatch(fixed, path)
            if fitting and self._key(fitting) in self.images and self._key(fitting) != own:
                return self._key(fitting), fitting.groupdict().get("label")
        return None if key == own else (key, found.groupdict().get("label"))

    def _key(self, found: re.Match[str]) -> Key:
        return tuple(found[name] for name in self.names)


def _import_pairs_by_key(
    files: SourceFiles,
    ingest: Ingest,
    sample: Callable[[str, TargetFiles], Sample],
    empty: Callable[[str], Sample] | None = None,
) -> ImportResult:
    """Import the images with their target files.

    Args:
        files: files of the source by path.
        ingest: parameters of `ingest`.
        sample: returns the sample of an image with its target files.
        empty: returns the sample of an image without objects; None if an image requires a target file.
    """
    images, targets = match_files(files, ingest)
    names = _key_names(ingest)
    samples = [sample(path, targets[key]) for key, path in images.items() if key in targets]
    without = {path: key for key, path in images.items() if key not in targets}
    rejected = []
    if ingest.unlabelled == "empty" and empty:
        samples += map(empty, without)
    else:
        is_unused = ingest.unlabelled == "skip"
        rejected = [
            Rejection(path, f"{NO_TARGET} {_fill_key(ingest.targets, names, key)}", is_unused)
            for path, key in without.items()
        ]
    rejected += [
        Rejection(named[0][0], f"has no image {_fill_key(ingest.images, names, key)}")
        for key, named in targets.items()
        if key not in images
    ]
    return samples, rejected


def _fill_key(pattern: str, names: tuple[str, ...], key: Key) -> str:
    return fill_pattern(pattern, dict(zip(names, key, strict=True)))


def import_masks(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import one label image per image, or one mask per class if the pattern contains {label}.

    In masks per class, every value except 0 is the class. In label images without `ingest.mask_values`, every value
    except 0 and `ingest.ignore_values` is the foreground.

    Args:
        files: files of the source by path.
        name: not used; the files are matched by patterns.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: a pattern is invalid, lacks {key}, matches no file, or gives two images the same key; or an image has
            several masks without {label}.
    """
    masks = MaskFiles(files)
    if "{label}" in ingest.targets:
        names = _class_names(masks, match_files(files, ingest)[1], ingest.overlaps)
    else:
        names_by_value = dict.fromkeys(
            ingest.mask_values[value] for value in sorted(ingest.mask_values)
        )  # several values may have the same class
        names = tuple(sorted(names_by_value, key=lambda name: name != BACKGROUND)) or FOREGROUND

    def to_sample(path: str, named: TargetFiles) -> Sample:
        masks.add(mask for mask, _ in named)
        if "{label}" in ingest.targets:
            target: Callable[[int, int], bytes] = partial(_merge_class_masks, masks, named, names, ingest.overlaps)
        elif len(named) > 1:
            raise UserError(
                f"{path} has the masks {named[0][0]} and {named[1][0]}; ingest.targets must match only one, or set "
                "ingest.format to instances if each mask is one object"
            )
        else:
            target = partial(_encode_label_image, masks, named[0][0], ingest, names)
        return with_mask(path, target)

    def with_mask(path: str, target: Callable[[int, int], bytes]) -> Sample:
        split = split_from_path(path)
        return Sample(path, fixed_annotation(Annotation(mask=names)), None, split, files[path], target=target)

    def with_background(path: str) -> Sample:
        if BACKGROUND not in names:
            raise UserError(
                f"ingest.unlabelled: {path} has no mask, and no value of ingest.mask_values is `{BACKGROUND}`, the "
                "class of images without objects; name it, or set ingest.unlabelled to skip"
            )
        return with_mask(path, partial(_encode_uniform, names.index(BACKGROUND)))

    return _import_pairs_by_key(files, ingest, to_sample, with_background)


def values_by_class(ingest: Ingest) -> dict[str, int]:
    """Return the value of each class in the masks of the source, so that predicted masks can have the same values.

    It is the smallest value of a class that has several, and 255 for the foreground if `ingest.mask_values` is empty,
    where any value other than 0 is foreground. The result is empty if the classes have no values, as with one file per
    class, or if a value does not fit 16 bits.
    """
    if ingest.format != "masks" or "{label}" in ingest.targets:
        return {}
    values = {ingest.mask_values[value]: value for value in sorted(ingest.mask_values, reverse=True)}
    values = values or dict(zip(FOREGROUND, (0, 255), strict=True))
    return values if all(0 <= value <= 65535 for value in values.values()) else {}


def _encode_label_image(
    masks: MaskFiles, path: str, ingest: Ingest, names: tuple[str, ...], height: int, width: int
) -> bytes:
    value_HW = masks.decode(path, (height, width))
    known = sorted(ingest.mask_values)
    if not known:
        index_HW = (value_HW != 0).astype(np.uint8)
    else:
        index_HW = np.full(value_HW.shape, IGNORE_INDEX, np.uint8)
        for value in known:
            index_HW[value_HW == value] = names.index(ingest.mask_values[value])
        unknown = sorted(set(np.unique(value_HW).tolist()) - set(known) - set(ingest.ignore_values))
        if unknown:
            values, them = ("the value", "it") if len(unknown) == 1 else ("the values", "them")
            raise Unreadable(
                f"the mask {path} contains {values} {list_names(map(str, unknown), 5)}; add {them} to "
                f"ingest.mask_values ({_join(known)}) or ingest.ignore_values ({_join(ingest.ignore_values)})"
            )
    for value in ingest.ignore_values:
        index_HW[value_HW == value] = IGNORE_INDEX
    return _encode_png(index_HW)


def _join(values: Iterable[int]) -> str:
    return ", ".join(map(str, values)) or "none"


def _class_names(masks: MaskFiles, targets: dict[Key, TargetFiles], overlaps: str) -> tuple[str, ...]:
    """Return the background and the classes of the masks, and the combinations of classes that occur if requested."""
    found = {label for named in targets.values() for _, label in named if label}
    if overlaps == "reject":
        return (BACKGROUND, *sorted(found - {BACKGROUND}))
    refuse_joined_names(found)
    masks.add(path for named in targets.values() for path, _ in named)

    def combinations(named: TargetFiles) -> set[str]:
        try:
            return set(map(combine, _combined_masks(masks, named)[1]))
        except Unreadable:  # reported when the image is read
            return set()

    with ThreadPoolExecutor(2 * WORKERS) as pool:  # the threads only wait for the processes that decode
        return order_labels(set().union(*pool.map(combinations, targets.values())))


def _combined_masks(masks: MaskFiles, named: TargetFiles, size: Size | None = None) -> tuple[Array, list[Classes]]:
    """Return the number of the combination of classes of each pixel [H, W], and the classes of these combinations.

    Raises:
        Unreadable: a mask is invalid, or the masks have different sizes.
    """
    decoded = []
    for path, label in sorted(named):
        assert label is not None, "the pattern has {label}"
        mask_HW = masks.decode(path, size) != 0
        size = (mask_HW.shape[0], mask_HW.shape[1])
        decoded.append((label, mask_HW))
    assert size is not None, "every image has a target file"
    return combine_masks(decoded, *size)


def _merge_class_masks(
    masks: MaskFiles, named: TargetFiles, names: tuple[str, ...], overlaps: str, height: int, width: int
) -> bytes:
    number_HW, found = _combined_masks(masks, named, (height, width))
    if overlaps == "reject" and (joint := [number for number, classes in enumerate(found) if len(classes) > 1]):
        y, x = np.argwhere(np.isin(number_HW, joint))[0]
        raise Unreadable(
            f"the masks of {' and '.join(sorted(found[number_HW[y, x]]))} overlap, for example at x {x}, y {y}; remove "
            "the overlap, or set ingest.overlaps to combine, so that a pixel may have several classes"
        )
    return _encode_png(np.array([names.index(combine(classes)) for classes in found], np.uint8)[number_HW])


def _size(array: Array) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _encode_uniform(index: int, height: int, width: int) -> bytes:
    return _encode_png(np.full((height, width), index, np.uint8))


def _encode_png(index_HW: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(index_HW).save(buffer, "PNG")
    return buffer.getvalue()


def import_instances(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import masks of objects: every value other than 0 is one object, so that a mask has one object or numbered ones.

    The class is {label} of the pattern, or the same for all objects. Values in `ignore_values` are not objects.

    Args:
        files: files of the source by path.
        name: not used; the files are matched by patterns.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: a pattern is invalid, lacks {key}, matches no file, or gives two images the same key.
    """
    masks = MaskFiles(files)

    def to_sample(path: str, named: TargetFiles) -> Sample:
        masks.add(mask for mask, _ in named)
        annotate = _annotate_objects(masks, named, ingest.ignore_values)
        return Sample(path, annotate, None, split_from_path(path), files[path])

    return _import_pairs_by_key(files, ingest, to_sample, partial(without_objects, files))


def _annotate_objects(masks: MaskFiles, named: TargetFiles, ignore_values: tuple[int, ...]) -> Annotate:
    def annotate(height: int, width: int) -> Annotation:
        shapes: list[ObjectAnnotation] = []
        for path, label in sorted(named):
            value_HW = masks.decode(path, (height, width))
            number_HW = np.where(np.isin(value_HW, ignore_values), 0, value_HW)
            found = annotate_labels(label or DEFAULT_CLASS, number_HW)
            shapes.extend(found)
            if not found:
                print(f"ingest: the mask {path} marks no pixel and is skipped", flush=True)
        return Annotation(shapes=tuple(shapes))

    return annotate


def import_dots(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import one dot image per image, or one per class if the pattern contains {label}; each dot marks one object.

    Args:
        files: files of the source by path.
        name: not used; the files are matched by patterns.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: a pattern is invalid, lacks {key}, matches no file, or gives two images the same key; or an image has
            several dot images without {label}.
    """

    def to_sample(path: str, named: TargetFiles) -> Sample:
        if "{label}" not in ingest.targets:
            _require_one(path, named, "dot images")
        return Sample(
            path, partial(_annotate_dots, files, named, ingest.max_megapixels), None, split_from_path(path), files[path]
        )

    return _import_pairs_by_key(files, ingest, to_sample, partial(without_objects, files))


def _annotate_dots(
    files: SourceFiles, named: TargetFiles, max_megapixels: float, height: int, width: int
) -> Annotation:
    shapes = []
    for path, label in sorted(named):
        for x, y in _dot_centres(files[path](), path, max_megapixels, height, width):
            shapes.append(ObjectAnnotation(label or DEFAULT_CLASS, (x, y, x + 1, y + 1)))
    return Annotation(shapes=tuple(shapes))


def _dot_centres(data: bytes, path: str, max_megapixels: float, height: int, width: int) -> list[tuple[float, float]]:
    """Return the centres (x, y) of connected non-black pixels; after lossy compression, of bright pixels.

    Bright pixels exceed half of the maximum and `MAX_RINGING`.
    """
    from scipy import ndimage

    try:
        picture = run_isolated(decode_image, data, max_megapixels)
    except Unreadable as error:
        raise Unreadable(f"the dot image {path} {error}") from None
    image = picture.image
    level_HW = (image if image.ndim == 2 else image.max(axis=2)).astype(float)
    if level_HW.shape != (height, width):
        raise Unreadable(f"the dot image {path} is {_size(level_HW)}, but the image is {width}x{height}")
    threshold = max(MAX_RINGING, level_HW.max() / 2) if is_lossy(data) else 0
    piece_HW, count = ndimage.label(level_HW > threshold, np.ones((3, 3)))
    centres = ndimage.center_of_mass(piece_HW > 0, piece_HW, np.arange(1, count + 1)) if count else []
    return [(float(x), float(y)) for y, x in centres]


def _require_one(path: str, named: TargetFiles, what: str) -> None:
    if len(named) > 1:
        raise UserError(f"{path} has the {what} {named[0][0]} and {named[1][0]}; ingest.targets must match only one")


def import_pairs(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import one paired image per image.

    Args:
        files: files of the source by path.
        name: not used; the files are matched by patterns.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: a pattern is invalid, lacks {key}, matches no file, or gives two images the same key; or an image has
            several paired images.
    """

    def to_sample(path: str, named: TargetFiles) -> Sample:
        _require_one(path, named, "paired images")
        annotation, read_target = fixed_annotation(Annotation(image=True)), files[named[0][0]]
        return Sample(
            path, annotation, None, split_from_path(path), files[path], target=lambda height, width: read_target()
        )

    return _import_pairs_by_key(files, ingest, to_sample)
