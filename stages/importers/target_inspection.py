"""Detect the format of target files from some decoded pairs of image and target."""

import heapq
import itertools
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.core.plurals import quantity
from stages.dataset.annotations import IGNORE_INDEX
from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable, decode_image
from stages.importers.file_pairing import MIN_IMAGES, FilePairing
from stages.importers.label_regions import MAX_VALUES, number_objects
from stages.importers.mask_files import MaskFiles
from stages.importers.pair_evidence import (
    SCENE,
    Likeness,
    are_distances,
    are_explicit,
    are_restored,
    direction_of_names,
    measure_likeness,
)
from stages.importers.pixel_evidence import (
    MIN_VOTES,
    has_one_region_per_value,
    most_agree,
    show_same_scenes,
)
from stages.importers.role_words import IMAGE_WORDS
from stages.importers.target_reader import MeasuredImage, TargetReader

Array = np.ndarray[Any, Any]
Pairs = list[tuple[MeasuredImage, MeasuredImage]]
INSPECTED = 12  # pairs of image and target that are decoded
MAX_MEGAPIXELS = 16.0  # of a pairing, after which no more than `MIN_IMAGES` pairs are decoded
MAX_COUNTED_MEGAPIXELS = 64.0  # of masks whose values are counted
MAX_COUNTED = 500  # masks of a pairing whose values are counted
MAX_COUNTED_IN_ALL = 2500  # masks of a source, after which few of each pairing are counted
FEW_COLOURS = (
    "the targets contain few colours, as coloured masks of classes do; save them with one grey level or palette index "
    "per class"
)
IMAGES_OF_FEW_COLOURS = "the images have few colours, as coloured masks do"
NOT_BINARY = "the target files per object or class are not binary masks"


@dataclass(frozen=True)
class TargetInspection:
    """Detected format of the target files of a pairing."""

    format: str
    """masks, instances, dots or pairs; empty if none of these."""
    reason: str
    values: dict[int, float]
    """Share of the pixels by mask value, from `count_mask_values`; empty for other formats and one mask per class."""
    ask: str = ""
    """Question about the targets; empty if there is none."""
    overlaps: str = ""
    """How much the masks of several classes overlap, as a sentence; empty if they do not."""
    likeness: Likeness | None = None
    """Measured relation of images and targets that show the same scenes; None for masks and unrelated images."""


def inspect_targets(files: SourceFiles, pairing: FilePairing, reader: TargetReader) -> TargetInspection:
    """Decode some pairs and detect which format the target files have.

    Args:
        files: files of the source by path.
        pairing: images and targets.
        reader: decodes the files, many of which belong to several pairings.
    """
    spread = np.unique(np.linspace(0, len(pairing.files) - 1, INSPECTED).round().astype(int))
    spread = np.random.default_rng(0).permutation(spread)  # large images are not all decoded
    masks = _mask_files(files, pairing, reader)
    # Class folders with the same file names give many such pairings, so that two files of each have to suffice.
    if has_several(pairing) and not any(_is_binary(reader.mask(pairing.files[place][1], masks)) for place in (0, -1)):
        return TargetInspection("", NOT_BINARY, {})
    decoded: list[tuple[MeasuredImage | None, MeasuredImage | None]] = []
    for image, target in (pairing.files[i] for i in spread):
        if len(decoded) >= MIN_IMAGES and sum(map(_megapixels, decoded)) > MAX_MEGAPIXELS:
            break
        decoded.append((reader.image(image), reader.mask(target, masks)))
    readable = [(a, b) for a, b in decoded if a is not None and b is not None]
    pairs = [(a, b) for a, b in readable if a.level.shape[:2] == b.level.shape[:2]]
    required = max(MIN_IMAGES, MIN_VOTES * len(decoded))
    if len(pairs) < required:
        unreadable = "more than a quarter of the opened pairs contain a file that cannot be read"
        if len(readable) >= required:
            return _compare_sizes(pairing, readable)
        return TargetInspection("", f"{unreadable}{_first_error(files, pairing)}", {})
    return _inspect_decoded(reader, masks, pairing, spread.tolist(), pairs)


def _compare_sizes(pairing: FilePairing, decoded: Pairs) -> TargetInspection:
    """Return the reason against image and target of different sizes, with their relation if they show one scene."""
    (image, target), (path, other) = decoded[0], pairing.files[0]
    sizes = " and ".join(f"{one.level.shape[1]}x{one.level.shape[0]}" for one in (image, target))
    reason = f"the sizes of image and target differ: {path} and {other} have {sizes} pixels"
    likeness = measure_likeness(_levels(decoded))
    if likeness.correlation < SCENE:
        return TargetInspection("", reason, {})
    advice = "to predict one from the other, both must have one size: enlarge the smaller ones"
    return TargetInspection("", f"{reason} and show the same scenes; {advice}", {}, likeness=likeness)


