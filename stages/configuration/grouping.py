"""Detection of related images, which must stay in one split, by file name and by similarity."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from stages.configuration.filename_patterns import CandidateGrouping, assign_groups, find_groupings, find_sequences
from stages.configuration.group_similarity import ImageSignature, SimilarityEvidence, add_signatures, compare_pairs
from stages.configuration.look_alikes import LookAlikes, find_look_alikes
from stages.dataset.counters import counter_scope
from stages.importers.sample import Sample

PAIRS = 32  # maximum number of groups of which two images are opened
ALIKE, ALIKE_IN_ORDER = 0.65, 0.8  # minimum AUC of groups and of consecutive images
SURELY = 0.9  # AUC from which pictures, which are more specific, are preferred to tone
FADED = 0.7  # AUC below which images at a distance are unrelated
SHORTEST, WHOLE = 12, 64  # lengths of a sequence in images: minimum, and maximum that is opened completely
RUNS, RUN = 4, 16  # number and length of the runs of images that are opened of longer sequences
FEWEST_BLOCKS = 10
MEGAPIXELS = 100.0  # maximum number of megapixels opened
MEGAPIXELS_OF_LOOK_ALIKES = 30.0  # the same for the comparison of all images; 0.1 CPU seconds each
BORDER_NOTE = "; adjacent blocks remain similar at their border, which biases scores slightly upwards"


@dataclass(frozen=True)
class ImageGrouping:
    """Detected grouping of images."""

    group: str = ""
    """Value of `ingest.group_regex`."""
    block: int = 1
    """Value of `ingest.sequence_block`."""
    why: str = ""
    asks: tuple[str, ...] = ()
    """Observations that did not lead to a proposal."""


def detect_grouping(
    items: Sequence[Sample], labels: Sequence[str], known: dict[int, ImageSignature], has_split: bool
) -> ImageGrouping:
    """Detect groups of related images, unless the source defines groups.

    Similar images that the groups do not keep together are a question.

    Args:
        items: all images.
        labels: class of each image, or ''.
        known: signatures of opened images by index; more are added.
        has_split: whether the source defines the splits.
    """
    if any(item.group is not None for item in items):
        return ImageGrouping()
    similar = find_look_alikes(items, known, MEGAPIXELS_OF_LOOK_ALIKES)
    found = _propose_grouping(items, labels, known, has_split, similar)
    if similar is None or similar.explained(assign_groups(items, found.group, found.block)):
        return found
    return replace(found, asks=(similar.question(items, bool(found.group) or found.block > 1), *found.asks))


def _propose_grouping(
    items: Sequence[Sample],
    labels: Sequence[str],
    known: dict[int, ImageSignature],
    has_split: bool,
    similar: LookAlikes | None,
) -> ImageGrouping:
    """Propose groups by file names that the images do not contradict, or blocks of consecutive images.

    Args:
        items: all images.
        labels: class of each image, or ''.
        known: signatures of opened images by index; more are added.
        has_split: whether the source defines the splits.
        similar: images that are far nearer than distinct images are, which groups must keep together.
    """
    paths = [item.path for item in items]
    asks: list[str] = []
    for one in find_groupings(paths, labels):
        if similar and not similar.explained(one.keys):
            asks.append(f"`{one.pattern}` is not proposed, because it separates similar images: {one.why}")
            continue
        seen = _compare_groups(items, labels, one, known)
        best = max((e for e in seen if e.significant and e.auc >= ALIKE), key=lambda e: e.auc, default=None)
        shown = f": {best}" if best else f"; the images do not confirm it: {seen[0]}" if seen else ""
        if one.certain or best:
            return ImageGrouping(group=one.pattern, why=f"{one.why}{shown}", asks=tuple(asks))
        asks.append(f"`{one.pattern}` may identify related images: {one.why}{shown}")
    blocks = _detect_sequence(items, labels, known, has_split)
    return ImageGrouping(blocks.group, blocks.block, blocks.why, (*asks, *blocks.asks))


def _compare_groups(
    items: Sequence[Sample], labels: Sequence[str], grouping: CandidateGrouping, known: dict[int, ImageSignature]
) -> list[SimilarityEvidence]:
    """Compare two images of each of some groups with images of different groups, of the same class if possible."""
    groups = list(grouping.groups.values())
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, min(PAIRS, len(groups))).astype(int))]
    pairs = [(places[0], places[1]) for places in chosen]
    add_signatures(items, (place for pair in pairs for place in pair), known, MEGAPIXELS)
    unrelated = [
        (a, b)
        for a, b in combinations([place for pair in pairs for place in pair], 2)
        if grouping.keys[a] != grouping.keys[b]
    ]
    of_class = [(a, b) for a, b in unrelated if labels[a] == labels[b]]
    return compare_pairs(known, pairs, of_class or unrelated)


def _detect_sequence(
    items: Sequence[Sample], labels: Sequence[str], known: dict[int, ImageSignature], has_split: bool
) -> ImageGrouping:
    """Detect similar consecutive images, such as slices or frames, and propose a block length.

    A counter that runs across folders or prefixes is tried first, then the counter of each folder and prefix.
    """
    paths = [item.path for item in items]
    asks: list[str] = []
    for scope in dict.fromkeys((counter_scope(paths), "")):
        longest = next(iter(find_sequences(paths, scope)), [])
        found = _detect_blocks(items, longest, scope, labels, known, has_split)
        if found.block > 1:
            return found
        asks += found.asks
    return ImageGrouping(asks=tuple(asks))


def _detect_blocks(
    items: Sequence[Sample],
    longest: Sequence[tuple[int, int]],
    scope: str,
    labels: Sequence[str],
    known: dict[int, ImageSignature],
    has_split: bool,
) -> ImageGrouping:
    """Compare the images of a sequence at several distances, and propose a block length.

    Args:
        items: all images.
        longest: number and index of the images of the sequence.
        scope: key of `SCOPES`: what the counter runs across.
        labels: class of each image, or ''.
        known: signatures of opened images by index; more are added.
        has_split: whether the source defines the splits.
    """
    if len(longest) < SHORTEST:
        return ImageGrouping()
    places = [place for _, place in longest]
    starts = [0] if len(places) <= WHOLE else np.linspace(0, len(places) - RUN, RUNS).astype(int)
    length = len(places) if len(places) <= WHOLE else RUN
    add_signatures(items, (place for start in starts for place in places[start : start + length]), known, MEGAPIXELS)
    by_lag = dict(_similarity_by_lag(places, labels, known))
    if not by_lag:
        return ImageGrouping()
    nearest = min(by_lag)  # above 1 if the classes alternate, so that consecutive images are of different classes
    best = max((0, 1), key=lambda one: (by_lag[nearest][one].significant, min(by_lag[nearest][one].auc, SURELY)))
    first = by_lag[nearest][best]
    ends = f"from {items[places[0]].path} to {items[places[-1]].path}"
    near = "consecutive images" if nearest == 1 else f"images of one class at a distance of {nearest}"
    counted = f"numbered {scope}" if scope else "numbered"
    span = f"{len(places)} images are {counted} {ends}; of {near}, {first}"
    if not (first.significant and first.auc >= ALIKE_IN_ORDER):
        return ImageGrouping(asks=(f"{span}; no block is proposed",))
    faded = next((lag for lag, comparisons in by_lag.items() if comparisons[best].auc < FADED), None)
    fades = (
        f"images at a distance of {faded} are no longer similar"
        if faded
        else f"images remain similar even at a distance of {max(by_lag)}"
    )
    if has_split:
        return ImageGrouping(asks=(f"{span}; {fades}: does the split of the source keep consecutive images together?",))
    steps = min(faded or RUN, max(2, len(places) // FEWEST_BLOCKS))
    block = steps * int(np.median([b - a for (a, _), (b, _) in pairwise(longest)]))
    fewer = f", but blocks of more than {steps} images would be too few to split" if steps < (faded or RUN) else ""
    return ImageGrouping(block=block, why=f"{span}; {fades}{fewer}{BORDER_NOTE}")


def _similarity_by_lag(
    places: Sequence[int], labels: Sequence[str], known: dict[int, ImageSignature]
) -> Iterator[tuple[int, list[SimilarityEvidence]]]:
    """Yield the similarity of images of one class by distance, compared with images at least half a sequence apart."""
    far = len(places) // 2
    opened = [(i, place) for i, place in enumerate(places) if place in known]
    unrelated = _same_class(((a, b) for i, a in opened for j, b in opened if j >= i + far), labels, known)
    for lag in range(1, min(RUN, far)):
        near = ((a, places[i + lag]) for i, a in opened if i + lag < len(places))
        pairs = _same_class(near, labels, known)
        if found := compare_pairs(known, pairs, unrelated):
            yield lag, found


def _same_class(
    pairs: Iterable[tuple[int, int]], labels: Sequence[str], known: dict[int, ImageSignature]
) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairs if a in known and b in known and labels[a] == labels[b]]
