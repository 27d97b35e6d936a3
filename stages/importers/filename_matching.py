"""Which files stand beside which: patterns with {key} that fit the names at hand, and what the files beside are."""

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
FEWEST = 3  # images that make a pattern
MOST_PATTERNS = 200  # held against each other, those of most images first
MOST_PARTS = 4  # of a name, in which a key is looked for from either end
SAMPLED = 12  # images looked into
MOST = 0.75  # share of those that must be so
MOST_VALUES = 32  # of a mask; more are grey levels
COUNTED = 500  # masks of which the values are counted
DARK = 16  # grey level up to which a picture of dots is black, a JPEG's rings included
ALIKE = 0.3  # correlation of two pictures of one scene, above that of pictures of two
WORSE = frozenset("noisy noise input low lr blur blurred degraded corrupted raw source".split())
"""Words that name the image to be restored."""


@dataclass(frozen=True)
class FilePairing:
    """Two patterns of which one names the images and the other what belongs to them."""

    images: str
    targets: str
    several: bool
    """More than one file belongs to some image."""
    files: tuple[tuple[str, str], ...]
    """Of each key the image and the first file that belongs to it."""
    named: frozenset[str]
    """All files that belong to an image."""

    @property
    def root(self) -> str:
        """The folder that both share."""
        shared = []
        for one, other in zip(self.images.split("/")[:-1], self.targets.split("/")[:-1], strict=False):
            if one != other or "{" in one or "*" in one:
                break
            shared.append(one)
        return "/".join(shared)


@dataclass(frozen=True)
class TargetInspection:
    """What the files beside the images are."""

    form: str
    """masks, instances, dots or pairs; empty: none of these."""
    why: str
    values: dict[int, float]
    """Of masks: value and the share of the pixels that have it."""


def find_pairings(files: SourceFiles) -> Iterator[FilePairing]:
    """All pairs of patterns that name half of the images of a folder or more, either way round."""
    below: Counter[str] = Counter()
    held: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
            below.update({"", *map(str, PurePosixPath(path).parents)})
            for pattern, key in _patterns(PurePosixPath(path)):
                held[pattern][key].append(path)
    large = sorted((p for p in held if len(held[p]) >= FEWEST), key=lambda p: -len(held[p]))[:MOST_PATTERNS]
    for images, targets in itertools.permutations(large, 2):
        of_images, of_targets = held[images], held[targets]
        common = of_images.keys() & of_targets.keys()
        if len(common) < max(FEWEST, len(of_images) / 2) or "{label}" in images or _is_split_alone(images, targets):
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
    """Each way to see a key in a path: images/{key}.png, {key}_mask.png, {key}/masks/*.png, masks/{label}/{key}.png."""
    folders, stem = path.parts[:-1], path.stem
    if any(sign in str(path) for sign in "{}*"):
        return  # such a name cannot be written in a pattern
    free = tuple("*" if part.lower() in SPLIT_WORDS else part for part in folders)
    for ending in (path.suffix, ".*"):
        for places in dict.fromkeys((folders, free)):
            yield "/".join((*places, f"{{key}}{ending}")), stem
            if len(places) > 1:
                yield "/".join((*places[:-1], "{label}", f"{{key}}{ending}")), stem
            for before, key, after in _keys(stem):
                yield "/".join((*places, f"{before}{{key}}{after}{ending}")), key
    for depth in range(1, min(3, len(path.parts))):  # a folder an image
        key, *rest = path.parts[-1 - depth : -1]
        for name in dict.fromkeys(("{key}" if stem == key else stem, "*")):
            yield "/".join((*path.parts[: -1 - depth], "{key}", *rest, f"{name}{path.suffix}")), key


def _keys(stem: str) -> Iterator[tuple[str, str, str]]:
    """What may stand before a key and behind it: parts of a name, or letters at its ends.

    >>> list(_keys("001cell"))
    [('', '001', 'cell')]
    >>> list(_keys("img_7"))
    [('img_', '7', ''), ('', 'img', '_7')]
    """
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    for cut in dict.fromkeys((*cuts[:MOST_PARTS], *cuts[-MOST_PARTS:])):
        if stem[cut + 1 :] and stem[:cut]:
            yield stem[: cut + 1], stem[cut + 1 :], ""
            yield "", stem[:cut], stem[cut:]
    for pattern in (r"()(.*?[^A-Za-z_\-. ])([A-Za-z]+)", r"([A-Za-z]+)([^A-Za-z_\-. ].*)()"):
        if found := re.fullmatch(pattern, stem):
            yield found[1], found[2], found[3]


def _is_split_alone(one: str, other: str) -> bool:
    """Whether two patterns differ as train and test do: then neither holds what belongs to the other."""
    parts = list(itertools.zip_longest(one.split("/"), other.split("/"), fillvalue=""))
    return any(a != b and {a.lower(), b.lower()} & {*SPLIT_WORDS, "*"} for a, b in parts[:-1])