def _first_error(files: SourceFiles, pairing: FilePairing) -> str:
    """Return why the first unreadable file of a pairing cannot be read; empty if it is none of the first files."""
    for path in itertools.islice(itertools.chain.from_iterable(pairing.files), 2 * INSPECTED):
        try:
            decode_image(files[path]())
        except (Unreadable, OSError, SyntaxError, ValueError, OverflowError) as error:
            return f": {path} {error}"
    return ""


def _megapixels(pair: tuple[MeasuredImage | None, MeasuredImage | None]) -> float:
    """Return the number of decoded pixels of an image and its target."""
    return sum(one.level.shape[0] * one.level.shape[1] for one in pair if one is not None) / 1e6


def _levels(pairs: Pairs) -> list[tuple[Array, Array]]:
    return [(image.level, target.level) for image, target in pairs]


def has_several(pairing: FilePairing) -> bool:
    """Return whether an image has a target file per object or class."""
    return pairing.several or "{label}" in pairing.targets


def _inspect_decoded(
    reader: TargetReader, masks: MaskFiles, pairing: FilePairing, spread: list[int], pairs: Pairs
) -> TargetInspection:
    """Detect the format of target files from some decoded pairs; `spread` are the numbers of the opened keys."""
    images, targets = zip(*pairs, strict=True)
    is_named = not IMAGE_WORDS.isdisjoint(re.split(r"[^a-z]+", pairing.images.lower()))  # drawings are images, too
    if most_agree(a.is_plain or (not is_named and a.is_label_image) for a in images) or most_agree(
        a.is_dotted for a in images
    ):
        return TargetInspection("", "the images are masks or dot images themselves", {})
    plain, binary = most_agree(b.is_plain for b in targets), most_agree(b.is_binary for b in targets)
    if has_several(pairing):
        if not binary:
            return TargetInspection("", NOT_BINARY, {})
        return _inspect_binary_masks(reader, masks, pairing, spread)
    if most_agree(b.is_dotted for b in targets):
        return TargetInspection("dots", "the targets contain small bright dots on black", {})
    numbered = all(b.level.ndim == 2 for b in targets) and number_objects([b.level for b in targets])
    if (plain or numbered) and not _are_images_by_name(pairing, pairs, binary):
        why = "each value of a target is one connected region: they number objects"
        if numbered:
            return TargetInspection("instances", why, {})
        return _inspect_values(pairing, targets)
    return _inspect_paired_images(pairing, pairs, binary)


def _are_images_by_name(pairing: FilePairing, pairs: Pairs, binary: bool) -> bool:
    """Return whether targets with few values are named like distances or restored images, such as clean pages."""
    if are_distances(pairing.images, pairing.targets):
        return not binary
    return are_restored(pairing.images, pairing.targets) and measure_likeness(_levels(pairs)).correlation >= SCENE


def _inspect_paired_images(pairing: FilePairing, pairs: Pairs, binary: bool) -> TargetInspection:
    """Return whether images with a partner of the same size are pairs."""
    images, targets = zip(*pairs, strict=True)
    if are_distances(pairing.images, pairing.targets) and not binary:
        return TargetInspection("pairs", "the targets are named like maps of distances", {})
    for some, reason in ((images, IMAGES_OF_FEW_COLOURS), (targets, FEW_COLOURS)):
        if most_agree(one.has_few_colours for one in some):
            return TargetInspection("", reason, {})
    if direction_of_names(pairing.images, pairing.targets) < 0:
        return TargetInspection("", "the target names denote degraded images", {})
    if are_explicit(pairing.images, pairing.targets):
        return TargetInspection("pairs", "the names denote input and target", {})
    likeness = measure_likeness(_levels(pairs))
    is_named = direction_of_names(pairing.images, pairing.targets) > 0  # pages of text resemble each other
    if not show_same_scenes(_levels(pairs)) and not (is_named and likeness.correlation >= SCENE):
        return TargetInspection("", _reason_not_masks(targets), {})
    same = "images of the same scenes; check which of the two is the target"
    return TargetInspection("pairs", same, {}, likeness=likeness)


def _is_binary(mask: MeasuredImage | None) -> bool:
    return mask is not None and mask.is_binary


