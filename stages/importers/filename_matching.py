"""Match images with target files by name patterns with {key}, and detect the format of the targets."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from stages.core.plurals import quantity
from stages.dataset.annotations import IGNORE_INDEX
from stages.images.archives import SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable, decode_image, open_with_pillow
from stages.images.image_statistics import count_values, to_grey
from stages.images.label_images import decode_label_image
from stages.importers.frequent_patterns import (
    Key,
    Pattern,
    count_below,
    frequent_patterns,
    may_share_keys,
    sample_keys,
)
from stages.importers.mask_files import MaskFiles
from stages.importers.sample import SPLIT_WORDS

Array = np.ndarray[Any, Any]
MIN_IMAGES = 3  # images that a pattern must match
NEARLY_ALL = 0.9  # share of the images from which no further patterns are tried
MAX_IMAGES_OF_SEVERAL_KEYS = 20_000  # images up to which patterns with several keys are tried, which takes memory
MAX_PARTS = 4  # separators of a name, from either end, at which a key may begin
INSPECTED = 12  # pairs of image and target that are decoded
MAX_MEGAPIXELS = 16.0  # of a pairing, after which no more than `MIN_IMAGES` pairs are decoded
MAX_COUNTED_MEGAPIXELS = 64.0  # of masks whose values are counted
MIN_VOTES = 0.75  # share of the decoded pairs that must agree
MAX_VALUES = 32  # distinct values of a mask; an image with more is not a mask
MANY_OBJECTS = 10  # values of one region each in an image from which they number objects
PIECES = 1.25  # regions per value up to which many values are one region each
MAX_COUNTED = 500  # masks whose values are counted
DARK = 16  # grey level up to which a dot image counts as black; JPEG ringing stays below it
MIN_CORRELATION_GAIN = 0.3  # correlation of paired images above that of unpaired images
NOT_BINARY = "the target files per object or class are not binary masks"
DEGRADED_WORDS = frozenset("noisy noise input low lr blur blurred degraded corrupted raw source".split())
"""Words in file names that denote the degraded image, which is the input of a restoration task."""


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

    @property
    def named(self) -> frozenset[str]:
        """All target files."""
        return frozenset(path for paths in self.targets_of for path in paths)

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
    overlaps: str = ""
    """How much the masks of several classes overlap, as a sentence; empty if they do not."""


def inspected_pairings(files: SourceFiles) -> list[tuple[FilePairing, TargetInspection]]:
    """Return the pairings with the detected formats of their targets.

    Patterns in which several placeholders identify an image are tried only if {key} alone does not give nearly all
    images a target file of their own. A pairing is left out if its several targets of one image are, in another
    pairing, the targets of an image each; or if its targets belong to images that are nearer to them.
    """
    count = sum(PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES for path in files)
    inspected = [(one, inspect_targets(files, one)) for one in _distinct(find_pairings(files, _patterns))]
    alone = any(
        found.format and not one.several and len(one.files) + len(one.named) >= NEARLY_ALL * count
        for one, found in inspected
    )
    if not alone and count <= MAX_IMAGES_OF_SEVERAL_KEYS:
        more = _distinct([*(one for one, _ in inspected), *find_pairings(files, _patterns_of_several_keys)])
        inspected += [(one, inspect_targets(files, one)) for one in more[len(inspected) :]]
    valid = [one for one, found in inspected if found.format]
    return [(one, found) for one, found in inspected if not any(_is_better(other, one) for other in valid)]


def _is_better(pairing: FilePairing, other: FilePairing) -> bool:
    """Return whether the targets of another pairing belong to the images of this one."""
    has_image_per_target = not pairing.several and _has_image_per_target(pairing, other)
    is_nearer = len(pairing.root) > len(other.root) and f"{pairing.root}/".startswith(f"{other.root}/".lstrip("/"))
    return has_image_per_target or (
        is_nearer
        and not other.named.isdisjoint(pairing.named)
        and {image for image, _ in pairing.files}.isdisjoint(image for image, _ in other.files)
    )


def _distinct(pairings: Iterable[FilePairing]) -> list[FilePairing]:
    """Return one of the pairings that give the same files the same targets, the one with the fewest `*`."""
    found: dict[Any, FilePairing] = {}
    for one in pairings:
        files = one.files, one.targets_of, "{label}" in one.targets
        found[files] = min(found.get(files, one), one, key=lambda same: (same.images + same.targets).count("*"))
    return list(found.values())


def _has_image_per_target(pairing: FilePairing, other: FilePairing) -> bool:
    """Return whether the targets that another pairing takes for several of one image have an image each."""
    return other.several and len(other.files) < len(pairing.files) and other.named <= pairing.named


def find_pairings(
    files: SourceFiles, patterns: Callable[[PurePosixPath], Iterator[tuple[Pattern, Key]]]
) -> Iterator[FilePairing]:
    """Yield the pairs of patterns that match at least half of the images in their common folder, in either order.

    Args:
        files: files of the source.
        patterns: yields the patterns of a path with its keys.
    """
    pictures = [path for path in files if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES]
    below, paths_of = count_below(pictures), frequent_patterns(pictures, patterns, MIN_IMAGES)
    samples = sample_keys(paths_of)
    for (images, cut), (targets, other_cut) in itertools.permutations(paths_of, 2):
        if cut != other_cut or "{label}" in images:
            continue
        if not may_share_keys(paths_of[images, cut], paths_of[targets, other_cut], samples):
            continue
        if _differ_by_split(images, targets):
            continue
        pairing = _pair(images, targets, paths_of[images, cut], paths_of[targets, other_cut])
        if pairing and len(pairing.files) + len(pairing.named) >= below[pairing.root] / 2:
            yield pairing


def _pair(
    images: str, targets: str, of_images: dict[Key, list[str]], of_targets: dict[Key, list[str]]
) -> FilePairing | None:
    """Return the pairing of two patterns; None unless every key has one image, and half of the images have a target.

    A file that both patterns match is a target if its key has another image, as with `{key}.*` and `{key}.png`. Else it
    is the image itself if the targets are those of all classes, as with `raw/{key}.png` and `{label}/{key}.png`.

    Args:
        images: pattern of the images.
        targets: pattern of the targets.
        of_images: files that match the pattern of the images, by key.
        of_targets: files that match the pattern of the targets, by key.
    """
    common = of_images.keys() & of_targets.keys()
    if len(common) < max(MIN_IMAGES, len(of_images) / 2):
        return None
    image_of, targets_of = {}, {}
    for key, found in of_images.items():
        own = [path for path in found if path not in of_targets.get(key, ())] if len(found) > 1 else found
        if len(own) != 1 or ("{label}" not in targets and own[0] in of_targets.get(key, ())):
            return None
        image_of[key] = own[0]
        if others := [path for path in of_targets.get(key, ()) if path not in own]:
            targets_of[key] = tuple(others)
    if len(targets_of) < max(MIN_IMAGES, len(of_images) / 2):
        return None
    labels = {PurePosixPath(path).parent.name for paths in targets_of.values() for path in paths}
    if "{label}" in targets and len(labels) < 2:  # a single folder of masks, which another pattern names
        return None
    several = "{label}" not in targets and any(len(paths) > 1 for paths in targets_of.values())
    keys = sorted(targets_of)
    files_of = tuple((image_of[key], targets_of[key][0]) for key in keys)
    return FilePairing(images, targets, several, files_of, tuple(targets_of[key] for key in keys))


def _patterns(path: PurePosixPath) -> Iterator[tuple[Pattern, Key]]:
    """Yield (pattern, key) for a path: images/{key}.png, {key}_mask.png, {key}/masks/*.png, masks/{label}/{key}.png."""
    folders, stem = path.parts[:-1], path.stem
    if any(sign in str(path) for sign in "{}*"):
        return  # placeholder characters cannot be escaped in a pattern
    free = tuple("*" if part.lower() in SPLIT_WORDS else part for part in folders)
    for ending in (path.suffix, ".*"):
        for places in dict.fromkeys((folders, free)):
            yield ("/".join((*places, f"{{key}}{ending}")), 0), (stem,)
            if len(places) > 1:
                yield ("/".join((*places[:-1], "{label}", f"{{key}}{ending}")), 0), (stem,)
            for before, key, after in _keys(stem):
                yield ("/".join((*places, f"{before}{{key}}{after}{ending}")), 0), (key,)
    for depth in range(1, min(3, len(path.parts))):  # one folder per image
        key, *rest = path.parts[-1 - depth : -1]
        for name in dict.fromkeys(("{key}" if stem == key else stem, "*")):
            yield ("/".join((*path.parts[: -1 - depth], "{key}", *rest, f"{name}{path.suffix}")), 0), (key,)


def _patterns_of_several_keys(path: PurePosixPath) -> Iterator[tuple[Pattern, Key]]:
    """Yield patterns in which folders and the name, or two parts of the name, identify the image.

    {folder}/images/{key}.png with {folder}/masks/{key}_mask.png or {folder}/{label}/{key}.png;
    {part}/{folder}/{key}.jpg with {part}/{folder}/{key}.png; {name}_{key}.png with {name}_dots_{key}.png.
    """
    folders, stem = path.parts[:-1], path.stem
    if any(sign in str(path) for sign in "{}*"):
        return
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    ends = [("", stem, ""), *(("", stem[:cut], stem[cut:]) for cut in cuts[-1:])]
    ends += [(stem[: cut + 1], stem[cut + 1 :], "") for cut in cuts[:1]]
    around: dict[str, Key] = {
        "/".join((*folders[:place], "{folder}", *folders[place + 1 :])): (folders[place],)
        for place in range(max(0, len(folders) - 2), len(folders))
    }
    if len(folders) > 1:
        above = folders[:-2]
        around["/".join((*above, "{part}", "{folder}"))] = folders[-2:]
        yield ("/".join((*above, "{folder}", "{label}", f"{{key}}{path.suffix}")), 0), (folders[-2], stem)
    for places, values in around.items():
        for before, key, after in ends:
            if key:
                yield (f"{places}/{before}{{key}}{after}{path.suffix}", 0), (*values, key)
        yield (f"{places}/{{key}}.*", 0), (*values, stem)
    inside = "/".join((*folders, ""))
    for number, cut in enumerate(cuts[:MAX_PARTS], 1):
        left, right = stem[:cut], stem[cut + 1 :]
        if not (left and right):
            continue
        yield (f"{inside}{{name}}{stem[cut]}{{key}}{path.suffix}", number), (left, right)
        word = re.match(r"([^_\-. ]*[A-Za-z][^_\-. ]*)([_\-. ])(.+)", right)
        if word:
            yield (f"{inside}{{name}}{stem[cut]}{word[1]}{word[2]}{{key}}{path.suffix}", number), (left, word[3])


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
    for pattern in (r"()(.*?[^A-Za-z_\-. ])([A-Za-z]+)", r"([A-Za-z]+)([^A-Za-z_\-. ].*)()", r"(.*\D)(\d+)()"):
        if found := re.fullmatch(pattern, stem):
            keys[found[1], found[2], found[3]] = None
    yield from keys


def _differ_by_split(one: str, other: str) -> bool:
    """Return whether two patterns differ in a folder that is or may be a split: then neither is the target."""
    parts = list(itertools.zip_longest(one.split("/"), other.split("/"), fillvalue=""))
    return any(a != b and {a.lower(), b.lower()} & {*SPLIT_WORDS, "*"} for a, b in parts[:-1])


def inspect_targets(files: SourceFiles, pairing: FilePairing) -> TargetInspection:
    """Decode some pairs and detect which format the target files have."""
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
        decoded.append((_levels(files, image), _mask_values(files, masks, target)))
    readable = [(a, b) for a, b in decoded if a is not None and b is not None]
    pairs = [(a, b) for a, b in readable if a.shape[:2] == b.shape[:2]]
    required = max(MIN_IMAGES, MIN_VOTES * len(decoded))
    if len(pairs) < required:
        unreadable = "more than a quarter of the opened pairs contain a file that cannot be read"
        differing = "the sizes of image and target differ"
        return TargetInspection("", unreadable if len(readable) < required else differing, {})
    return _inspect_decoded(files, masks, pairing, spread.tolist(), pairs)


def _megapixels(pair: tuple[Array | None, Array | None]) -> float:
    """Return the number of decoded pixels of an image and its target."""
    return sum(level.shape[0] * level.shape[1] for level in pair if level is not None) / 1e6


def _has_several(pairing: FilePairing) -> bool:
    """Return whether an image has a target file per object or class."""
    return pairing.several or "{label}" in pairing.targets


def _inspect_decoded(
    files: SourceFiles, masks: MaskFiles, pairing: FilePairing, spread: list[int], pairs: list[tuple[Array, Array]]
) -> TargetInspection:
    """Detect the format of target files from some decoded pairs; `spread` are the numbers of the opened keys."""
    images, targets = zip(*pairs, strict=True)
    if _most_agree(_is_plain(a) for a in images) or _most_agree(_is_dotted(a) for a in images):
        return TargetInspection("", "the images are masks or dot images themselves", {})
    plain, binary = _most_agree(_is_plain(b) for b in targets), _most_agree(_is_plain(b, 2) for b in targets)
    if _has_several(pairing):
        if not binary:
            return TargetInspection("", NOT_BINARY, {})
        return _inspect_binary_masks(files, masks, pairing, spread)
    if _most_agree(_is_dotted(b) for b in targets):
        return TargetInspection("dots", "the targets contain small bright dots on black", {})
    numbered = _most_agree(_has_one_region_per_value(b) for b in targets)
    if plain or (numbered and _count_objects(targets)):
        return _inspect_values(files, masks, pairing, numbered, targets)
    if _is_degraded(pairing.targets, pairing.images):
        return TargetInspection("", "the target names denote degraded images", {})
    if not _show_same_scenes(pairs):
        return TargetInspection("", _reason_not_masks(targets), {})
    return TargetInspection("pairs", "images of the same scenes; check which of the two is the target", {})


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
    return TargetInspection("masks", "the targets are binary masks, one per class", {}, overlaps)


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


def _inspect_values(
    files: SourceFiles, masks: MaskFiles, pairing: FilePairing, numbered: bool, targets: tuple[Array, ...]
) -> TargetInspection:
    """Return whether the values of label images are classes or the numbers of objects."""
    if numbered and _count_objects(targets):
        return TargetInspection("instances", "each value of a target is one connected region: they number objects", {})
    note = "; each value is one connected region, however: if the values number objects, use format: instances"
    reason = "the targets contain few distinct values, as masks do" + note * numbered
    return TargetInspection("masks", reason, _values(files, masks, pairing))


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


def _has_one_region_per_value(level_HW: Array) -> bool:
    """Return whether there are more than `MIN_IMAGES` nonzero values, and each is one connected region.

    If there are many values, a few may consist of several pieces.
    """
    from skimage import measure

    found = count_values(level_HW).keys() - {0} if level_HW.ndim == 2 else set()
    if len(found) <= MIN_IMAGES:
        return False
    regions = int(measure.label(level_HW, background=0, connectivity=2).max())  # type: ignore[no-untyped-call]
    return regions <= len(found) * (PIECES if len(found) >= MANY_OBJECTS else 1)


def _count_objects(levels: tuple[Array, ...]) -> bool:
    """Return whether values number objects: they are not the same in all images, and count from 1 or are many.

    The numbers of objects may have gaps, such as those of cells that are followed through a film.
    """
    found = [sorted(count_values(level_HW).keys() - {0}) for level_HW in levels]
    counts = _most_agree(values == list(range(1, len(values) + 1)) or len(values) >= MANY_OBJECTS for values in found)
    return counts and any(values != found[0] for values in found)


def _values(files: SourceFiles, masks: MaskFiles, pairing: FilePairing) -> dict[int, float]:
    """Return the share of pixels by mask value, counted in many masks so that rare values are included."""
    values: Counter[int] = Counter()
    for _, target in pairing.files[:: max(1, len(pairing.files) // MAX_COUNTED)][:MAX_COUNTED]:
        level = _mask_values(files, masks, target)
        if level is not None and level.ndim == 2:
            values.update(count_values(level))
        if values.total() > MAX_COUNTED_MEGAPIXELS * 1e6:
            break
    return {value: count / values.total() for value, count in sorted(values.items())}


def marks_unknown(values: dict[int, float]) -> bool:
    """Return whether the value 255 probably marks unknown pixels: the other values roughly count up from 0."""
    others = sorted(set(values) - {IGNORE_INDEX})
    return IGNORE_INDEX in values and len(others) > 1 and others[-1] < 2 * len(others)


def _levels(files: SourceFiles, path: str) -> Array | None:
    """Return grey levels or palette indices [H, W], or colours [H, W, C]; None if the file is not readable."""
    try:
        data = files[path]()
        with open_with_pillow(data) as file:
            if file.mode in ("1", "P"):
                return np.asarray(file.convert("L") if file.mode == "1" else file)
        image = decode_image(data).image
    except (Unreadable, OSError, SyntaxError, ValueError, OverflowError):
        return None
    return image[:, :, 0] if image.ndim == 3 and (image == image[:, :, :1]).all() else image


def _mask_values(files: SourceFiles, masks: MaskFiles, path: str) -> Array | None:
    """Return the values of a file as `ingest` reads those of a mask; if it is not a mask, as `_levels`."""
    try:
        return masks.compare_palettes(decode_label_image(files[path]()))
    except (Unreadable, OSError):
        return _levels(files, path)


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


def _is_degraded(targets: str, images: str) -> bool:
    """Return whether the target pattern contains words that denote degraded images and that the other pattern lacks."""
    words = [set(re.split(r"[^a-z]+", pattern.lower())) for pattern in (targets, images)]
    return bool((words[0] - words[1]) & DEGRADED_WORDS)
