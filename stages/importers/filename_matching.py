"""Match images with target files by name patterns with {key}, and detect the format of the targets."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from PIL import Image

from stages.core.path_parts import folders_of, name_of, parent_of, stem_of, suffix_of
from stages.core.plurals import quantity
from stages.dataset.annotations import IGNORE_INDEX
from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable, decode_image, is_image_path, open_with_pillow
from stages.images.image_statistics import count_values, to_grey
from stages.images.label_images import decode_label_image
from stages.importers.folder_names import affixed_folder, shared_heads, without_split
from stages.importers.frequent_patterns import (
    Key,
    Pattern,
    count_below,
    frequent_patterns,
    may_share_keys,
    sample_keys,
)
from stages.importers.label_image_files import LabelImageFiles, read_levels
from stages.importers.label_regions import MAX_VALUES, count_regions, is_label_image, number_objects
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
from stages.importers.role_words import IMAGE_WORDS
from stages.importers.sample import SPLIT_WORDS

Array = np.ndarray[Any, Any]
Counts = dict[str, dict[int, int]]
"""Number of pixels by value of masks, by path."""
MIN_IMAGES = 3  # images that a pattern must match
NEARLY_ALL = 0.9  # share of the images from which no further patterns are tried
MAX_IMAGES_OF_SEVERAL_KEYS = 20_000  # images up to which patterns with several keys are tried, which takes memory
MAX_PARTS = 4  # separators of a name, from either end, at which a key may begin
INSPECTED = 12  # pairs of image and target that are decoded
MAX_MEGAPIXELS = 16.0  # of a pairing, after which no more than `MIN_IMAGES` pairs are decoded
MAX_COUNTED_MEGAPIXELS = 64.0  # of masks whose values are counted
MIN_VOTES = 0.75  # share of the decoded pairs that must agree
FEW_PIXELS = 1000  # pixels that usually suffice to show that an image has many colours
MAX_COUNTED = 500  # masks whose values are counted
DARK = 16  # grey level up to which a dot image counts as black; JPEG ringing stays below it
MIN_CORRELATION_GAIN = 0.3  # correlation of paired images above that of unpaired images
FEW_COLOURS = (
    "the targets contain few colours, as coloured masks of classes do; save them with one grey level or palette index "
    "per class"
)
IMAGES_OF_FEW_COLOURS = "the images have few colours, as coloured masks do"
NOT_BINARY = "the target files per object or class are not binary masks"


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


@dataclass(frozen=True)
class TargetInspection:
    """Detected format of the target files of a pairing."""

    format: str
    """masks, instances, dots or pairs; empty if none of these."""
    reason: str
    values: dict[int, float]
    """Share of the pixels by mask value; empty for other formats and for one mask per class."""
    ask: str = ""
    """Question about the targets; empty if there is none."""
    overlaps: str = ""
    """How much the masks of several classes overlap, as a sentence; empty if they do not."""
    likeness: Likeness | None = None
    """Measured relation of images and targets that show the same scenes; None for masks and unrelated images."""


def inspected_pairings(files: SourceFiles) -> list[tuple[FilePairing, TargetInspection]]:
    """Return the pairings with the detected formats of their targets.

    Patterns in which several placeholders identify an image are tried only if {key} alone does not give nearly all
    images a target file of their own. A pairing is left out if its several targets of one image are, in another
    pairing, the targets of an image each; or if its targets belong to images that are nearer to them.
    """
    count = sum(is_image_path(path) for path in files)
    is_mask = LabelImageFiles(files).is_one
    has_one_suffix = len({suffix_of(path) for path in files if is_image_path(path)}) == 1
    patterns = partial(_patterns, has_one_suffix)
    counted: Counts = {}
    inspected = [
        (one, inspect_targets(files, one, counted)) for one in _distinct(find_pairings(files, patterns, is_mask))
    ]
    alone = any(
        found.format and not one.several and len(one.files) + len(one.named) >= NEARLY_ALL * count
        for one, found in inspected
    )
    if not alone and count <= MAX_IMAGES_OF_SEVERAL_KEYS:
        several = partial(_patterns_of_several_keys, shared_heads(files))
        more = _distinct([*(one for one, _ in inspected), *find_pairings(files, several, is_mask)])
        inspected += [(one, inspect_targets(files, one, counted)) for one in more[len(inspected) :]]
    valid = [one for one, found in inspected if found.format]
    return [(one, found) for one, found in inspected if not _is_replaced(one, valid)]


def _is_replaced(one: FilePairing, valid: list[FilePairing]) -> bool:
    """Return whether the targets of a pairing belong to the images of another one."""
    extended = any(_gives_all_targets(other, one, to_same_images=True) for other in valid)
    return any(
        (not other.several and _has_image_per_target(other, one))
        or _is_nearer(other, one)
        or (not extended and _gives_all_targets(other, one, to_same_images=False))
        for other in valid
    )


def _is_nearer(pairing: FilePairing, other: FilePairing) -> bool:
    """Return whether two pairings give the same targets different images, and this one those of a nearer folder."""
    if pairing.named.isdisjoint(other.named) or not pairing.with_targets.isdisjoint(other.with_targets):
        return False
    shared = [(image, other.image_of[target], target) for image, target in pairing.files if target in other.named]
    return bool(shared) and all(_depth(image, target) > _depth(far, target) for image, far, target in shared)


def _depth(one: str, other: str) -> int:
    """Return the number of folders that two paths share."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _gives_all_targets(pairing: FilePairing, other: FilePairing, to_same_images: bool) -> bool:
    """Return whether a pairing gives all targets of a smaller one to the same images, or all to other images."""
    if len(other.files) >= len(pairing.files) or _has_several(pairing) or not other.named < pairing.named:
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