def _inspect_binary_masks(
    reader: TargetReader, masks: MaskFiles, pairing: FilePairing, spread: list[int]
) -> TargetInspection:
    """Return the format of several binary masks per image; `spread` are the numbers of the keys to open."""
    if pairing.several:
        return TargetInspection("instances", "the targets are binary masks, one per object", {})
    overlaps = _describe_overlaps(reader, masks, [pairing.targets_of[number] for number in spread])
    return TargetInspection("masks", "the targets are binary masks, one per class", {}, overlaps=overlaps)


def _describe_overlaps(reader: TargetReader, masks: MaskFiles, targets: list[tuple[str, ...]]) -> str:
    """Return how many images have overlapping masks, and the share of such pixels; empty if there are none."""
    overlapping, marked, images = 0, 0, 0
    for paths in targets:
        values = [mask.level for path in paths if (mask := reader.mask(path, masks)) is not None]
        if not values or any(value.shape != values[0].shape for value in values):
            continue
        count_HW = np.sum([value != 0 for value in values], axis=0)
        overlapping += int((count_HW > 1).sum())
        marked += int((count_HW > 0).sum())
        images += bool((count_HW > 1).any())
    if not overlapping:
        return ""
    number = f"{images} of {quantity(len(targets), 'opened image')}"
    return f"in {number} the masks of several classes overlap, in {overlapping / marked:.2g} of the marked pixels"


def _inspect_values(pairing: FilePairing, targets: tuple[MeasuredImage, ...]) -> TargetInspection:
    """Return label images of classes, with a note if their values may number objects."""
    reason, ask = "the targets contain few distinct values, as masks do", ""
    if most_agree(has_one_region_per_value(b.level) for b in targets):
        reason += "; each value is one connected region, however: if the values number objects, use format: instances"
        ask = (
            f"ingest.format: each value in {pairing.files[0][1]} is one connected region: are the values classes "
            "(masks), or numbers of objects (instances)?"
        )
    return TargetInspection("masks", reason, {}, ask=ask)


def _reason_not_masks(targets: tuple[MeasuredImage, ...]) -> str:
    """Return why target files are not masks."""
    if most_agree(b.level.ndim == 3 for b in targets):
        return "the targets are in colour and do not show the scenes of the images; masks are grey or have a palette"
    return (
        f"the targets contain more than {MAX_VALUES} grey levels: masks have few, objects with numbers have one region "
        "each, and JPEG alters the values of several classes"
    )


def count_mask_values(
    files: SourceFiles, inspected: list[tuple[FilePairing, TargetInspection]], reader: TargetReader
) -> list[tuple[FilePairing, TargetInspection]]:
    """Return pairings of which those with label images have the share of the pixels by mask value.

    Many masks are counted, so that rare values are included: up to `MAX_COUNTED` of a pairing and
    `MAX_COUNTED_IN_ALL` of the source, those of the pairings with the most images first; then `INSPECTED` of each.

    Args:
        files: files of the source by path.
        inspected: pairings with the formats of their targets.
        reader: decodes the files.
    """
    left, found = MAX_COUNTED_IN_ALL, dict(enumerate(inspected))
    for number, (pairing, target) in sorted(found.items(), key=lambda item: -len(item[1][0].files)):
        if target.format == "masks" and not has_several(pairing):
            count = min(len(pairing.files), max(INSPECTED, min(MAX_COUNTED, left)))
            found[number] = pairing, replace(target, values=_values(files, pairing, reader, count))
            left -= count
    return list(found.values())


def _values(files: SourceFiles, pairing: FilePairing, reader: TargetReader, most: int) -> dict[int, float]:
    """Return the share of pixels by value in the masks of a pairing, of which at most so many are counted."""
    masks = _mask_files(files, pairing, reader)
    values: Counter[int] = Counter()
    for _, target in pairing.files[:: max(1, len(pairing.files) // most)][:most]:
        values.update(reader.count(target, masks))
        if values.total() > MAX_COUNTED_MEGAPIXELS * 1e6:
            break
    return {value: count / values.total() for value, count in sorted(values.items())}


def _mask_files(files: SourceFiles, pairing: FilePairing, reader: TargetReader) -> MaskFiles:
    """Return the masks of a pairing, some of whose palettes are compared."""
    masks = MaskFiles(files, reader.palettes)
    masks.add(heapq.nsmallest(MAX_COUNTED, pairing.named))
    return masks


def marks_unknown(values: dict[int, float]) -> bool:
    """Return whether the value 255 probably marks unknown pixels: the other values roughly count up from 0."""
    others = sorted(set(values) - {IGNORE_INDEX})
    return IGNORE_INDEX in values and len(others) > 1 and others[-1] < 2 * len(others)
