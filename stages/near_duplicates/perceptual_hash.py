"""Perceptual hashes that are near each other, found without comparing all with all.

Axes: N hashes, P pairs.
"""

from itertools import combinations
from typing import Any

import numpy as np

RADIUS = 8  # bits of 64 within which hashes are near
BANDS = ((0, 22), (22, 21), (43, 21))  # first bit and bits of each: three that split 64
MOST_PAIRS = 2_000_000  # beyond it the radius shrinks: what is near everything says nothing
SAMPLE = 3000  # hashes by which the number of pairs is foretold
AT_ONCE = 4_000_000  # pairs in memory

Array = np.ndarray[Any, Any]


def numbers(phash: Any) -> Array:
    """uint64 [N] of hashes of 16 hex digits."""
    return np.array([int(text, 16) for text in phash], np.uint64)


def radius_for(hashes: Array, asked: Array, most: int = MOST_PAIRS) -> int:
    """The largest radius up to `RADIUS` at which not more than about `most` pairs are near; -1 where 0 is too many."""
    some = np.random.default_rng(0).permutation(len(hashes))[:SAMPLE]
    counts = np.zeros(65)
    for place, i in enumerate(some[:-1]):
        counts += np.bincount(np.bitwise_count(hashes[some[place + 1 :]] ^ asked[i]), minlength=65)
    expected = np.cumsum(counts) * (len(hashes) / max(1, len(some))) ** 2
    return int(np.searchsorted(expected[: RADIUS + 1], most, side="right")) - 1


def near_pairs(hashes: Array, asked: Array, radius: int = RADIUS) -> Array:
    """[P, 2] positions i < j with at most `radius` bits between `asked` of one and `hashes` of the other.

    Exact: of three bands of bits at least one differs in at most radius // 3 bits (pigeonhole), so that for every such
    change of a band, its hashes are looked up among those that have exactly that band (Norouzi, Punjani and Fleet 2012,
    "Fast search in Hamming space with multi-index hashing").

    Args:
        hashes: uint64 [N], all different: equal ones would be near in bulk.
        asked: uint64 [N], `hashes` again, or those of the mirrored pictures.
        radius: bits, up to 8.
    """
    found = [np.empty(0, np.int64)]
    for shift, width in BANDS:
        band, changed = (((h >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64) for h in (hashes, asked))
        order = np.argsort(band, kind="stable")
        first = np.searchsorted(band[order], np.arange(2**width + 1)).astype(np.int64)
        for change in _changes(width, radius // len(BANDS)):
            begin = first[changed ^ change]
            found += _joined(hashes, asked, order, begin, first[(changed ^ change) + 1] - begin, radius)
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // max(1, len(hashes)), codes % max(1, len(hashes))], axis=1)


def near_any(asked: Array, hashes: Array, radius: int) -> Array:
    """[N] whether any of `hashes` is within `radius` bits of each one of `asked` [N]."""
    known, wanted = np.unique(hashes), np.unique(asked)
    both = np.unique(np.concatenate([known, wanted]))
    pairs = near_pairs(both, both, radius)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    inside = np.isin(both, known)
    found = inside.copy()
    found[pairs[inside[pairs[:, 1]], 0]] = True
    return found[np.searchsorted(both, asked)]


def _changes(width: int, most: int) -> list[int]:
    """All masks of `width` bits of which at most `most` are set."""
    return [sum(1 << bit for bit in bits) for n in range(most + 1) for bits in combinations(range(width), n)]


def _joined(hashes: Array, asked: Array, order: Array, begin: Array, count: Array, radius: int) -> list[Array]:
    """Codes i * N + j of near pairs: of each i `asked` is compared with `count` hashes in `order` from `begin` on."""
    found = []
    ends = np.cumsum(count)
    asking = np.flatnonzero(count)
    while len(asking):
        taken = asking[: max(1, int(np.searchsorted(ends[asking] - ends[asking[0]], AT_ONCE)))]
        asking = asking[len(taken) :]
        i = np.repeat(taken, count[taken])
        within = np.arange(len(i)) - np.repeat(np.cumsum(count[taken]) - count[taken], count[taken])
        j = order[np.repeat(begin[taken], count[taken]) + within]
        near = (np.bitwise_count(asked[i] ^ hashes[j]) <= radius) & (i != j)
        found.append(np.minimum(i, j)[near] * len(hashes) + np.maximum(i, j)[near])
    return found
