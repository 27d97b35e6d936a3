"""Detection of related images, which must stay in one split, by file name, capture time and similarity."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from stages.configuration.appearance_groups import (
    AppearanceGroups,
    AppearanceOptions,
    compare_all,
    group_by_appearance,
)
from stages.configuration.filename_patterns import CandidateGrouping, assign_groups, find_groupings, find_sequences
from stages.configuration.group_choice import MEGAPIXELS, GroupComparison, choose_grouping
from stages.configuration.group_similarity import ImageSignature, SimilarityEvidence, add_signatures, compare_pairs
from stages.configuration.look_alikes import LookAlikes, find_look_alikes
from stages.configuration.source_split import ask_about_split
from stages.configuration.time_sessions import find_sessions
from stages.core.plurals import quantity
from stages.dataset.counters import NUMBER, counter_scope
from stages.importers.sample import Sample
from stages.importers.sequence_blocks import ask_about_borders

ALIKE_IN_ORDER = 0.8  # minimum AUC of consecutive images
SURELY = 0.9  # AUC from which pictures, which are more specific, are preferred to tone
FADED = 0.7  # AUC below which images at a distance are unrelated
SHORTEST, WHOLE = 12, 64  # lengths of a sequence in images: minimum, and maximum that is opened completely
RUNS, RUN = 4, 16  # number and length of the runs of images that are opened of longer sequences
FEWEST_BLOCKS = 10
MEGAPIXELS_OF_LOOK_ALIKES = 30.0  # the same for the comparison of all images; 0.1 CPU seconds each


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
    session_gap: float = 0.0
    """Value of `ingest.session_gap`."""
    keys: tuple[str, ...] = ()
    """Group of each image by capture time, if the times of all images were read; else empty."""
    table: Mapping[str, str] = field(default_factory=dict)
    """Group by path of the table that `ingest.group_table` names."""

    @property
    def exists(self) -> bool:
        """True if groups are proposed."""
        return bool(self.group or self.block > 1 or self.session_gap or self.table)

    def groups_of(self, items: Sequence[Sample]) -> Sequence[str]:
        """Return the group of each image as determined by `ingest`, as far as it is known; see `assign_groups`."""
        if self.table:
            return [self.table.get(item.path, item.path) for item in items]
        return self.keys or assign_groups(items, self.group, self.block)


def detect_grouping(
    items: Sequence[Sample],
    labels: Sequence[str],
    known: dict[int, ImageSignature],
    has_split: bool,
    taken: Mapping[int, str] | None = None,
    appearance: AppearanceOptions | None = None,
) -> ImageGrouping:
    """Detect groups of related images, unless the source defines groups.

    Similar images that the groups do not keep together are groups of a table, or a question.

    Args:
        items: all images.
        labels: class of each image, or ''.
        known: signatures of opened images by index; more are added.
        has_split: whether the source defines the splits.
        taken: EXIF time by index of the images whose time was read.
        appearance: limits of the comparison of all images, and the table of groups that was accepted before.
    """
    if any(item.group is not None for item in items):
        return ImageGrouping()
    appearance = appearance or AppearanceOptions()
    similar = find_look_alikes(items, known, MEGAPIXELS_OF_LOOK_ALIKES) or compare_all(items, known, appearance)
    found = _propose_grouping(items, labels, known, has_split, similar, taken or {})
    if found.session_gap and not (found.keys or appearance.accepted):
        return found  # the groups of most images are unknown
    groups = found.groups_of(items)
    if has_split:
        found = replace(found, asks=(*ask_about_split(items, groups, similar), *found.asks))
    question = "" if similar is None or similar.explained(groups) else similar.question(items, found.exists)
    if has_split:
        return replace(found, asks=(question, *found.asks)) if question else found
    return _with_table(found, group_by_appearance(items, known, question, appearance))


def _with_table(found: ImageGrouping, table: AppearanceGroups) -> ImageGrouping:
    """Return the grouping by the table, if there is one; any other grouping then becomes a question."""
    ask = (table.ask,) if table.ask else ()
    if not table.rows:
        return replace(found, asks=(*ask, *found.asks))
    asks = found.asks
    if found.exists:
        other = f"sequence_block: {found.block}" if found.block > 1 else f"session_gap: {found.session_gap:g}"
        asks = (f"`{found.group or other}` is not proposed beside the table of groups: {found.why}",)
    return ImageGrouping(table=table.rows, why=table.why, asks=(*ask, *asks))


def _propose_grouping(
    items: Sequence[Sample],
    labels: Sequence[str],
    known: dict[int, ImageSignature],
    has_split: bool,
    similar: LookAlikes | None,
    taken: Mapping[int, str],
) -> ImageGrouping:
    """Propose groups by file names that the images do not contradict, or blocks of consecutive images.

    Args:
        items: all images.
        labels: class of each image, or ''.
        known: signatures of opened images by index; more are added.
        has_split: whether the source defines the splits.
        similar: images that are far nearer than distinct images are, which groups must keep together.
        taken: EXIF time by index of the images whose time was read.
    """
    candidates = [*find_groupings([item.path for item in items], labels), *find_sessions(items, labels, taken)]
    joining = [one for one in candidates if similar is None or similar.explained(one.keys)]
    chosen, asks = choose_grouping(joining, GroupComparison(items, labels, known))
    if apart := [one for one in candidates if one not in joining and (one.certain or not joining)][:1]:
        asks.append(f"`{apart[0].pattern}` is not proposed, because it separates similar images: {apart[0].why}")
    if chosen:
        shown = f": {chosen.evidence}" if chosen.alike else ""
        shown = shown or (f"; the images do not confirm it: {chosen.evidence}" if chosen.evidence else "")
        return _as_proposed(chosen.grouping, f"{chosen.grouping.why}{shown}", asks)
    if 0 < len(taken) < len(items) and (sessions := _propose_sessions_of_sample(items, labels, taken)):
        return replace(sessions, asks=(*asks, *sessions.asks))
    blocks = _detect_sequence(items, labels, known, has_split)
    return ImageGrouping(blocks.group, blocks.block, blocks.why, (*asks, *blocks.asks))


def _as_proposed(grouping: CandidateGrouping, why: str, asks: Sequence[str]) -> ImageGrouping:
    if grouping.session_gap:
        return ImageGrouping(session_gap=grouping.session_gap, keys=grouping.keys, why=why, asks=tuple(asks))
    return ImageGrouping(group=grouping.pattern, why=why, asks=tuple(asks))


def _propose_sessions_of_sample(
    items: Sequence[Sample], labels: Sequence[str], taken: Mapping[int, str]
) -> ImageGrouping | None:
    """Propose sessions from the images whose capture time was read, if only a part was; None if there are none.

    Args:
        items: all images.
        labels: class of each image, or ''.
        taken: EXIF time by index.
    """
    places = sorted(taken)
    some, of_some = [items[place] for place in places], [labels[place] for place in places]
    candidates = list(find_sessions(some, of_some, {i: taken[place] for i, place in enumerate(places)}))
    chosen, asks = choose_grouping(candidates, GroupComparison(some, of_some, {}))
    seen = f"the capture times of {len(places)} of {quantity(len(items), 'image')} were read"
    asks = [f"{ask}; {seen}" for ask in asks]
    if chosen is None:
        return ImageGrouping(asks=tuple(asks)) if asks else None
    why = f"{chosen.grouping.why}: {chosen.evidence}; {seen}"
    return ImageGrouping(session_gap=chosen.grouping.session_gap, why=why, asks=tuple(asks))


def _detect_sequence(
    items: Sequence[Sample], labels: Sequence[str], known: dict[int, ImageSignature], has_split: bool
) -> ImageGrouping:
    """Detect similar consecutive images, such as slices or frames, and propose a block length.

    A counter that runs across folders or prefixes is tried first, then the counter of each folder and prefix.
    """
    paths, unblocked = _without_constant_number([item.path for item in items]), ""
    if paths != [item.path for item in items]:
        unblocked = (
            "blocks count by the last number of a name, which is the same in all: are the images of a folder views of "
            "one object? If so, only further objects, each a group by `ingest.group_regex`, show how new ones are "
            "recognized"
        )
    elif has_split:
        unblocked = "does the split of the source keep consecutive images together?"
    asks: list[str] = []
    for scope in dict.fromkeys((counter_scope(paths), "")):
        series = find_sequences(paths, scope)
        found = _detect_blocks(items, series, scope, labels, known, unblocked)
        if found.block > 1:
            return found
        asks += found.asks
    return ImageGrouping(asks=tuple(asks))


def _without_constant_number(paths: Sequence[str]) -> list[str]:
    """Return the paths without their last number and what follows if that number is the same in all, as in `7_100.jpg`.

    The number that orders the images is then an earlier one. Paths without another number stay as they are.
    """
    found = [NUMBER.fullmatch(path) for path in paths]
    shortened = [match[1] for match in found if match and NUMBER.fullmatch(match[1])]
    is_constant = len({match[2] for match in found if match}) == 1 < len(set(shortened)) == len(paths)
    return shortened if is_constant else list(paths)


def _detect_blocks(
    items: Sequence[Sample],
    series: Sequence[Sequence[tuple[int, int]]],
    scope: str,
    labels: Sequence[str],
    known: dict[int, ImageSignature],
    unblocked: str,
) -> ImageGrouping:
    """Compare the images of a sequence at several distances, and propose a block length.

    Args:
        items: all images.
        series: number and index of the images of each sequence, the longest first, which is compared.
        scope: key of `SCOPES`: what the counter runs across.
        labels: class of each image, or ''.
        known: signatures of opened images by index; more are added.
        unblocked: question about consecutive images that are similar, if no block can be proposed; else empty.
    """
    longest = series[0] if series else []
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
    if unblocked:
        return ImageGrouping(asks=(f"{span}; {fades}: {unblocked}",))
    steps = min(faded or RUN, max(2, sum(map(len, series)) // FEWEST_BLOCKS))
    gap = int(np.median([b - a for (a, _), (b, _) in pairwise(longest)]))
    fewer = f", but blocks of more than {steps} images would be too few to split" if steps < (faded or RUN) else ""
    reach, block = (faded or RUN) - 1, steps * gap
    asks = [
        ask_about_borders(
            items[place].path,
            items[next_place].path,
            len(series),
            min(1.0, 2 * reach / steps),
            min(reach, steps // 2) * gap,
        )
        for (number, place), (next_number, next_place) in pairwise(longest)
        if number // block < next_number // block
    ]
    return ImageGrouping(block=block, why=f"{span}; {fades}{fewer}", asks=tuple(asks[:1]))


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