def _patterns(has_one_suffix: bool, path: str) -> Iterator[tuple[Pattern, Key]]:
    """Yield (pattern, key) for a path: images/{key}.png, {key}_mask.png, {key}/masks/*.png, masks/{label}/{key}.png.

    Args:
        has_one_suffix: whether all images have one suffix, so that patterns of any suffix match the same files.
        path: path of an image.
    """
    if any(sign in path for sign in "{}*"):
        return  # placeholder characters cannot be escaped in a pattern
    folders, stem, suffix = folders_of(path), stem_of(path), suffix_of(path)
    free = tuple("*" if part.lower() in SPLIT_WORDS else part for part in folders)
    keys = [*_keys(stem)]
    for ending in (suffix,) if has_one_suffix else (suffix, ".*"):
        for places in dict.fromkeys((folders, free)):
            inside = "/".join((*places, ""))
            yield (f"{inside}{{key}}{ending}", 0), (stem,)
            if len(places) > 1:
                yield ("/".join((*places[:-1], "{label}", f"{{key}}{ending}")), 0), (stem,)
            for before, key, after in keys:
                if places is not folders:
                    before, after = without_split(before), without_split(after)  # noqa: PLW2901
                yield (f"{inside}{before}{{key}}{after}{ending}", 0), (key,)
    for depth in range(1, min(2, len(folders)) + 1):  # one folder per image
        key, *rest = folders[-depth:]
        for name in dict.fromkeys(("{key}" if stem == key else stem, "*")):
            yield ("/".join((*folders[:-depth], "{key}", *rest, f"{name}{suffix}")), 0), (key,)


