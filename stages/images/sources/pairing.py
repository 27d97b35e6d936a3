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

from stages.images.files import Files
from stages.images.reading import SUFFIXES, Unreadable, read
from stages.images.sources.item import SPLIT_WORDS
from stages.images.statistics import grey_bytes

Array = np.ndarray[Any, Any]
FEWEST = 3  # images that make a pattern
MOST_PATTERNS = 200  # held against each other, those of most images first
SAMPLED = 12  # images looked into
MOST_VALUES = 32  # of a mask; more are grey levels
DARK = 16  # grey level up to which a picture of dots is black, a JPEG's rings included
ALIKE = 0.3  # correlation of two pictures of one scene, above that of pictures of two
WORSE = ("noisy", "noise", "input", "low", "blur", "degraded", "raw")
"""Words that name the image to be restored."""


@dataclass(frozen=True)
class Pairing:
    """Two patterns of which one names the images and the other what belongs to them."""

    images: str
    targets: str
    several: bool
    """More than one file belongs to some image."""
    files: tuple[tuple[str, str], ...]
    """Of each key the image and the first file that belongs to it."""
    explains: int
    """How many files the patterns name."""

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
class Beside:
    """What the files beside the images are."""

    form: str
    """masks, instances, dots or pairs."""
    pairing: Pairing
    values: dict[int, float]
    """Of masks: value and the share of the pixels that have it."""


def pairings(files: Files) -> Iterator[Pairing]:
    """All pairs of patterns that name half of the images of a folder or more, either way round."""
    below: Counter[str] = Counter()
    held: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        if PurePosixPath(path).suffix.lower() in SUFFIXES:
            below.update({"", *map(str, PurePosixPath(path).parents)})
            for pattern, key in _patterns(PurePosixPath(path)):
                held[pattern][key].append(path)
    large = sorted((p for p in held if len(held[p]) >= FEWEST), key=lambda p: -len(held[p]))[:MOST_PATTERNS]
    for images, targets in itertools.permutations(large, 2):
        of_images, of_targets = held[images], held[targets]
        common = of_images.keys() & of_targets.keys()
        if len(common) < max(FEWEST, len(of_images) / 2) or "{label}" in images:
            continue
        if any(len(found) > 1 for found in of_images.values()) or _is_split_alone(images, targets):
            continue
        if all(of_images[key][0] not in of_targets[key] for key in common):
            several = "{label}" not in targets and any(len(of_targets[key]) > 1 for key in common)
            files_of = tuple((of_images[key][0], of_targets[key][0]) for key in sorted(common))
            count = len(of_images) + sum(len(found) for found in of_targets.values())
            pairing = Pairing(images, targets, several, files_of, count)
            if count >= below[pairing.root] / 2:
                yield pairing


def _patterns(path: PurePosixPath) -> Iterator[tuple[str, str]]:
    """Each way to see a key in a path: images/{key}.png, {key}_mask.png, {key}/masks/*.png, masks/{label}/{key}.png."""
    folders, stem, ending = path.parts[:-1], path.stem, path.suffix
    free = tuple("*" if part.lower() in SPLIT_WORDS else part for part in folders)
    for places in dict.fromkeys((folders, free)):
        yield "/".join((*places, f"{{key}}{ending}")), stem
        if len(places) > 1:
            yield "/".join((*places[:-1], "{label}", f"{{key}}{ending}")), stem
    if found := re.fullmatch(r"(.*?)([_\-. ]?[A-Za-z]+)", stem):
        yield "/".join((*folders, f"{{key}}{found[2]}{ending}")), found[1]
    for depth in range(1, min(3, len(path.parts))):  # a folder an image
        key, *rest = path.parts[-1 - depth : -1]
        for name in dict.fromkeys(("{key}" if stem == key else stem, "*")):
            yield "/".join((*path.parts[: -1 - depth], "{key}", *rest, f"{name}{ending}")), key


def _is_split_alone(one: str, other: str) -> bool:
    """Whether two patterns differ as train and test do: then neither holds what belongs to the other."""
    parts = list(itertools.zip_longest(one.split("/"), other.split("/"), fillvalue=""))
    return any(a != b and {a.lower(), b.lower()} & {*SPLIT_WORDS, "*"} for a, b in parts[:-1])


def beside(files: Files, pairing: Pairing) -> Beside | None:
    """Look into some files; None where those of the second pattern do not belong to those of the first."""
    spread = np.unique(np.linspace(0, len(pairing.files) - 1, SAMPLED).round().astype(int))
    looked = [(_levels(files, image), _levels(files, target)) for image, target in (pairing.files[i] for i in spread)]
    pairs = [(a, b) for a, b in looked if a is not None and b is not None]
    if len(pairs) < FEWEST or any(a.shape[:2] != b.shape[:2] for a, b in pairs):
        return None
    pixels = sum(b.size for _, b in pairs)
    values: Counter[int] = Counter()
    for _, target in pairs:
        if target.ndim == 2:
            found, counts = np.unique(target, return_counts=True)
            values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    plain = all(b.ndim == 2 for _, b in pairs) and len(values) <= MOST_VALUES
    if any(a.ndim == 2 and len(np.unique(a)) <= MOST_VALUES for a, _ in pairs) or all(_is_dotted(a) for a, _ in pairs):
        return None  # what would be the image is a mask itself
    if pairing.several or "{label}" in pairing.targets:
        form = "instances" if pairing.several else "masks"
        return Beside(form, pairing, {}) if plain and len(values) <= 2 else None
    if all(_is_dotted(b) for _, b in pairs):
        return Beside("dots", pairing, {})
    if plain:
        return Beside("masks", pairing, {value: count / pixels for value, count in sorted(values.items())})
    return Beside("pairs", pairing, {}) if _are_alike(pairs) and not _is_worse(pairing.targets) else None


def _levels(files: Files, path: str) -> Array | None:
    """Levels [H, W], also of equal colours, of a palette its indices; or colours [H, W, C]; None: not readable."""
    try:
        data = files[path]()
        with Image.open(io.BytesIO(data)) as file:
            if file.mode in ("1", "P"):
                return np.asarray(file.convert("L") if file.mode == "1" else file)
        image = read(data).image
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
    values = np.asarray(Image.fromarray(grey_bytes(image)).resize((16, 16)), np.float64).ravel()
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))


def _is_worse(pattern: str) -> bool:
    return any(word in pattern.lower() for word in WORSE)
