"""Which rows show one picture, and which show one picture changed: mirrored, cropped, lit otherwise, a moment later.

Rows of equal pixels are one picture. Of the others those with near perceptual hashes are looked at, and judged by how
near the distinct pictures of the same data set come to each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.dataset.manifest import decode_images
from stages.near_duplicates.distance_distribution import FEWEST, Density, density, distance
from stages.near_duplicates.image_similarity import WINDOWS, aligned, correlations, details, thumbnail
from stages.near_duplicates.perceptual_hash import RADIUS, near_pairs, numbers, radius_for

NEAR = 0.1  # pairs of distinct pictures as near as a copy that may be expected in the whole data set
SAME = 1e-6  # the same, for what is called the same picture and blocks
SAME_DETAILS = 0.98  # correlation of the same picture at 16x16; photos at a quarter of their size reach .995
REFERENCES = 1000  # pictures by which the density is learned
COMMON = 8  # pictures under one hash, beyond which it says little: each is compared with the 8 next to it in contrast
MOST_BITS = 4  # between hashes, where there is nothing but hashes; re-encoded photos differ in up to 3
MOST_ALIGNED = 5000  # pairs that are looked at as crops of each other, the likeliest first

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Copies:
    """What was found, rows by their position."""

    same: list[pd.DataFrame]
    """Sets of rows that show one picture, equal or encoded anew."""
    near: list[pd.DataFrame]
    """Sets of rows, of two pictures or more, that are nearer than distinct pictures are; the surest first."""
    pairs: pd.DataFrame
    """The pairs behind both: first, second (paths), correlation, mirrored, expected, same."""
    hash_bits: int
    """Bits up to which a near hash alone tells a copy from a look-alike here; -1: not even an equal one does."""
    not_checked: str
    """What could not be told, and why; empty where all was."""


def copies(rows: pd.DataFrame, folder: Path, others: int) -> Copies:
    """Find them.

    Args:
        rows: manifest.
        folder: where the images of `rows` can be read from.
        others: pictures elsewhere (the sealed test) that are known by their hash only.
    """
    code, first = _distinct(rows)
    known = rows.iloc[first]
    usable = np.flatnonzero(~known["blank"].to_numpy())
    if len(usable) < FEWEST:
        said = f"{len(usable)} different pictures are too few to tell a changed copy: they were compared pixel by pixel"
        return Copies(*_sets(rows, code, first, _unjudged(known, np.empty((0, 2), int))), -1, said)
    pairs, bits, unsaid = _candidates(known.iloc[usable])
    judged, flat = _look(known, usable[pairs], usable, folder)
    judged["bits"] = bits
    if flat:
        unsaid.append(f"{flat} pictures have next to no detail and were compared pixel by pixel")
    told = _bits_that_tell(judged, len(usable), others)
    return Copies(*_sets(rows, code, first, judged), told, "; ".join(unsaid))


def _distinct(rows: pd.DataFrame) -> tuple[Array, Array]:
    """[N] number of each row's picture, and the position of the first row of each."""
    code, names = pd.factorize(rows["pixels"])
    first = np.full(len(names), len(rows))
    np.minimum.at(first, code, np.arange(len(rows)))
    return code, first


def _candidates(known: pd.DataFrame) -> tuple[Array, Array, list[str]]:
    """[P, 2] positions of pictures with near hashes, [P] bits between the hashes, and what was not compared."""
    hashes, mirrored = numbers(known["phash"]), numbers(known["phash_mirrored"])
    unique, place = np.unique(hashes, return_inverse=True)
    members = _members(place, known["contrast"].to_numpy())
    pairs = [_within(rows) for rows in members]
    rare = np.flatnonzero([len(rows) <= COMMON for rows in members])
    turned = mirrored[[members[u][0] for u in rare]]
    radius = min(radius_for(unique[rare], unique[rare]), radius_for(unique[rare], turned))
    if radius >= 0:
        for asked in (unique[rare], turned):
            near = rare[near_pairs(unique[rare], asked, radius)]
            pairs.append(_products([members[u] for u in near[:, 0]], [members[v] for v in near[:, 1]]))
    found = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    a, b = found.T
    bits = np.minimum(np.bitwise_count(hashes[a] ^ hashes[b]), np.bitwise_count(mirrored[a] ^ hashes[b]))
    unsaid = []
    if radius < RADIUS:
        unsaid.append(f"so many pictures look alike that only hashes within {radius} bits, not {RADIUS}, were compared")
    common = sum(len(rows) for rows in members if len(rows) > COMMON)
    if common:
        unsaid.append(
            f"{common} pictures share their hash with more than {COMMON} and were compared with a few of them"
        )
    return found, bits.astype(int), unsaid


def _members(place: Array, order_by: Array) -> list[Array]:
    """The positions of the pictures of each hash, by contrast."""
    order = np.lexsort((order_by, place))
    return np.split(order, np.flatnonzero(np.diff(place[order])) + 1)


def _within(rows: Array) -> Array:
    """[P, 2] pairs of one hash: all, or each with the next few."""
    steps = range(1, min(len(rows), COMMON + 1))
    return np.concatenate([np.empty((0, 2), int), *(np.stack([rows[:-s], rows[s:]], axis=1) for s in steps)])


