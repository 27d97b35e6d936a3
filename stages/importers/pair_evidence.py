"""Evidence that of two images with the same key, one is the input of a model and the other its target.

Views, channels and dates of one object have the same key too. They are not pairs of an input and a target.
Axes: H height, W width, C channels.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from stages.core.shapes import Array, Float, Shaped
from stages.images.image_statistics import to_grey
from stages.importers.path_patterns import NAME
from stages.importers.role_words import (
    DEPTH_WORDS,
    EXPLICIT_INPUTS,
    EXPLICIT_TARGETS,
    INPUT_WORDS,
    RESTORED_WORDS,
    TARGET_WORDS,
    WORDS_OF,
)

Verdict = Literal["named", "measured", "open", "refused"]
"""named: words denote input and target; measured: one side is consistently degraded; open: neither; refused: the files
are copies, channels, views or dates."""
EXPLAINED = {
    "channels": "are named like channels of one image, which are not read from separate files: join the channels of "
    "each image in one file, such as a TIFF with several channels",
    "times": "are named like two times of one place, such as before and after a change: a prediction from two images "
    "is "
    "not supported, unless they are joined in one file with the channels of both",
    "views": "are named like views of one object, not like an input and its target: they are several images, and need "
    "a label, such as a folder per class or a table",
    "series": "differ only in a number, a letter or a date, as views, channels, fields, or images before and after a "
    "change do: they are several images of one object or place, not an input and its target, and need a label, such "
    "as a "
    "folder per class or a table; channels, or two images for one prediction, must be joined in one file",
    "copies": "are copies of each other",
}
YEAR = re.compile(r"(19|20)\d\d")
DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?[01]\d([-_.]?[0-3]\d)?(?!\d)")
BAND = re.compile(r"(?i)(b|c|w|ch)\d+a?")
"""Channels of satellites and microscopes, such as B02, ch1 and w3."""
SCENE = 0.9  # correlation from which two images certainly show one scene; unrelated photos of one kind stay below it
ROUGHER = 1.5  # ratio of the finest detail of two images from which one is a degraded version of the other
SIDES = ("first", "second")
CONSISTENT = 0.9  # share of the pairs in which the same side is degraded
CROP = 512  # pixels: side of the middle part of an image whose fine detail is measured
LOW_PASS = 2.0  # pixels: standard deviation of the Gaussian that separates content from the finest detail


@dataclass(frozen=True)
class Likeness:
    """Measured relation of the images of some pairs."""

    correlation: float
    """Median correlation of their thumbnails, -1 to 1."""
    target_detail: float
    """Median ratio of the finest detail of the target to that of the image; 1 if it is not consistent."""
    identical: bool
    """Whether the pixels are the same."""


def words_of(pattern: str) -> list[str]:
    """Return the words and numbers of a pattern in lower case, without its placeholders.

    >>> words_of("trainHR/{key}_lampA2.png")
    ['train', 'hr', 'lamp', 'a', '2', 'png']
    """
    text = NAME.sub("/", pattern)
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)]


def own_words(images: str, targets: str) -> tuple[set[str], set[str]]:
    """Return the words of each of two patterns that the other one lacks."""
    of_images, of_targets = own_chunks(images, targets)
    words, others = (Counter(word for chunk in some for word in words_of(chunk)) for some in (of_images, of_targets))
    return set(words - others), set(others - words)


def own_chunks(images: str, targets: str) -> tuple[set[str], set[str]]:
    """Return the runs of letters and digits of each of two patterns, without their suffixes, that the other one lacks.

    >>> own_chunks("{key}_lampA.png", "{key}_lampB.png")
    ({'lampA'}, {'lampB'})
    """
    chunks, others = (
        Counter(re.findall(r"[A-Za-z0-9]+", NAME.sub("/", re.sub(r"\.[^./]*$", "", one)))) for one in (images, targets)
    )
    return set(chunks - others), set(others - chunks)


def direction_of_names(images: str, targets: str) -> int:
    """Return 1 if words denote input and target, -1 if they denote the reverse, and 0 if they denote neither."""
    of_images, of_targets = own_words(images, targets)
    forward = bool(of_images & INPUT_WORDS or of_targets & TARGET_WORDS)
    backward = bool(of_targets & INPUT_WORDS or of_images & TARGET_WORDS)
    return forward - backward


def are_explicit(images: str, targets: str) -> bool:
    """Return whether both patterns say which of them is the input, so that the images may look different."""
    of_images, of_targets = own_words(images, targets)
    return bool(of_images & EXPLICIT_INPUTS and of_targets & EXPLICIT_TARGETS)


def are_restored(images: str, targets: str) -> bool:
    """Return whether the targets are named like restored images, which may have as few levels as masks."""
    return bool(own_words(images, targets)[1] & RESTORED_WORDS) and direction_of_names(images, targets) > 0


def are_distances(images: str, targets: str) -> bool:
    """Return whether the targets are named like maps of distances, and the images are not."""
    of_images, of_targets = own_words(images, targets)
    return bool(of_targets & DEPTH_WORDS) and not of_images & DEPTH_WORDS


def kind_of_difference(images: str, targets: str) -> str:
    """Return the key of `EXPLAINED` for the words in which two patterns differ; empty if they say nothing."""
    chunks = own_chunks(images, targets)
    if any(DATE.search(one) for one in (images, targets)) or any(map(YEAR.fullmatch, set.union(*chunks))):
        return "times"
    if any(map(BAND.fullmatch, set.union(*chunks))):
        return "channels"
    named = [{word for chunk in some for word in words_of(chunk)} for some in chunks]
    differing = set.union(*own_words(images, targets))
    for kind, words in WORDS_OF.items():
        if any(some & words for some in named) and _are_numbered(differing - words):
            return kind
    return "series" if differing and _are_numbered(differing) else ""


def _are_numbered(words: set[str]) -> bool:
    """Return whether words are numbers or single letters only."""
    return all(len(word) == 1 or word.isdigit() for word in words)


def judge_pairs(images: str, targets: str, likeness: Likeness | None, siblings: int) -> tuple[Verdict, str]:
    """Return whether paired images are an input and its target, and the reason in words.

    Args:
        images: pattern of the images.
        targets: pattern of the targets.
        likeness: measured relation of some pairs; None if they were not compared.
        siblings: number of patterns that give the same images a partner each.
    """
    if direction_of_names(images, targets) > 0:
        return "named", "the names denote input and target"
    if likeness and likeness.identical:
        return "refused", EXPLAINED["copies"]
    kind = kind_of_difference(images, targets)
    if siblings > 1 or kind in ("channels", "times", "views"):
        return "refused", EXPLAINED[kind or "series"]
    if likeness and likeness.target_detail != 1:
        return "measured", _describe_detail(likeness)
    if kind:
        return "refused", EXPLAINED[kind]
    return "open", "show the same scenes, and neither names nor pixels say which of them is to be predicted"


def _describe_detail(likeness: Likeness) -> str:
    ratio = max(likeness.target_detail, 1 / likeness.target_detail)
    return (
        f"show the same scenes (correlation {likeness.correlation:.2f}), and the {SIDES[likeness.target_detail > 1]} "
        f"consistently has more fine detail (by a factor of {ratio:.2g}), as noise does, or blur in the other one"
    )


def measure_likeness(pairs: Sequence[tuple[Shaped[Array, "..."], Shaped[Array, "..."]]]) -> Likeness:
    """Compare the images of some pairs, which may have different sizes: contents, and the amount of fine detail.

    Args:
        pairs: decoded images, grey or colour.
    """
    greys = [(_grey(a), _grey(b)) for a, b in pairs]
    correlation = float(np.median([_correlate(_thumbnail(a), _thumbnail(b)) for a, b in greys]))
    identical = all(a.shape == b.shape and np.array_equal(a, b) for a, b in pairs)
    same_size = [(a, b) for a, b in greys if a.shape == b.shape]
    ratios = np.array([_detail(b) / _detail(a) for a, b in same_size])
    direction = np.sign(np.median(np.log(ratios))) if len(ratios) else 0
    is_consistent = len(ratios) > 0 and (np.sign(np.log(ratios)) == direction).mean() >= CONSISTENT
    ratio = float(np.median(ratios)) if is_consistent and correlation >= SCENE else 1.0
    return Likeness(correlation, ratio if max(ratio, 1 / ratio) >= ROUGHER else 1.0, identical)


def _grey(image: Shaped[Array, "..."]) -> Float[Array, "H W"]:
    return np.asarray(to_grey(image), float)


def _thumbnail(grey_HW: Float[Array, "H W"]) -> Float[Array, " 1024"]:
    small = Image.fromarray(grey_HW.astype(np.uint8)).resize((32, 32), Image.Resampling.BOX)
    return ndimage.gaussian_filter(np.asarray(small, float), 1).ravel()


def _correlate(one: Float[Array, " N"], other: Float[Array, " N"]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))


def _detail(grey_HW: Float[Array, "H W"]) -> float:
    """Return the strength of the finest detail relative to the contrast of the content, in the middle of an image."""
    middle = tuple(slice(max(0, (side - CROP) // 2), (side + CROP) // 2) for side in grey_HW.shape)
    grey_HW = grey_HW[middle]
    content_HW = ndimage.gaussian_filter(grey_HW, LOW_PASS)
    return max(float(np.median(np.abs(_fine(grey_HW)))), 1e-3) / max(float(content_HW.std()), 1.0)


def _fine(grey_HW: Float[Array, "H W"]) -> Float[Array, "H W"]:
    return grey_HW - ndimage.gaussian_filter(grey_HW, LOW_PASS / 2)
