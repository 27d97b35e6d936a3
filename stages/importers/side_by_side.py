"""Decide what several images of one key are: input and target, two images for one target, or versions of one scene."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stages.core.plurals import list_names
from stages.importers.file_pairing import FilePairing
from stages.importers.pair_evidence import (
    EXPLAINED,
    SCENE,
    Verdict,
    direction_of_names,
    judge_pairs,
    kind_of_difference,
    own_words,
)
from stages.importers.target_inspection import FEW_COLOURS, TargetInspection

Inspected = Sequence[tuple[FilePairing, TargetInspection]]
MOST = 0.9  # share of the files of two pairings from which they concern the same files
SUPPORTED = ("masks", "instances", "dots")


@dataclass(frozen=True)
class PairJudgement:
    """Judgement about paired images: input and target, or not."""

    verdict: Verdict
    reason: str
    """Reason, as the predicate of a sentence about two files if `verdict` is refused."""
    question: str = ""
    """Question to ask if the evidence does not decide."""


@dataclass(frozen=True)
class SceneVersions:
    """Paired files that show the same scenes."""

    files: tuple[tuple[str, str], ...]
    shown: str
    """What shows the relation, as the predicate of a sentence about two files."""
    is_certain: bool
    """Whether names or pixels show that they are versions of one scene, not similar objects."""


def judge(pairing: FilePairing, found: TargetInspection, inspected: Inspected) -> PairJudgement:
    """Return whether paired images that show the same scenes are an input and its target.

    Args:
        pairing: patterns of the images and of their possible targets.
        found: detected relation of their files.
        inspected: all pairings of the source.
    """
    if found.likeness is None:
        return PairJudgement("named", found.reason)
    verdict, reason = judge_pairs(pairing.images, pairing.targets, found.likeness, _count_siblings(pairing, inspected))
    image, target = pairing.files[0]
    if verdict == "named":
        return PairJudgement(verdict, f"images of the same scenes, and {reason}")
    if verdict == "refused":
        return PairJudgement(verdict, reason)
    images, targets = (pattern.removeprefix(f"{pairing.root}/") for pattern in (pairing.images, pairing.targets))
    lines = f"`format: pairs`, `images: {images}` and `targets: {targets}`, or exchange the two patterns"
    question = (
        f"{image} and {target} {reason}: is one of them to be predicted from the other, as a clean image from a noisy "
        f"one? If so, set {lines} in section ingest. If they are views, channels or dates of one object, they are "
        f"not pairs, but images with a "
        "common label"
    )
    return PairJudgement(verdict, f"images of the same scenes; {reason}", question)


def explain_names(pairing: FilePairing, found: TargetInspection) -> str:
    """Return why names alone show that files of one key and size are not input and target; empty if they do not."""
    kind = kind_of_difference(pairing.images, pairing.targets)
    is_unrelated = not found.format and not pairing.several and "{label}" not in pairing.targets
    return EXPLAINED[kind] if is_unrelated and kind in ("channels", "times", "views") else ""


def _count_siblings(pairing: FilePairing, inspected: Inspected) -> int:
    """Return how many patterns give the images of a pairing a partner that is neither a mask nor a named target."""
    images = {image for image, _ in pairing.files}
    partners = [
        {*other.named}
        for other, found in inspected
        if not other.several
        and found.format not in SUPPORTED
        and len(images.intersection(image for image, _ in other.files)) >= MOST * len(images)
        and not direction_of_names(other.images, other.targets)
    ]
    distinct: list[set[str]] = []
    for paths in partners:
        if not any(paths & known for known in distinct):
            distinct.append(paths)
    return len(distinct)


def find_versions(inspected: Inspected) -> list[SceneVersions]:
    """Return the pairs of files that are versions of one scene, so that folders that separate them are not classes."""
    versions = []
    for pairing, found in inspected:
        if found.likeness is not None:
            is_named = direction_of_names(pairing.images, pairing.targets) != 0
            kind = kind_of_difference(pairing.images, pairing.targets)
            is_certain = found.likeness.correlation >= SCENE or is_named or kind in ("times", "channels")
            shown = f"show the same scene (correlation {found.likeness.correlation:.2f})"
            versions.append(SceneVersions(pairing.files, shown, is_certain))
        elif found.format:
            versions.append(SceneVersions(pairing.files, "are an image and its target", True))
        elif reason := explain_names(pairing, found):
            versions.append(SceneVersions(pairing.files, reason.partition(",")[0].partition(":")[0], False))
        elif found.reason == FEW_COLOURS:
            shown = "may be an image and a coloured mask, because the second has few colours"
            versions.append(SceneVersions(pairing.files, shown, False))
    for rivals, _, _ in find_several_inputs(inspected):
        image_of = [{target: image for image, target in one.files} for one in rivals]
        for one, other in itertools.combinations(image_of, 2):
            files = tuple(
                (one[target], other[target]) for target in one.keys() & other.keys() if one[target] != other[target]
            )
            versions.append(SceneVersions(files, "have the same target", True))
    return versions


def find_several_inputs(inspected: Inspected) -> Iterator[tuple[list[FilePairing], bool, str]]:
    """Yield pairings in which different images have the same targets, as before and after a change.

    Yields:
        pairings of which each gives the same targets other images, whether the reading of one image is refused, and
        what the images are in words.
    """
    by_target: dict[str, list[FilePairing]] = defaultdict(list)
    for pairing, found in inspected:
        if found.format in SUPPORTED or (found.format == "pairs" and found.likeness is None):
            by_target[min(pairing.named)].append(pairing)
    for rivals in by_target.values():
        distinct: list[FilePairing] = []
        for one in sorted(rivals, key=lambda pairing: (-len(pairing.files), pairing.images)):
            if all(_share_targets_only(one, other) for other in distinct):
                distinct.append(one)
        if len(distinct) < 2:
            continue
        named = list_names([one.files[0][0] for one in distinct], 4)
        are_times = len(distinct) == 2 and _are_times(distinct[0].images, distinct[1].images)
        what = "two images, as before and after a change" if are_times else f"{len(distinct)} images"
        is_refused = are_times and not any(direction_of_names(one.images, one.targets) > 0 for one in distinct)
        yield rivals, is_refused, f"{distinct[0].files[0][1]} has {what}: {named}"


def _are_times(one: str, other: str) -> bool:
    """Return whether two patterns of images are named like two times, or A and B, or 1 and 2."""
    letters = {word for words in own_words(one, other) for word in words}
    return kind_of_difference(one, other) == "times" or letters in ({"a", "b"}, {"1", "2"})


def _share_targets_only(one: FilePairing, other: FilePairing) -> bool:
    shared = one.named & other.named
    images = {image for image, _ in one.files} & {image for image, _ in other.files}
    return not images and len(shared) >= MOST * max(len(one.named), len(other.named))


def explain_two_images(images: str) -> str:
    """Return why images of which two have one target are refused, with what to do."""
    return (
        f"{images}. A prediction from two images is not supported: join both in one file with the channels of both, "
        "or, if one image is enough, move the other one out of the source"
    )