def _products(ones: list[Array], others: list[Array]) -> Array:
    """[P, 2] each of one set with each of the other."""
    sets = zip(ones, others, strict=True)
    made = [np.stack([np.repeat(a, len(b)), np.tile(b, len(a))], axis=1) for a, b in sets]
    return np.concatenate([np.empty((0, 2), int), *made])


def _look(known: pd.DataFrame, pairs: Array, usable: Array, folder: Path) -> tuple[pd.DataFrame, int]:
    """The pairs judged by their pictures, and how many pictures are too flat for that."""
    references = np.random.default_rng(0).permutation(usable)[:REFERENCES]
    wanted = np.unique(np.concatenate([references, pairs.ravel()]))
    thumbs = np.stack([thumbnail(p.image) for p in decode_images(known.iloc[wanted], folder)])
    found = details(thumbs)
    flat = np.asarray(~found.any(axis=1))
    asked = np.searchsorted(wanted, references)
    asked = asked[~flat[asked]]
    table = _unjudged(known, pairs)
    if len(asked) >= FEWEST and len(pairs):
        learned = density(found[asked], len(usable))
        table = table.assign(**_judged(thumbs, found, np.searchsorted(wanted, pairs), learned))
    return table, int(flat.sum())


def _unjudged(known: pd.DataFrame, pairs: Array) -> pd.DataFrame:
    """A row per pair: one, two (positions in `known`), first, second (paths), and a judgement that it is no copy."""
    one, two = pairs.T
    table = pd.DataFrame({"one": one, "two": two})
    table = table.assign(first=known["path"].to_numpy()[one], second=known["path"].to_numpy()[two], bits=0)
    return table.assign(correlation=0.0, mirrored=False, cropped=False, expected=np.inf, same=False)


def _judged(thumbs: Array, found: Array, at: Array, learned: Density) -> dict[str, Array]:
    """The columns correlation, mirrored, cropped, expected and same of the pairs `at` [P, 2] of the pictures."""
    upright, turned = correlations(found, at)
    mirror, best = turned > upright, np.maximum(upright, turned)
    radii = np.full(len(found), np.inf)
    radii[np.unique(at)] = learned.radii(found[np.unique(at)])
    radius = radii[at].min(axis=1)
    expected = np.where(best > 0, learned.expected(distance(best), radius), np.inf)
    likely = np.argsort(expected)
    likely = likely[(expected[likely] > NEAR) & np.isfinite(expected[likely])][:MOST_ALIGNED]
    as_crop = aligned(thumbs, at[likely], mirror[likely])
    by_crop = WINDOWS * learned.expected(distance(as_crop), radius[likely])  # so many chances to fit
    better = by_crop < expected[likely]
    cropped = np.zeros(len(at), bool)
    cropped[likely] = better
    best[likely] = np.where(better, as_crop, best[likely])
    expected[likely] = np.where(better, by_crop, expected[likely])
    same = (expected <= SAME) & (best >= SAME_DETAILS) & ~mirror & ~cropped
    return {"correlation": best, "mirrored": mirror, "cropped": cropped, "expected": expected, "same": same}


def _bits_that_tell(judged: pd.DataFrame, count: int, others: int) -> int:
    """The most bits at which not more than one pair with `others` is expected to be a look-alike."""
    wrong = np.bincount(judged.loc[judged["expected"] > NEAR, "bits"], minlength=RADIUS + 1)[: RADIUS + 1]
    expected = (np.cumsum(wrong) + 0.5) * 2 * others / max(1, count - 1)
    return min(MOST_BITS, int(np.searchsorted(expected, 1.0, side="right")) - 1)


def _sets(
    rows: pd.DataFrame, code: Array, first: Array, judged: pd.DataFrame
) -> tuple[list[pd.DataFrame], list[pd.DataFrame], pd.DataFrame]:
    """Rows joined by sameness, rows joined by nearness, and the pairs of both."""
    pairs = judged[judged["expected"] <= NEAR].sort_values("expected", kind="stable")
    same = _joined(len(first), pairs.loc[pairs["same"], ["one", "two"]].to_numpy())
    near = _joined(len(first), pairs[["one", "two"]].to_numpy())
    ones = [those for _, those in rows.groupby(same[code]) if len(those) > 1]
    rank = pd.Series(near[pairs["one"]], dtype=int).drop_duplicates()
    wanted = np.isin(near[code], rank.to_numpy())
    of_near = dict(list(rows[wanted].groupby(near[code][wanted])))
    changed = [of_near[key] for key in rank if len(set(same[code[rows.index.get_indexer(of_near[key].index)]])) > 1]
    return ones, changed, pairs.drop(columns=["one", "two"])


def _joined(count: int, ends: Array) -> Array:
    """[count]: equal numbers for what is joined, directly or through others."""
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def named(sets: Iterable[pd.DataFrame], most: int = 50) -> list[list[str]]:
    """Paths with their label and split, for evidence: `["train/1.png (a, train)", ...]` a set."""
    return [[f"{r.path} ({r.label}, {r.split})" for r in same.itertuples()] for same in list(sets)[:most]]


def paths(sets: Iterable[pd.DataFrame], most: int = 24) -> list[str]:
    """The paths of the first few sets, to be shown as images."""
    return [path for same in sets for path in same["path"]][:most]