def _patterns_of_several_keys(heads: frozenset[str], path: str) -> Iterator[tuple[Pattern, Key]]:
    """Yield patterns in which folders and the name, or two parts of the name, identify the image.

    {folder}/images/{key}.png with {folder}/masks/{key}_mask.png or {folder}/{label}/{key}.png;
    {folder}/t{key}.tif with {folder}_GT/SEG/man_seg{key}.tif; {part}/{folder}/{key}.jpg with {part}/{folder}/{key}.png;
    {name}_{key}.png with {name}_dots_{key}.png.

    Args:
        heads: folder names, or parts of them, that several folders share.
        path: path of an image.
    """
    if any(sign in path for sign in "{}*"):
        return
    folders, stem, suffix = folders_of(path), stem_of(path), suffix_of(path)
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    if len(folders) > 1:
        places = "/".join((*folders[:-2], "{folder}", "{label}"))
        yield (f"{places}/{{key}}{suffix}", 0), (folders[-2], stem)
    for places, values in _folders_as_keys(folders, heads):
        for before, key, after in _parts_of_name(stem, cuts):
            yield (f"{places}/{before}{{key}}{after}{suffix}", 0), (*values, key)
        yield (f"{places}/{{key}}.*", 0), (*values, stem)
    inside = "/".join((*folders, ""))
    for number, cut in enumerate(cuts[:MAX_PARTS], 1):
        left, right = stem[:cut], stem[cut + 1 :]
        if not (left and right):
            continue
        yield (f"{inside}{{name}}{stem[cut]}{{key}}{suffix}", number), (left, right)
        word = re.match(r"([^_\-. ]*[A-Za-z][^_\-. ]*)([_\-. ])(.+)", right)
        if word:
            yield (f"{inside}{{name}}{stem[cut]}{word[1]}{word[2]}{{key}}{suffix}", number), (left, word[3])


def _folders_as_keys(folders: tuple[str, ...], heads: frozenset[str]) -> Iterator[tuple[str, Key]]:
    """Yield the folders of a path with placeholders, and their texts: one of the last two, or two consecutive ones."""
    for place in range(max(0, len(folders) - 2), len(folders)):
        for pattern, value in affixed_folder(folders[place], heads):
            yield "/".join((*folders[:place], pattern, *folders[place + 1 :])), (value,)
    for end in (1, 2) if len(folders) > 2 else (1,) if len(folders) > 1 else ():
        first = len(folders) - end - 1
        yield "/".join((*folders[:first], "{part}", "{folder}", *folders[first + 2 :])), folders[first : first + 2]


def _parts_of_name(stem: str, cuts: list[int]) -> dict[tuple[str, str, str], None]:
    """Return (prefix, key, suffix) of a file stem: whole, without an end or the beginning, or its last number."""
    ends = [("", stem, ""), *(("", stem[:cut], stem[cut:]) for cut in cuts[-2:])]
    ends += [(stem[: cut + 1], stem[cut + 1 :], "") for cut in cuts[:1]]
    if numbered := re.fullmatch(r"(.*\D)(\d+)", stem):
        ends.append((numbered[1], numbered[2], ""))
    ends += [(without_split(before), key, without_split(after)) for before, key, after in ends]
    return dict.fromkeys(parts for parts in ends if parts[1])


