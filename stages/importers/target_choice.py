"""Decide which of several candidate target files of the same images are the annotation, by words and by measurement."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from stages.core.plurals import list_names
from stages.importers.label_regions import overlap, reduce_mask

Array = np.ndarray[Any, Any]
Read = Callable[[str], Array | None]
"""Path -> values of a mask [H, W], or None if it cannot be read."""
OPENED = 8  # images whose targets are compared
SAME_IN_ALL = 0.85  # mean overlap of the masks of different images from which they show no objects
MIN_SHARED = 0.5  # share of the images of the smaller candidate that two candidates must have in common
SAME_REGIONS = 0.6  # mean overlap of two masks of one image from which they are not two classes
MAX_LISTED = 6  # patterns that a question names
PREDICTED = frozenset(
    "pred preds predicted prediction predictions output outputs result results inference inferred model network net "
    "unet probability probabilities auto automatic".split()
)
RENDERED = frozenset(
    "color colors colour colours colored coloured rgb vis visual visualization overlay overlays".split()
)
VIEW = frozenset("fov roi".split())
ANNOTATED = frozenset("manual gt truth groundtruth annotation annotations annot expert label labels mask masks".split())


@dataclass(frozen=True)
class Target:
    """Candidate target files: their pattern, and the file or files of each image."""

    pattern: str
    files_of: dict[str, tuple[str, ...]]
    """Target files by image."""


@dataclass(frozen=True)
class Verdict:
    """Reasons for or against a candidate as the annotation."""

    doubt: str = ""
    """Reason why other files are the annotation; empty if there is none."""
    ask: str = ""
    """Question; empty if the choice is clear."""
    notes: tuple[str, ...] = ()
    """Why other candidates are not the annotation."""


def judge_targets(targets: Sequence[Target], read: Read) -> list[Verdict]:
    """Return a verdict for each candidate, by comparing it with those of the same images.

    Args:
        targets: candidates.
        read: reads a mask.
    """
    measured = [_Measured(one, read) for one in targets]
    rivals = [
        [other for other in measured if other is not one and one.has_same_images(other)] if one.is_whole else []
        for one in measured
    ]
    doubts = {
        id(one): _doubt(one, others) if one.is_whole else _several_annotations(one.target, read)
        for one, others in zip(measured, rivals, strict=True)
    }
    return [_verdict(one, others, doubts) for one, others in zip(measured, rivals, strict=True)]


def _verdict(one: "_Measured", others: list["_Measured"], doubts: dict[int, str]) -> Verdict:
    """Return the verdict on a candidate, given its rivals and the doubts about all candidates."""
    notes = tuple(f"not {other.pattern}, {doubts[id(other)]}" for other in others if doubts[id(other)])
    clear = [other for other in others if not doubts[id(other)]]
    if doubts[id(one)] or not clear:
        return Verdict(doubts[id(one)], "", notes)
    named = next((other for other in clear if other.own_words([one]) & ANNOTATED), None)
    if named and not one.own_words(clear) & ANNOTATED:
        return Verdict(f"{named.pattern} is named like an annotation", "", notes)
    return Verdict("", _question(sorted({one.pattern, *(other.pattern for other in clear)})), notes)


class _Measured:
    """Masks of a candidate that are compared, and the words of its pattern."""

    def __init__(self, target: Target, read: Read) -> None:
        self.target, self.pattern = target, target.pattern
        self.is_whole = "{label}" not in target.pattern
        self._read = read

    def has_same_images(self, other: "_Measured") -> bool:
        """Return whether another candidate gives most of these images other target files."""
        own, others = self.target.files_of, other.target.files_of
        shared = own.keys() & others.keys()
        is_shared = len(shared) >= MIN_SHARED * min(len(own), len(others))
        return other.is_whole and is_shared and all(own[image] != others[image] for image in shared)

    def own_words(self, others: Sequence["_Measured"]) -> frozenset[str]:
        """Return the words of the pattern that no pattern of the others has."""
        return split_words(self.pattern).difference(*(split_words(other.pattern) for other in others))

    def masks(self, images: Iterable[str]) -> list[Array]:
        """Return the masks of some of the images; an empty array where one cannot be read."""
        chosen = sorted(images)
        read = (self._read(self.target.files_of[chosen[i]][0]) for i in _spread(len(chosen)))
        return [np.zeros((0, 0), np.uint8) if one is None or one.ndim != 2 else one for one in read]

    @cached_property
    def constancy(self) -> float:
        """Mean overlap of the masks of different images; 0 if they have more than two values."""
        masks = [mask for mask in self.masks(self.target.files_of) if mask.size]
        reduced = [] if any(len(np.unique(mask)) > 2 for mask in masks) else list(map(reduce_mask, masks))
        return float(np.mean([overlap(a, b) for a, b in pairwise(reduced)])) if len(reduced) > 1 else 0.0


def split_words(pattern: str) -> frozenset[str]:
    """Return the words of a path pattern in lower case, also those that are joined in camel case.

    >>> sorted(split_words("gtFine/{part}/{key}_labelIds.png"))
    ['fine', 'gt', 'ids', 'label']
    """
    text = re.sub(r"\{[a-z_]+\}|\.[^./]*$", " ", pattern)
    return frozenset(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text))


def _doubt(own: _Measured, others: Sequence[_Measured]) -> str:
    """Return why a candidate is not the annotation, by comparison with the others of the same images."""
    words = own.own_words(others)
    for known, why in (
        (PREDICTED, "whose name says that it is the output of a model"),
        (VIEW, "whose name says that it is the field of view"),
        (RENDERED, "whose name says that it is a coloured copy"),
    ):
        if others and words & known:
            return f"{why} ({', '.join(sorted(words & known))})"
    if others and own.constancy >= SAME_IN_ALL and any(one.constancy < SAME_IN_ALL for one in others):
        return f"which is nearly the same in all images (mean overlap {own.constancy:.2f}), as a field of view is"
    for other in others:
        if _numbers_within_classes(own, other):
            return f"whose values are those of {other.pattern} times 1000 plus a number"
        if _is_rendering(own, other):
            return f"which has the same regions as {other.pattern} with larger values"
    return ""


def _numbers_within_classes(own: _Measured, other: _Measured) -> bool:
    """Return whether values are the class of another mask times 1000 plus the number of an object."""
    pairs = _both(own, other)
    same = [np.array_equal(np.where(a >= 1000, a // 1000, a), b) for a, b in pairs]
    return bool(pairs) and all(same) and any((a >= 1000).any() for a, _ in pairs)


def _is_rendering(own: _Measured, other: _Measured) -> bool:
    """Return whether a mask has the regions of another with other, larger values."""
    pairs = _both(own, other)
    return bool(pairs) and all(
        len(np.unique(np.stack([a, b]).reshape(2, -1), axis=1)[0]) == len(np.unique(a)) == len(np.unique(b))
        and a.max() > b.max()
        for a, b in pairs
    )


def _both(own: _Measured, other: _Measured) -> list[tuple[Array, Array]]:
    """Return the masks of both candidates for some of their common images, where the sizes agree."""
    shared = own.target.files_of.keys() & other.target.files_of.keys()
    pairs = zip(own.masks(shared), other.masks(shared), strict=True)
    return [(a.astype(np.int64), b.astype(np.int64)) for a, b in pairs if a.size and a.shape == b.shape]


def _several_annotations(target: Target, read: Read) -> str:
    """Return why the folders of a pattern with {label} are several annotations and not classes; else ''."""
    if "{label}" not in target.pattern:
        return ""
    images = [image for image, paths in target.files_of.items() if len(paths) > 1]
    of_images = [target.files_of[images[i]] for i in _spread(len(images))]
    folders = {path.split("/")[-2] for paths in of_images for path in paths if "/" in path}
    odd = sorted(folder for folder in folders if split_words(f"{folder}/") & (PREDICTED | VIEW | RENDERED))
    if odd and len(odd) < len(folders):
        return f"{list_names(odd, MAX_LISTED)} is not the name of a class"
    shares = []
    for paths in of_images:
        masks = [mask for path in paths if (mask := read(path)) is not None and mask.ndim == 2]
        shares += [overlap(reduce_mask(a), reduce_mask(b)) for a, b in combinations(masks, 2)]
    if shares and np.mean(shares) >= SAME_REGIONS:
        return f"the masks of {list_names(sorted(folders), MAX_LISTED)} overlap by {np.mean(shares):.2f} on average"
    return ""


def _spread(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, OPENED).round().astype(int)).tolist() if count else []


def _question(patterns: list[str]) -> str:
    return (
        f"ingest.targets: {list_names(patterns, MAX_LISTED)} belong to the same images, and neither their names nor "
        "their pixels show which is the annotation: which one is it?"
    )
