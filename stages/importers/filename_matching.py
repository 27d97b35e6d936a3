"""Find pairs of images and target files by name patterns, with the format of the targets."""

import functools
import itertools
import operator
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

from stages.core.path_parts import suffix_of
from stages.images.archives import SourceFiles
from stages.images.decode import is_image_path
from stages.importers.file_pairing import NEARLY_ALL, FilePairing, find_pairings
from stages.importers.folder_names import shared_heads
from stages.importers.label_image_files import LabelImageFiles
from stages.importers.pairing_patterns import patterns_of_one_key, patterns_of_several_keys
from stages.importers.target_inspection import TargetInspection, count_mask_values, has_several, inspect_targets
from stages.importers.target_reader import TargetReader

MAX_IMAGES_OF_SEVERAL_KEYS = 20_000  # images up to which patterns with several keys are tried, which takes memory
MAX_IMAGES_WITH_TARGETS = 100_000  # the same where {key} alone gives some images a target each, or some are masks
SAMPLED_FOR_MASKS = 50


def inspected_pairings(
    files: SourceFiles, measured: dict[str, bool] | None = None
) -> list[tuple[FilePairing, TargetInspection]]:
    """Return the pairings with the detected formats of their targets.

    Patterns in which several placeholders identify an image are tried only if {key} alone does not give nearly all
    images a target file of their own. A pairing is left out if its several targets of one image are, in another
    pairing, the targets of an image each; or if its targets belong to images that are nearer to them.

    Args:
        files: files of the source by path.
        measured: whether files that were opened before are masks, by path; more are added.
    """
    pictures = [path for path in files if is_image_path(path)]
    count = len(pictures)
    is_mask = LabelImageFiles(files, measured).is_one
    has_one_suffix = len({suffix_of(path) for path in files if is_image_path(path)}) == 1
    patterns = partial(patterns_of_one_key, has_one_suffix)
    reader = TargetReader(files)
    inspected = [
        (one, inspect_targets(files, one, reader)) for one in _distinct(find_pairings(files, patterns, is_mask))
    ]
    alone = any(
        found.format and not one.several and len(one.files) + len(one.named) >= NEARLY_ALL * count
        for one, found in inspected
    )
    # Pairs of a few images also occur by chance in many folders; masks do not.
    has_targets = any(
        found.format and not has_several(one) and (found.format != "pairs" or len(one.files) >= count / 100)
        for one, found in inspected
    )
    has_targets = has_targets or any(map(is_mask, pictures[:: count // SAMPLED_FOR_MASKS | 1]))
    if not alone and count <= (MAX_IMAGES_WITH_TARGETS if has_targets else MAX_IMAGES_OF_SEVERAL_KEYS):
        several = partial(patterns_of_several_keys, shared_heads(files))
        more = _distinct([*(one for one, _ in inspected), *find_pairings(files, several, is_mask)])
        inspected += [(one, inspect_targets(files, one, reader)) for one in more[len(inspected) :]]
    rivals = _with_shared_targets([one for one, _ in inspected], [one for one, found in inspected if found.format])
    kept = [both for both, others in zip(inspected, rivals, strict=True) if not _is_replaced(both[0], others)]
    return count_mask_values(files, kept, reader)


def _with_shared_targets(pairings: list[FilePairing], others: list[FilePairing]) -> list[list[FilePairing]]:
    """Return for each pairing those others that have some of its targets, found in time linear in the number of files.

    Args:
        pairings: pairings.
        others: pairings, of which bit i of a number stands for number i.
    """
    having: dict[str, int] = defaultdict(int)
    for number, other in enumerate(others):
        for path in other.named:
            having[path] |= 1 << number
    bits = [functools.reduce(operator.or_, (having.get(path, 0) for path in one.named), 0) for one in pairings]
    return [[other for number, other in enumerate(others) if found >> number & 1] for found in bits]


def _is_replaced(one: FilePairing, valid: list[FilePairing]) -> bool:
    """Return whether the targets of a pairing belong to the images of another one, among those with shared targets."""
    extended = any(_gives_all_targets(other, one, to_same_images=True) for other in valid)
    return any(
        (not other.several and _has_image_per_target(other, one))
        or _is_nearer(other, one)
        or (not extended and _gives_all_targets(other, one, to_same_images=False))
        for other in valid
    )


def _is_nearer(pairing: FilePairing, other: FilePairing) -> bool:
    """Return whether two pairings give the same targets different images, and this one those of a nearer folder."""
    if not pairing.with_targets.isdisjoint(other.with_targets):
        return False
    has_shared = False
    for image, target in pairing.files:  # most pairings differ from this one at the first shared target
        if target in other.named:
            if _depth(image, target) <= _depth(other.image_of[target], target):
                return False
            has_shared = True
    return has_shared


def _depth(one: str, other: str) -> int:
    """Return the number of folders that two paths share."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _gives_all_targets(pairing: FilePairing, other: FilePairing, to_same_images: bool) -> bool:
    """Return whether a pairing gives all targets of a smaller one to the same images, or all to other images."""
    if len(other.files) >= len(pairing.files) or has_several(pairing) or not other.named < pairing.named:
        return False
    return all((pairing.image_of[target] == image) is to_same_images for image, target in other.files)


def _distinct(pairings: Iterable[FilePairing]) -> list[FilePairing]:
    """Return one of the pairings that give the same files the same targets, the one with the fewest `*`."""
    found: dict[Any, FilePairing] = {}
    for one in pairings:
        files = frozenset(zip(one.files, one.targets_of, strict=True)), "{label}" in one.targets
        found[files] = min(found.get(files, one), one, key=lambda same: (same.images + same.targets).count("*"))
    return list(found.values())


def _has_image_per_target(pairing: FilePairing, other: FilePairing) -> bool:
    """Return whether the targets that another pairing takes for several of one image have an image each."""
    return other.several and len(other.files) < len(pairing.files) and other.named <= pairing.named
