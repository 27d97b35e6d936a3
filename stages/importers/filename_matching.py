"""Match images with target files by name patterns with {key}, and detect the format of the targets."""

import io
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from stages.dataset.annotations import IGNORE_INDEX
from stages.images.archives import SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable, decode_image
from stages.images.image_statistics import to_grey
from stages.importers.sample import SPLIT_WORDS

Array = np.ndarray[Any, Any]
MIN_IMAGES = 3  # images that a pattern must match
MAX_PATTERNS = 200  # patterns compared with each other, those with the most images first
MAX_PARTS = 4  # separators of a name, from either end, at which a key may begin
INSPECTED = 12  # pairs of image and target that are decoded
MIN_VOTES = 0.75  # share of the decoded pairs that must agree
MAX_VALUES = 32  # distinct values of a mask; an image with more is not a mask
MAX_COUNTED = 500  # masks whose values are counted
DARK = 16  # grey level up to which a dot image counts as black; JPEG ringing stays below it
MIN_CORRELATION_GAIN = 0.3  # correlation of paired images above that of unpaired images
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
    named: frozenset[str]
    """All target files."""

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


def find_pairings(files: SourceFiles) -> Iterator[FilePairing]:
    """Yield the pairs of patterns that match at least half of the images in their common folder, in either order."""
    below: Counter[str] = Counter()
    paths_of: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
            below.update({"", *map(str, PurePosixPath(path).parents)})
            for pattern, key in _patterns(PurePosixPath(path)):
                paths_of[pattern][key].append(path)
    large = [pattern for pattern in paths_of if len(paths_of[pattern]) >= MIN_IMAGES]
    large = sorted(large, key=lambda pattern: -len(paths_of[pattern]))[:MAX_PATTERNS]
    for images, targets in itertools.permutations(large, 2):
        of_images, of_targets = paths_of[images], paths_of[targets]
        common = of_images.keys() & of_targets.keys()
        if (
            len(common) < max(MIN_IMAGES, len(of_images) / 2)
            or "{label}" in images
            or _differ_by_split(images, targets)
        ):
            continue
        if any(len(found) > 1 for found in of_images.values()):
            continue
        if all(of_images[key][0] not in of_targets[key] for key in common):
            several = "{label}" not in targets and any(len(of_targets[key]) > 1 for key in common)
            files_of = tuple((of_images[key][0], of_targets[key][0]) for key in sorted(common))
            named = frozenset(path for key in common for path in of_targets[key])
            pairing = FilePairing(images, targets, several, files_of, named)
            if len(common) + len(named) >= below[pairing.root] / 2:
                yield pairing


def _patterns(path: PurePosixPath) -> Iterator[tuple[str, str]]:
    """Yield (pattern, key) for a path: images/{key}.png, {key}_mask.png, {key}/masks/*.png, masks/{label}/{key}.png."""
    folders, stem = path.parts[:-1], path.stem
    if any(sign in str(path) for sign in "{}*"):
        return  # placeholder characters cannot be escaped in a pattern
    free = tuple("*" if part.lower() in SPLIT_WORDS else part for part in folders)
    for ending in (path.suffix, ".*"):
        for places in dict.fromkeys((folders, free)):
            yield "/".join((*places, f"{{key}}{ending}")), stem
            if len(places) > 1:
                yield "/".join((*places[:-1], "{label}", f"{{key}}{ending}")), stem
            for before, key, after in _keys(stem):
                yield "/".join((*places, f"{before}{{key}}{after}{ending}")), key
    for depth in range(1, min(3, len(path.parts))):  # one folder per image
        key, *rest = path.parts[-1 - depth : -1]
        for name in dict.fromkeys(("{key}" if stem == key else stem, "*")):
            yield "/".join((*path.parts[: -1 - depth], "{key}", *rest, f"{name}{path.suffix}")), key


