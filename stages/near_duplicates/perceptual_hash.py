"""Search for pairs of similar perceptual hashes (multi-index hashing).

Axes: N hashes, P pairs.
"""

from itertools import combinations
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Integer

RADIUS = 8  # maximum Hamming distance, bits of 64
BANDS = ((0, 22), (22, 21), (43, 21))  # first bit and number of bits of the three bands of 64 bits
MAX_PAIRS = 2_000_000  # the radius is reduced until there are fewer pairs
SAMPLE = 3000  # hashes for estimating the number of pairs
AT_ONCE = 4_000_000  # pairs in memory


def parse_hashes(phash: Any) -> Integer[Array, " N"]:
    """Convert hashes of 16 hexadecimal digits to uint64."""
    return np.array([int(text, 16) for text in phash], np.uint64)


def radius_for(hashes: Integer[Array, " N"], queries: Integer[Array, " N"], most: int = MAX_PAIRS) -> int:
    """Return the largest radius up to `RADIUS` that yields about `most` pairs or fewer; -1 if radius 0 yields more.

    Args:
        hashes: perceptual hashes, uint64.
        queries: hashes that are compared with `hashes`, uint64.
        most: maximum number of pairs.
    """
    sample = np.random.default_rng(0).permutation(len(hashes))[:SAMPLE]
    counts = np.zeros(65)
    for place, i in enumerate(sample[:-1]):
        counts += np.bincount(np.bitwise_count(hashes[sample[place + 1 :]] ^ queries[i]), minlength=65)
    expected = np.cumsum(counts) * (len(hashes) / max(1, len(sample))) ** 2
    return int(np.searchsorted(expected[: RADIUS + 1], most, side="right")) - 1


def near_pairs(
    hashes: Integer[Array, " N"], queries: Integer[Array, " N"], radius: int = RADIUS
) -> Integer[Array, "P 2"]:
    """Return index pairs i < j for which the Hamming distance between a query and a hash is at most `radius`.

    The search is exact: at least one of three bands of bits differs in at most radius // 3 bits (pigeonhole principle).
    For each band of a query, the hashes with the same band are looked up after every possible change of up to that many
    bits (Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing").

    Args:
        hashes: perceptual hashes, uint64, all different.
        queries: `hashes` or the hashes of the mirrored images, uint64.
        radius: maximum Hamming distance, up to 8.
    """
    found = [np.empty(0, np.int64)]
    for shift, width in BANDS:
        band, changed = (
            ((h >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64) for h in (hashes, queries)
        )
        order = np.argsort(band, kind="stable")
        first = np.searchsorted(band[order], np.arange(2**width + 1)).astype(np.int64)
        for change in _changes(width, radius // len(BANDS)):
            begin = first[changed ^ change]
            found += _match(hashes, queries, order, begin, first[(changed ^ change) + 1] - begin, radius)
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // max(1, len(hashes)), codes % max(1, len(hashes))], axis=1)


def near_any(queries: Integer[Array, " N"], hashes: Integer[Array, " M"], radius: int) -> Bool[Array, " N"]:
    """Return True for each query that differs from at least one hash in at most `radius` bits.

    Args:
        queries: perceptual hashes to search for, uint64.
        hashes: perceptual hashes to search in, uint64.
        radius: maximum Hamming distance, up to 8.
    """
    known, wanted = np.unique(hashes), np.unique(queries)
    both = np.unique(np.concatenate([known, wanted]))
    pairs = near_pairs(both, both, radius)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    inside = np.isin(both, known)
    found = inside.copy()
    found[pairs[inside[pairs[:, 1]], 0]] = True
    return found[np.searchsorted(both, queries)]


def _changes(width: int, most: int) -> list[int]:
    """Return all bit masks of `width` bits with at most `most` bits set."""
    return [sum(1 << bit for bit in bits) for n in range(most + 1) for bits in combinations(range(width), n)]


def _match(
    hashes: Integer[Array, " N"],
    queries: Integer[Array, " N"],
    order: Integer[Array, " N"],
    begin: Integer[Array, " N"],
    count: Integer[Array, " N"],
    radius: int,
) -> list[Integer[Array, " _"]]:
    """Return near pairs as codes i * N + j; query i is compared with `count[i]` hashes of `order` from `begin[i]`."""
    found = []
    ends = np.cumsum(count)
    pending = np.flatnonzero(count)
    while len(pending):
        chunk = pending[: max(1, int(np.searchsorted(ends[pending] - ends[pending[0]], AT_ONCE)))]
        pending = pending[len(chunk) :]
        i = np.repeat(chunk, count[chunk])
        within = np.arange(len(i)) - np.repeat(np.cumsum(count[chunk]) - count[chunk], count[chunk])
        j = order[np.repeat(begin[chunk], count[chunk]) + within]
        near = (np.bitwise_count(queries[i] ^ hashes[j]) <= radius) & (i != j)
        found.append(np.minimum(i, j)[near] * len(hashes) + np.maximum(i, j)[near])
    return found