def _keys(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield (prefix, key, suffix) of a file stem: split at separators, at letters, or before the last number.

    >>> list(_keys("001cell"))
    [('', '001', 'cell')]
    >>> list(_keys("img_7"))
    [('img_', '7', ''), ('', 'img', '_7')]
    """
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    keys: dict[tuple[str, str, str], None] = {}
    for cut in dict.fromkeys((*cuts[:MAX_PARTS], *cuts[-MAX_PARTS:])):
        if stem[cut + 1 :] and stem[:cut]:
            keys |= {(stem[: cut + 1], stem[cut + 1 :], ""): None, ("", stem[:cut], stem[cut:]): None}
    for pattern in (
        r"()(.*?[^A-Za-z_\-. ])([A-Za-z]+)",
        r"([A-Za-z]+)([^A-Za-z_\-. ].*)()",
        r"(.*\D)(\d+)()",
        r"()(.+)(x\d)",
    ):
        if found := re.fullmatch(pattern, stem):
            keys[found[1], found[2], found[3]] = None
    yield from keys


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


def inspect_targets(files: SourceFiles, pairing: FilePairing, counted: Counts) -> TargetInspection:
    """Decode some pairs and detect which format the target files have.

    Args:
        files: files of the source by path.
        pairing: images and targets.
        counted: number of pixels by value of the masks that other pairings have in common; more are added.
    """
    spread = np.unique(np.linspace(0, len(pairing.files) - 1, INSPECTED).round().astype(int))
    spread = np.random.default_rng(0).permutation(spread)  # large images are not all decoded
    masks = MaskFiles(files)
    masks.add(sorted(pairing.named)[:MAX_COUNTED])
    # Class folders with the same file names give many such pairings, so that two files of each have to suffice.
    if _has_several(pairing) and not any(_is_binary(files, masks, pairing.files[place][1]) for place in (0, -1)):
        return TargetInspection("", NOT_BINARY, {})
    decoded: list[tuple[Array | None, Array | None]] = []
    for image, target in (pairing.files[i] for i in spread):
        if len(decoded) >= MIN_IMAGES and sum(map(_megapixels, decoded)) > MAX_MEGAPIXELS:
            break
        decoded.append((read_levels(files, image), _mask_values(files, masks, target)))
    readable = [(a, b) for a, b in decoded if a is not None and b is not None]
    pairs = [(a, b) for a, b in readable if a.shape[:2] == b.shape[:2]]
    required = max(MIN_IMAGES, MIN_VOTES * len(decoded))
    if len(pairs) < required:
        unreadable = "more than a quarter of the opened pairs contain a file that cannot be read"
        if len(readable) >= required:
            return _compare_sizes(pairing, readable)
        return TargetInspection("", f"{unreadable}{_first_error(files, pairing)}", {})
    return _inspect_decoded(files, masks, pairing, spread.tolist(), pairs, counted)


def _compare_sizes(pairing: FilePairing, decoded: list[tuple[Array, Array]]) -> TargetInspection:
    """Return the reason against image and target of different sizes, with their relation if they show one scene."""
    (image, target), (path, other) = decoded[0], pairing.files[0]
    sizes = " and ".join(f"{array.shape[1]}x{array.shape[0]}" for array in (image, target))
    reason = f"the sizes of image and target differ: {path} and {other} have {sizes} pixels"
    likeness = measure_likeness(decoded)
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


def _megapixels(pair: tuple[Array | None, Array | None]) -> float:
    """Return the number of decoded pixels of an image and its target."""
    return sum(level.shape[0] * level.shape[1] for level in pair if level is not None) / 1e6


def _has_several(pairing: FilePairing) -> bool:
    """Return whether an image has a target file per object or class."""
    return pairing.several or "{label}" in pairing.targets


def _inspect_decoded(
    files: SourceFiles,
    masks: MaskFiles,
    pairing: FilePairing,
    spread: list[int],
    pairs: list[tuple[Array, Array]],
    counted: Counts,
) -> TargetInspection:
    """Detect the format of target files from some decoded pairs; `spread` are the numbers of the opened keys."""
    images, targets = zip(*pairs, strict=True)
    is_named = not IMAGE_WORDS.isdisjoint(re.split(r"[^a-z]+", pairing.images.lower()))  # drawings are images, too
    if _most_agree(_is_plain(a) or (not is_named and is_label_image(a)) for a in images) or _most_agree(
        _is_dotted(a) for a in images
    ):
        return TargetInspection("", "the images are masks or dot images themselves", {})
    plain, binary = _most_agree(_is_plain(b) for b in targets), _most_agree(_is_plain(b, 2) for b in targets)
    if _has_several(pairing):
        if not binary:
            return TargetInspection("", NOT_BINARY, {})
        return _inspect_binary_masks(files, masks, pairing, spread)
    if _most_agree(_is_dotted(b) for b in targets):
        return TargetInspection("dots", "the targets contain small bright dots on black", {})
    numbered = all(b.ndim == 2 for b in targets) and number_objects(targets)
    if (plain or numbered) and not _are_images_by_name(pairing, pairs, binary):
        why = "each value of a target is one connected region: they number objects"
        if numbered:
            return TargetInspection("instances", why, {})
        return _inspect_values(pairing, targets, _values(files, masks, pairing, counted))
    return _inspect_paired_images(pairing, pairs, binary)


def _are_images_by_name(pairing: FilePairing, pairs: list[tuple[Array, Array]], binary: bool) -> bool:
    """Return whether targets with few values are named like distances or restored images, such as clean pages."""
    if are_distances(pairing.images, pairing.targets):
        return not binary
    return are_restored(pairing.images, pairing.targets) and measure_likeness(pairs).correlation >= SCENE


def _inspect_paired_images(pairing: FilePairing, pairs: list[tuple[Array, Array]], binary: bool) -> TargetInspection:
    """Return whether images with a partner of the same size are pairs."""
    images, targets = zip(*pairs, strict=True)
    if are_distances(pairing.images, pairing.targets) and not binary:
        return TargetInspection("pairs", "the targets are named like maps of distances", {})
    for some, reason in ((images, IMAGES_OF_FEW_COLOURS), (targets, FEW_COLOURS)):
        if _most_agree(_has_few_colours(one) for one in some):
            return TargetInspection("", reason, {})
    if direction_of_names(pairing.images, pairing.targets) < 0:
        return TargetInspection("", "the target names denote degraded images", {})
    if are_explicit(pairing.images, pairing.targets):
        return TargetInspection("pairs", "the names denote input and target", {})
    likeness = measure_likeness(pairs)
    is_named = direction_of_names(pairing.images, pairing.targets) > 0  # pages of text resemble each other
    if not _show_same_scenes(pairs) and not (is_named and likeness.correlation >= SCENE):
        return TargetInspection("", _reason_not_masks(targets), {})
    same = "images of the same scenes; check which of the two is the target"
    return TargetInspection("pairs", same, {}, likeness=likeness)


def _is_binary(files: SourceFiles, masks: MaskFiles, path: str) -> bool:
    level = _mask_values(files, masks, path)
    return level is not None and _is_plain(level, 2)


def _inspect_binary_masks(
    files: SourceFiles, masks: MaskFiles, pairing: FilePairing, spread: list[int]
) -> TargetInspection:
    """Return the format of several binary masks per image; `spread` are the numbers of the keys to open."""
    if pairing.several:
        return TargetInspection("instances", "the targets are binary masks, one per object", {})
    overlaps = _describe_overlaps(files, masks, [pairing.targets_of[number] for number in spread])
    return TargetInspection("masks", "the targets are binary masks, one per class", {}, overlaps=overlaps)


def _describe_overlaps(files: SourceFiles, masks: MaskFiles, targets: list[tuple[str, ...]]) -> str:
    """Return how many images have overlapping masks, and the share of such pixels; empty if there are none."""
    overlapping, marked, images = 0, 0, 0
    for paths in targets:
        values = [value for path in paths if (value := _mask_values(files, masks, path)) is not None]
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


def _inspect_values(pairing: FilePairing, targets: tuple[Array, ...], values: dict[int, float]) -> TargetInspection:
    """Return label images of classes, with a note if their values may number objects."""
    reason, ask = "the targets contain few distinct values, as masks do", ""
    if _most_agree(_has_one_region_per_value(b) for b in targets):
        reason += "; each value is one connected region, however: if the values number objects, use format: instances"
        ask = (
            f"ingest.format: each value in {pairing.files[0][1]} is one connected region: are the values classes "
            "(masks), or numbers of objects (instances)?"
        )
    return TargetInspection("masks", reason, values, ask=ask)


def _reason_not_masks(targets: tuple[Array, ...]) -> str:
    """Return why target files are not masks."""
    if _most_agree(b.ndim == 3 for b in targets):
        return "the targets are in colour and do not show the scenes of the images; masks are grey or have a palette"
    return (
        f"the targets contain more than {MAX_VALUES} grey levels: masks have few, objects with numbers have one region "
        "each, and JPEG alters the values of several classes"
    )


def _most_agree(votes: Iterator[bool]) -> bool:
    return bool(np.mean(list(votes)) >= MIN_VOTES)


def _is_plain(level: Array, values: int = MAX_VALUES) -> bool:
    return level.ndim == 2 and len(count_values(level)) <= values


def _has_few_colours(image: Array) -> bool:
    """Return whether a colour image has as few colours as a mask has classes."""
    if image.ndim != 3:
        return False
    pixels = image.reshape(-1, image.shape[2])
    few = pixels[:: max(1, len(pixels) // FEW_PIXELS)]
    return all(len(np.unique(some, axis=0)) <= MAX_VALUES for some in (few, pixels))


def _has_one_region_per_value(level_HW: Array) -> bool:
    """Return whether there are more than `MIN_IMAGES` nonzero values, and each is one connected region."""
    found = count_values(level_HW).keys() - {0} if level_HW.ndim == 2 else set()
    return len(found) > MIN_IMAGES and count_regions(level_HW) <= len(found)


def _values(files: SourceFiles, masks: MaskFiles, pairing: FilePairing, counted: Counts) -> dict[int, float]:
    """Return the share of pixels by mask value, counted in many masks so that rare values are included.

    Args:
        files: files of the source by path.
        masks: masks of the pairing.
        pairing: images with masks.
        counted: number of pixels by value of the masks that were counted before; more are added.
    """
    values: Counter[int] = Counter()
    for _, target in pairing.files[:: max(1, len(pairing.files) // MAX_COUNTED)][:MAX_COUNTED]:
        counts = counted.get(target)
        if counts is None:
            level = _mask_values(files, masks, target)
            counts = count_values(level) if level is not None and level.ndim == 2 else {}
            if not masks.has_palettes:  # otherwise the values may depend on the palettes of the other masks
                counted[target] = counts
        values.update(counts)
        if values.total() > MAX_COUNTED_MEGAPIXELS * 1e6:
            break
    return {value: count / values.total() for value, count in sorted(values.items())}


def marks_unknown(values: dict[int, float]) -> bool:
    """Return whether the value 255 probably marks unknown pixels: the other values roughly count up from 0."""
    others = sorted(set(values) - {IGNORE_INDEX})
    return IGNORE_INDEX in values and len(others) > 1 and others[-1] < 2 * len(others)


def _mask_values(files: SourceFiles, masks: MaskFiles, path: str) -> Array | None:
    """Return the values of a file as `ingest` reads those of a mask; if it is not a mask, as `_levels`."""
    try:
        data = files[path]()
        values = masks.compare_palettes(decode_label_image(data))
    except (Unreadable, OSError):
        return read_levels(files, path)
    if _is_plain(values, 2) and not _has_8_bits(data) and (levels := read_levels(files, path)) is not None:
        is_deep = levels.dtype == np.uint16 and not _is_plain(levels)
        return levels if is_deep else values  # no blurred mask: distances with many missing values
    return values


def _has_8_bits(data: bytes) -> bool:
    """Return whether the header of an image states grey levels or palette indices of at most 8 bits."""
    try:
        with open_with_pillow(data) as file:
            return file.mode in ("1", "L", "P")
    except (Unreadable, OSError, SyntaxError, ValueError, OverflowError, Image.DecompressionBombError):
        return False


def _is_dotted(level: Array) -> bool:
    """Return whether an image shows at least `MIN_IMAGES` bright regions on black, most of them small."""
    from scipy import ndimage

    level_HW = level if level.ndim == 2 else level.max(axis=2)
    bright_HW = level_HW > max(1, level_HW.max() / 2)
    if (level_HW > DARK).mean() > 0.1 or bright_HW.mean() > 0.05:
        return False
    piece_HW, count = ndimage.label(bright_HW, np.ones((3, 3)))
    return bool(count >= MIN_IMAGES and np.median(np.bincount(piece_HW.ravel())[1:]) <= 30)


def _show_same_scenes(pairs: list[tuple[Array, Array]]) -> bool:
    """Return whether paired images correlate clearly more than unpaired images, so that they show the same scene."""
    thumbs = [[_thumbnail(image) for image in pair] for pair in pairs]
    own = np.mean([np.dot(a, b) for a, b in thumbs])
    others = np.mean([np.dot(a, b) for (a, _), (_, b) in zip(thumbs, thumbs[1:] + thumbs[:1], strict=True)])
    return bool(own > others + MIN_CORRELATION_GAIN)


def _thumbnail(image: Array) -> Array:
    """Return a 16x16 grey thumbnail as a vector [256] of mean 0 and norm 1."""
    values = np.asarray(Image.fromarray(to_grey(image)).resize((16, 16)), np.float64).ravel()
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))
