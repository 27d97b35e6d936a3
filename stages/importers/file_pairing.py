"""Match images with target files: pairs of name patterns whose placeholders have the same texts."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property

from stages.core.path_parts import name_of, parent_of
from stages.images.archives import SourceFiles
from stages.images.decode import is_image_path
from stages.importers.frequent_patterns import (
    Key,
    Paths,
    Pattern,
    count_below,
    frequent_patterns,
    may_share_keys,
    sample_keys,
)
from stages.importers.sample import SPLIT_WORDS

Matched = dict[Key, tuple[str, tuple[str, ...]]]
"""The image and its target files, by key."""
MIN_IMAGES = 3  # images that a pattern must match
NEARLY_ALL = 0.9  # share of the targets, or of the images, that counts as nearly all


@dataclass(frozen=True)
class FilePairing:
    """A pattern of images and a pattern of their target files."""

    images: str
    targets: str
    several: bool
    """Whether some image has more than one target file; False if the pattern of the targets contains {label}."""
    files: tuple[tuple[str, str], ...]
    """The image and its first target file, for each key."""
    targets_of: tuple[tuple[str, ...], ...]
    """All target files, for each key."""

    @cached_property
    def named(self) -> frozenset[str]:
        """All target files."""
        return frozenset(path for paths in self.targets_of for path in paths)

    @cached_property
    def with_targets(self) -> frozenset[str]:
        """All images."""
        return frozenset(image for image, _ in self.files)

    @cached_property
    def image_of(self) -> dict[str, str]:
        """The image of each target file."""
        return {path: image for (image, _), paths in zip(self.files, self.targets_of, strict=True) for path in paths}

    @property
    def root(self) -> str:
        """The deepest folder that both patterns share, above any placeholder."""
        return shared_folder(self.images, self.targets)


def shared_folder(images: str, targets: str) -> str:
    """Return the deepest folder that two patterns share, above any placeholder; empty if there is none."""
    shared = []
    for one, other in zip(images.split("/")[:-1], targets.split("/")[:-1], strict=False):
        if one != other or "{" in one or "*" in one:
            break
        shared.append(one)
    return "/".join(shared)


def find_pairings(
    files: SourceFiles,
    patterns: Callable[[str], Iterator[tuple[Pattern, Key]]],
    is_mask: Callable[[str], bool],
) -> Iterator[FilePairing]:
    """Yield the pairs of patterns that match at least half of the images in their common folder, in either order.

    Fewer are enough if the targets are masks and nearly all have an image.

    Args:
        files: files of the source.
        patterns: yields the patterns of a path with its keys.
        is_mask: whether a file is measured to be a mask.
    """
    pictures = [path for path in files if is_image_path(path)]
    below, paths_of = count_below(pictures), frequent_patterns(pictures, patterns, MIN_IMAGES)
    samples = sample_keys(paths_of)
    repeated = {
        pattern: frozenset(key for key, paths in by_key.items() if len(paths) > 1)
        for pattern, by_key in paths_of.items()
    }

    @functools.cache
    def has_masks(pattern: Pattern) -> bool:
        return _are_masks(itertools.chain.from_iterable(paths_of[pattern].values()), is_mask)

    for (images, cut), (targets, other_cut) in itertools.permutations(paths_of, 2):
        if cut != other_cut or "{label}" in images:
            continue
        of_images, of_targets = paths_of[images, cut], paths_of[targets, other_cut]
        if not repeated[images, cut] <= of_targets.keys() or not may_share_keys(of_images, of_targets, samples):
            continue
        if _differ_by_split(images, targets):
            continue
        is_single = not (repeated[images, cut] or repeated[targets, other_cut] or "{label}" in targets)
        is_minority = 2 * len(of_targets) < below[shared_folder(images, targets)] / 2
        if is_single and is_minority and of_targets.keys() <= of_images.keys() and not has_masks((targets, other_cut)):
            continue  # all files of the pattern would be the targets
        found = _pair(targets, of_images, of_targets, is_single, is_mask)
        if found is None:
            continue
        count = len(found) + len({*_targets(found)})
        if count >= below[shared_folder(images, targets)] / 2 or _are_masks(_targets(found), is_mask):
            yield _as_pairing(images, targets, found)


def _match_single(common: Set[Key], of_images: Paths, of_targets: Paths) -> Matched:
    """Return the matched files of two patterns that both have one file for each key; nothing if they share a file."""
    images, targets = ([of[key][0] for key in common] for of in (of_images, of_targets))
    if any(map(operator.eq, images, targets)):
        return {}
    return dict(zip(common, zip(images, zip(targets, strict=True), strict=True), strict=True))


def _match(common: Set[Key], of_images: Paths, of_targets: Paths, has_label: bool) -> Matched:
    """Return the matched files of two patterns; nothing unless every common key has one image.

    A file that both patterns match is a target if its key has another image, as with `{key}.*` and `{key}.png`, or if
    it has the key of another image, as `{key}.png` matches a_mask.png. Else it is the image itself if the targets are
    those of all classes, as with `raw/{key}.png` and `{label}/{key}.png`.

    Args:
        common: keys of both patterns.
        of_images: files that match the pattern of the images, by key.
        of_targets: files that match the pattern of the targets, by key.
        has_label: whether a folder of the targets is the class.
    """
    matched: Matched = {}
    for key in common:
        found, named = of_images[key], of_targets[key]
        own = found if len(found) == 1 else [path for path in found if path not in named]
        if len(own) != 1 or (not has_label and own[0] in named):
            return {}
        if others := tuple(path for path in named if path != own[0]):
            matched[key] = own[0], others
    return matched


def _pair(
    targets: str, of_images: Paths, of_targets: Paths, is_single: bool, is_mask: Callable[[str], bool]
) -> Matched | None:
    """Return the matched files of two patterns if half of the images have a target; else None.

    Fewer images are enough if nearly all targets have an image, and are masks.

    Args:
        targets: pattern of the targets.
        of_images: files that match the pattern of the images, by key.
        of_targets: files that match the pattern of the targets, by key.
        is_single: whether each key has one file in both, and the pattern of the targets has no {label}.
        is_mask: whether a file is measured to be a mask.
    """
    common, has_label = of_images.keys() & of_targets.keys(), "{label}" in targets
    is_few = len(common) < len(of_images) / 2
    if len(common) < MIN_IMAGES or (is_few and len(common) < NEARLY_ALL * len(of_targets)):
        return None
    matched = (
        _match_single(common, of_images, of_targets) if is_single else _match(common, of_images, of_targets, has_label)
    )
    if len(matched) < MIN_IMAGES:
        return None
    if not _is_complete(matched, of_images) and not (
        len(matched) >= NEARLY_ALL * len(of_targets) and _are_masks(_targets(matched), is_mask)
    ):
        return None
    if has_label and len({name_of(parent_of(path)) for _, paths in matched.values() for path in paths}) < 2:
        return None  # a single folder of masks, which another pattern names
    return matched


def _as_pairing(images: str, targets: str, matched: Matched) -> FilePairing:
    several = "{label}" not in targets and any(len(paths) > 1 for _, paths in matched.values())
    in_order = [matched[key] for key in sorted(matched)]
    files = tuple((image, paths[0]) for image, paths in in_order)
    return FilePairing(images, targets, several, files, tuple(paths for _, paths in in_order))


def _is_complete(matched: Matched, of_images: Paths) -> bool:
    """Return whether half of the images, without those that are targets themselves, have a target."""
    if len(matched) >= len(of_images) / 2:
        return True
    used = {path for _, paths in matched.values() for path in paths}
    own = (matched[key][0] if key in matched else paths[0] for key, paths in of_images.items())
    return len(matched) >= sum(image not in used for image in own) / 2


def _targets(matched: Matched) -> Iterator[str]:
    return (path for _, paths in matched.values() for path in paths)


def _are_masks(targets: Iterable[str], is_mask: Callable[[str], bool]) -> bool:
    """Return whether some of the target files are measured to be masks, and none to be another image."""
    paths = sorted(targets)
    return all(is_mask(paths[place]) for place in {0, len(paths) // 2, len(paths) - 1})


def _differ_by_split(one: str, other: str) -> bool:
    """Return whether two patterns differ in a folder that is or may be a split of both: then neither is the target.

    >>> [_differ_by_split("train/a.png", f"{other}/a.png") for other in ("test", "trainannot", "testgt", "masks")]
    [True, False, True, False]
    """
    parts = list(itertools.zip_longest(one.split("/"), other.split("/"), fillvalue=""))
    differing = ((a.lower(), b.lower()) for a, b in parts[:-1] if a != b)
    splits = {*SPLIT_WORDS, "*", ""}
    return any(
        {a, b} & {*SPLIT_WORDS, "*"}
        and (all(c in splits or c[0] == "{" for c in (a, b)) or _begin_with_two_splits(a, b))
        for a, b in differing
    )


def _begin_with_two_splits(one: str, other: str) -> bool:
    """Return whether one of two folder names is a split, and the other one begins with another split."""
    split, longer = sorted((one, other), key=len)
    begun = {SPLIT_WORDS[word] for word in SPLIT_WORDS if longer.startswith(word)}
    return split in SPLIT_WORDS and bool(begun) and SPLIT_WORDS[split] not in begun