def inspect_targets(files: SourceFiles, pairing: FilePairing) -> TargetInspection:
    """Look into some files, and say what those of the second pattern are to those of the first."""
    spread = np.unique(np.linspace(0, len(pairing.files) - 1, SAMPLED).round().astype(int))
    looked = [(_levels(files, image), _levels(files, target)) for image, target in (pairing.files[i] for i in spread)]
    read_ = [(a, b) for a, b in looked if a is not None and b is not None]
    pairs = [(a, b) for a, b in read_ if a.shape[:2] == b.shape[:2]]
    if len(pairs) < max(FEWEST, MOST * len(looked)):
        return TargetInspection(
            "", "most cannot be read" if len(read_) <= len(looked) / 2 else "their sizes differ", {}
        )
    images, targets = zip(*pairs, strict=True)
    if _most(_is_plain(a) for a in images) or _most(_is_dotted(a) for a in images):
        return TargetInspection("", "what would be the images are masks themselves", {})
    plain, binary = _most(_is_plain(b) for b in targets), _most(_is_plain(b, 2) for b in targets)
    if pairing.several or "{label}" in pairing.targets:
        if not binary:
            return TargetInspection("", "several files belong to an image, and they are no masks of two values", {})
        form = "instances" if pairing.several else "masks"
        return TargetInspection(form, "several files of two values belong to an image", {})
    if _most(_is_dotted(b) for b in targets):
        return TargetInspection("dots", "they hold small bright dots on black", {})
    if plain:
        why = "they hold few values, as masks do"
        if _most(_is_of_single_things(b) for b in targets):
            why += (
                "; but each value is one piece: if they number single things, write a mask a thing and form: instances"
            )
        return TargetInspection("masks", why, _values(files, pairing))
    if _is_worse(pairing.targets, pairing.images):
        return TargetInspection("", "they are named as what is to be restored", {})
    if not _are_alike(pairs):
        return TargetInspection("", _no_mask(targets), {})
    return TargetInspection(
        "pairs", "they are pictures of the same scenes; which of the two is asked is yours to say", {}
    )


def _no_mask(targets: tuple[Array, ...]) -> str:
    """Why files that are not of the same scenes are no masks."""
    if _most(b.ndim == 3 for b in targets):
        return "they are in colour, and no pictures of the same scenes; masks are grey, or have a palette"
    return (
        f"they hold more than {MOST_VALUES} grey levels: masks have few, and JPEG spoils them; numbered things are "
        "read as a mask a thing"
    )


def _most(votes: Iterator[bool]) -> bool:
    return bool(np.mean(list(votes)) >= MOST)


def _is_plain(level: Array, values: int = MOST_VALUES) -> bool:
    return level.ndim == 2 and len(np.unique(level)) <= values


def _is_of_single_things(level_HW: Array) -> bool:
    """Whether each of several values is one connected piece."""
    from scipy import ndimage

    found = [value for value in np.unique(level_HW) if value]
    return len(found) > FEWEST and all(ndimage.label(level_HW == value, np.ones((3, 3)))[1] == 1 for value in found)


def _values(files: SourceFiles, pairing: FilePairing) -> dict[int, float]:
    """Shares of the values in the masks; a rare one must not be missed."""
    values: Counter[int] = Counter()
    for _, target in pairing.files[:COUNTED]:
        level = _levels(files, target)
        if level is not None and level.ndim == 2:
            found, counts = np.unique(level, return_counts=True)
            values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return {value: count / values.total() for value, count in sorted(values.items())}


def marks_unknown(values: dict[int, float]) -> bool:
    """Whether the value 255 is likely to say that the truth is unknown: the others count up from 0."""
    others = sorted(set(values) - {IGNORE_INDEX})
    return IGNORE_INDEX in values and len(others) > 1 and others[-1] < 2 * len(others)


def _levels(files: SourceFiles, path: str) -> Array | None:
    """Levels [H, W], also of equal colours, of a palette its indices; or colours [H, W, C]; None: not readable."""
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
    """Small bright pieces on black."""
    from scipy import ndimage

    level_HW = level if level.ndim == 2 else level.max(axis=2)
    bright_HW = level_HW > max(1, level_HW.max() / 2)
    if (level_HW > DARK).mean() > 0.1 or bright_HW.mean() > 0.05:
        return False
    piece_HW, count = ndimage.label(bright_HW, np.ones((3, 3)))
    return bool(count >= FEWEST and np.median(np.bincount(piece_HW.ravel())[1:]) <= 30)


def _are_alike(pairs: list[tuple[Array, Array]]) -> bool:
    """Whether the two of a pair show one scene: more alike than the pictures of two pairs."""
    thumbs = [[_thumbnail(image) for image in pair] for pair in pairs]
    own = np.mean([np.dot(a, b) for a, b in thumbs])
    others = np.mean([np.dot(a, b) for (a, _), (_, b) in zip(thumbs, thumbs[1:] + thumbs[:1], strict=True)])
    return bool(own > others + ALIKE)


def _thumbnail(image: Array) -> Array:
    """256 grey levels of mean 0 and length 1."""
    values = np.asarray(Image.fromarray(to_grey(image)).resize((16, 16)), np.float64).ravel()
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))


def _is_worse(targets: str, images: str) -> bool:
    """Whether the words that only the targets' pattern has name what is to be restored."""
    words = [set(re.split(r"[^a-z]+", pattern.lower())) for pattern in (targets, images)]
    return bool((words[0] - words[1]) & WORSE)
