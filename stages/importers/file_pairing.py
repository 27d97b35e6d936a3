"""Match images with target files: pairs of name patterns whose placeholders have the same texts."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from stages.core.path_parts import name_of, parent_of
from stages.images.archives import SourceFiles
from stages.images.decode import is_image_path
from stages.importers.frequent_patterns import (
    Key,
    Pattern,
    count_below,
    frequent_patterns,
    may_share_keys,
    sample_keys,
)
from stages.importers.sample import SPLIT_WORDS

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
        shared = []
        for one, other in zip(self.images.split("/")[:-1], self.targets.split("/")[:-1], strict=False):
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
    for (images, cut), (targets, other_cut) in itertools.permutations(paths_of, 2):
        if cut != other_cut or "{label}" in images:
            continue
        if not may_share_keys(paths_of[images, cut], paths_of[targets, other_cut], samples):
            continue
        if _differ_by_split(images, targets):
            continue
        pairing = _pair(images, targets, paths_of[images, cut], paths_of[targets, other_cut], is_mask)
        if pairing is None:
            continue
        covers_half = len(pairing.files) + len(pairing.named) >= below[pairing.root] / 2
        if covers_half or _are_masks(pairing.targets_of, is_mask):
            yield pairing


def _pair(
    images: str,
    targets: str,
    of_images: dict[Key, list[str]],
    of_targets: dict[Key, list[str]],
    is_mask: Callable[[str], bool],
) -> FilePairing | None:
    """Return the pairing of two patterns; None unless every key has one image, and half of the images have a target.

    Fewer images are enough if nearly all targets have an image, and are masks. A file that both patterns match is a
    target if its key has another image, as with `{key}.*` and `{key}.png`, or if it has the key of another image, as
    `{key}.png` matches a_mask.png. Else it is the image itself if the targets are those of all classes, as with
    `raw/{key}.png` and `{label}/{key}.png`.

    Args:
        images: pattern of the images.
        targets: pattern of the targets.
        of_images: files that match the pattern of the images, by key.
        of_targets: files that match the pattern of the targets, by key.
        is_mask: whether a file is measured to be a mask.
    """
    common = of_images.keys() & of_targets.keys()
    is_few = len(common) < len(of_images) / 2
    if len(common) < MIN_IMAGES or (is_few and len(common) < NEARLY_ALL * len(of_targets)):
        return None
    image_of, targets_of = {}, {}
    for key, found in of_images.items():
        if len(found) == 1 and key not in of_targets:  # usual, and fast
            image_of[key] = found[0]
            continue
        own = [path for path in found if path not in of_targets.get(key, ())] if len(found) > 1 else found
        if len(own) != 1 or ("{label}" not in targets and own[0] in of_targets.get(key, ())):
            return None
        image_of[key] = own[0]
        if others := [path for path in of_targets.get(key, ()) if path not in own]:
            targets_of[key] = tuple(others)
    if len(targets_of) < MIN_IMAGES:
        return None
    used = {path for paths in targets_of.values() for path in paths}
    is_complete = len(targets_of) >= sum(path not in used for path in image_of.values()) / 2
    if not is_complete and not (
        len(targets_of) >= NEARLY_ALL * len(of_targets) and _are_masks(targets_of.values(), is_mask)
    ):
        return None
    labels = {name_of(parent_of(path)) for paths in targets_of.values() for path in paths}
    if "{label}" in targets and len(labels) < 2:  # a single folder of masks, which another pattern names
        return None
    several = "{label}" not in targets and any(len(paths) > 1 for paths in targets_of.values())
    keys = sorted(targets_of)
    files_of = tuple((image_of[key], targets_of[key][0]) for key in keys)
    return FilePairing(images, targets, several, files_of, tuple(targets_of[key] for key in keys))


def _are_masks(targets: Iterable[tuple[str, ...]], is_mask: Callable[[str], bool]) -> bool:
    """Return whether some of the target files are measured to be masks, and none to be another image."""
    paths = sorted(path for paths in targets for path in paths)
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
