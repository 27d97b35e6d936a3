"""Which images belong together, so that no split tears them apart: by their names, and by how alike they are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from stages.configuration.filename_patterns import Grouping, groupings, sequences
from stages.configuration.group_similarity import Evidence, Glance, evidence, opened
from stages.importers.sample import Sample

PAIRS = 32  # groups of which two images are opened
ALIKE, ALIKE_IN_ORDER = 0.65, 0.8  # AUC from which groups, and neighbours by number, are evidently alike
SURELY = 0.9  # from which the picture, which says more than the tone, is as good
FADED = 0.7  # AUC below which numbers so far from each other no longer are
SHORTEST, WHOLE, RUNS, RUN = 12, 64, 4, 16  # of a sequence: images; looked at as a whole, or in runs
FEWEST_BLOCKS = 10
MEGAPIXELS = 100.0  # opened for this, at most
TORN = "; blocks that touch stay alike at their border, which flatters scores a little"


@dataclass(frozen=True)
class Belonging:
    """What is known of it."""

    group: str = ""
    """For `ingest.group_regex`."""
    block: int = 1
    """For `ingest.sequence_block`."""
    why: str = ""
    asks: tuple[str, ...] = ()
    """What was seen and not taken up."""


def belonging(items: Sequence[Sample], labels: Sequence[str], known: dict[int, Glance], has_split: bool) -> Belonging:
    """Look for groups.

    Args:
        items: all images.
        labels: the class of each, or ''.
        known: images that were opened, by place; more are added.
        has_split: the source names the splits.
    """
    if any(item.group is not None for item in items):
        return Belonging()
    paths = [item.path for item in items]
    asks: list[str] = []
    for one in groupings(paths, labels):
        seen = _of_groups(items, labels, one, known)
        best = max((e for e in seen if e.sure and e.auc >= ALIKE), key=lambda e: e.auc, default=None)
        shown = f": {best}" if best else f"; their looks do not say so: {seen[0]}" if seen else ""
        if one.told or best:
            return Belonging(group=one.pattern, why=f"{one.why}{shown}", asks=tuple(asks))
        asks.append(f"`{one.pattern}` would be a group: {one.why}{shown}")
    blocks = _of_numbers(items, labels, known, has_split)
    return Belonging(blocks.group, blocks.block, blocks.why, (*asks, *blocks.asks))


def _of_groups(
    items: Sequence[Sample], labels: Sequence[str], grouping: Grouping, known: dict[int, Glance]
) -> list[Evidence]:
    """Two images of each of some groups, against images of different groups, of one class where there are such."""
    groups = list(grouping.groups.values())
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, min(PAIRS, len(groups))).astype(int))]
    pairs = [(places[0], places[1]) for places in chosen]
    opened(items, (place for pair in pairs for place in pair), known, MEGAPIXELS)
    strangers = [
        (a, b)
        for a, b in combinations([place for pair in pairs for place in pair], 2)
        if grouping.keys[a] != grouping.keys[b]
    ]
    of_class = [(a, b) for a, b in strangers if labels[a] == labels[b]]
    return evidence(known, pairs, of_class or strangers)


def _of_numbers(items: Sequence[Sample], labels: Sequence[str], known: dict[int, Glance], has_split: bool) -> Belonging:
    """Images numbered one after the other: slices, frames."""
    longest = next(iter(sequences([item.path for item in items])), [])
    if len(longest) < SHORTEST:
        return Belonging()
    places = [place for _, place in longest]
    starts = [0] if len(places) <= WHOLE else np.linspace(0, len(places) - RUN, RUNS).astype(int)
    length = len(places) if len(places) <= WHOLE else RUN
    opened(items, (place for start in starts for place in places[start : start + length]), known, MEGAPIXELS)
    by_lag = dict(_by_lag(places, labels, known))
    if not by_lag:
        return Belonging()
    kind = max((0, 1), key=lambda one: (by_lag[1][one].sure, min(by_lag[1][one].auc, SURELY)))
    first = by_lag[1][kind]
    ends = f"{items[places[0]].path} to {items[places[-1]].path}"
    span = f"{len(places)} images are numbered, {ends}; of neighbours {first}"
    if not (first.sure and first.auc >= ALIKE_IN_ORDER):
        return Belonging(asks=(f"{span}: no block is proposed",))
    faded = next((lag for lag, kinds in by_lag.items() if kinds[kind].auc < FADED), None)
    fades = f"which fades after {faded}" if faded else f"which has not faded after {max(by_lag)}"
    if has_split:
        return Belonging(asks=(f"{span}, {fades}: does the source's own split keep neighbours together?",))
    steps = min(faded or RUN, max(2, len(places) // FEWEST_BLOCKS))
    block = steps * int(np.median([b - a for (a, _), (b, _) in pairwise(longest)]))
    fewer = f", but blocks of more than {steps} would be too few to divide" if steps < (faded or RUN) else ""
    return Belonging(block=block, why=f"{span}, {fades}{fewer}{TORN}")


def _by_lag(
    places: Sequence[int], labels: Sequence[str], known: dict[int, Glance]
) -> Iterator[tuple[int, list[Evidence]]]:
    """How alike images of one class are that are so far apart in order, against those half of the whole apart."""
    far = len(places) // 2
    strangers = _of_one_class(((a, b) for i, a in enumerate(places) for b in places[i + far :]), labels, known)
    for lag in range(1, min(RUN, far)):
        pairs = _of_one_class(zip(places, places[lag:], strict=False), labels, known)
        if found := evidence(known, pairs, strangers):
            yield lag, found


def _of_one_class(
    pairs: Iterable[tuple[int, int]], labels: Sequence[str], known: dict[int, Glance]
) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairs if a in known and b in known and labels[a] == labels[b]]