def _keys(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield (prefix, key, suffix) of a file stem: split at separators, or letters before or after the key.

    >>> list(_keys("001cell"))
    [('', '001', 'cell')]
    >>> list(_keys("img_7"))
    [('img_', '7', ''), ('', 'img', '_7')]
    """
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    for cut in dict.fromkeys((*cuts[:MAX_PARTS], *cuts[-MAX_PARTS:])):
        if stem[cut + 1 :] and stem[:cut]:
            yield stem[: cut + 1], stem[cut + 1 :], ""
            yield "", stem[:cut], stem[cut:]
    for pattern in (r"()(.*?[^A-Za-z_\-. ])([A-Za-z]+)", r"([A-Za-z]+)([^A-Za-z_\-. ].*)()"):
        if found := re.fullmatch(pattern, stem):
            yield found[1], found[2], found[3]


def _differ_by_split(one: str, other: str) -> bool:
    """Return whether two patterns differ in a folder that is or may be a split: then neither is the target."""
    parts = list(itertools.zip_longest(one.split("/"), other.split("/"), fillvalue=""))
    return any(a != b and {a.lower(), b.lower()} & {*SPLIT_WORDS, "*"} for a, b in parts[:-1])


def inspect_targets(files: SourceFiles, pairing: FilePairing) -> TargetInspection:
    """Decode some pairs and detect which format the target files have."""
    spread = np.unique(np.linspace(0, len(pairing.files) - 1, INSPECTED).round().astype(int))
    decoded = [(_levels(files, image), _levels(files, target)) for image, target in (pairing.files[i] for i in spread)]
    readable = [(a, b) for a, b in decoded if a is not None and b is not None]
    pairs = [(a, b) for a, b in readable if a.shape[:2] == b.shape[:2]]
    required = max(MIN_IMAGES, MIN_VOTES * len(decoded))
    if len(pairs) < required:
        unreadable = "more than a quarter of the opened pairs contain a file that cannot be read"
        differing = "the sizes of image and target differ"
        return TargetInspection("", unreadable if len(readable) < required else differing, {})
    images, targets = zip(*pairs, strict=True)
    if _most_agree(_is_plain(a) for a in images) or _most_agree(_is_dotted(a) for a in images):
        return TargetInspection("", "the images are masks or dot images themselves", {})
    plain, binary = _most_agree(_is_plain(b) for b in targets), _most_agree(_is_plain(b, 2) for b in targets)
    if pairing.several or "{label}" in pairing.targets:
        if not binary:
            return TargetInspection("", "the target files per object or class are not binary masks", {})
        format_ = "instances" if pairing.several else "masks"
        unit = "object" if pairing.several else "class"
        return TargetInspection(format_, f"the targets are binary masks, one per {unit}", {})
    if _most_agree(_is_dotted(b) for b in targets):
        return TargetInspection("dots", "the targets contain small bright dots on black", {})
    if plain:
        reason = "the targets contain few distinct values, as masks do"
        if _most_agree(_has_one_region_per_value(b) for b in targets):
            reason += (
                "; each value is one connected region, however: if the values number objects, write one mask per "
                "object and use ingest.format: instances"
            )
        return TargetInspection("masks", reason, _values(files, pairing))
    if _is_degraded(pairing.targets, pairing.images):
        return TargetInspection("", "the target names denote degraded images", {})
    if not _show_same_scenes(pairs):
        return TargetInspection("", _reason_not_masks(targets), {})
    return TargetInspection("pairs", "images of the same scenes; check which of the two is the target", {})


def _reason_not_masks(targets: tuple[Array, ...]) -> str:
    """Return why target files are not masks."""
    if _most_agree(b.ndim == 3 for b in targets):
        return "the targets are in colour and do not show the scenes of the images; masks are grey or have a palette"
    return (
        f"the targets contain more than {MAX_VALUES} grey levels: masks have few, and JPEG alters them; write numbered "
        "objects as one mask per object"
    )


def _most_agree(votes: Iterator[bool]) -> bool:
    return bool(np.mean(list(votes)) >= MIN_VOTES)


def _is_plain(level: Array, values: int = MAX_VALUES) -> bool:
    return level.ndim == 2 and len(np.unique(level)) <= values


def _has_one_region_per_value(level_HW: Array) -> bool:
    """Return whether there are more than `MIN_IMAGES` nonzero values, and each is one connected region."""
    from scipy import ndimage

    found = [value for value in np.unique(level_HW) if value]
    return len(found) > MIN_IMAGES and all(ndimage.label(level_HW == value, np.ones((3, 3)))[1] == 1 for value in found)


def _values(files: SourceFiles, pairing: FilePairing) -> dict[int, float]:
    """Return the share of pixels by mask value, counted in many masks so that rare values are included."""
    values: Counter[int] = Counter()
    for _, target in pairing.files[:MAX_COUNTED]:
        level = _levels(files, target)
        if level is not None and level.ndim == 2:
            found, counts = np.unique(level, return_counts=True)
            values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return {value: count / values.total() for value, count in sorted(values.items())}


def marks_unknown(values: dict[int, float]) -> bool:
    """Return whether the value 255 probably marks unknown pixels: the other values roughly count up from 0."""
    others = sorted(set(values) - {IGNORE_INDEX})
    return IGNORE_INDEX in values and len(others) > 1 and others[-1] < 2 * len(others)


def _levels(files: SourceFiles, path: str) -> Array | None:
    """Return grey levels or palette indices [H, W], or colours [H, W, C]; None if the file is not readable."""
    try:
        data = files[path]()
        with Image.open(io.BytesIO(data)) as file:
            if file.mode in ("1", "P"):
                return np.asarray(file.convert("L") if file.mode == "1" else file)
        image = decode_image(data).image
    except (Unreadable, OSError, SyntaxError, ValueError, OverflowError):
        return None
    return image[:, :, 0] if image.ndim == 3 and (image == image[:, :, :1]).all() else image


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
