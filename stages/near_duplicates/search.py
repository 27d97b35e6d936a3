"""Search for duplicates and near-duplicates: re-encoded, mirrored, cropped or differently exposed copies of an image.

Rows with equal pixels are duplicates. Pairs with similar perceptual hashes are compared by their pixels, relative to
the distances between distinct images of the data set. In a sample, all pairs are compared, also after stronger changes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Integer, Real, Shaped, UInt8
from stages.dataset.annotations import Annotation, describe_labels
from stages.dataset.manifest import decode_images
from stages.images.image_statistics import perceptual_hashes, to_grey
from stages.near_duplicates.clusters import MIN_IMAGES as FEWEST
from stages.near_duplicates.clusters import Clusters, find_clusters
from stages.near_duplicates.distance_distribution import (
    MIN_IMAGES,
    DistanceDistribution,
    distance,
    estimate_distribution,
)
from stages.near_duplicates.exhaustive_search import CHANGES, are_near, find_pairs
from stages.near_duplicates.image_similarity import (
    WINDOWS,
    correlations,
    cropped_correlation,
    grey_thumbnail,
    image_details,
)
from stages.near_duplicates.perceptual_hash import RADIUS, near_pairs, parse_hashes, radius_for
from stages.near_duplicates.planted_copies import COPIES, KINDS, SAME_IMAGE, STRONG, Detection, describe_detection

NEAR = 0.1  # maximum expected number of equally close pairs of distinct images, for a near-duplicate
SAME = 1e-6  # maximum expected number for two copies of the same image
SAME_DETAILS = 0.98  # minimum correlation for the same image; photos resized to a quarter reach 0.995
REFERENCES = 1000  # images of the sample in which all pairs are compared
COMMON = 8  # if more images share a hash, each is compared only with the next 8 in order of contrast
MAX_BITS = 4  # maximum Hamming distance if only hashes are known; re-encoded photos differ in up to 3 bits
MAX_CROP_PAIRS = 5000  # maximum number of pairs that are compared as crops, most likely first


@dataclass(frozen=True)
class Copies:
    """Duplicates and near-duplicates of a data set."""

    same: list[pd.DataFrame]
    """Sets of rows with the same image, equal or re-encoded."""
    near: list[pd.DataFrame]
    """Sets of rows with near-duplicates, the most certain first."""
    pairs: pd.DataFrame
    """Pairs of both kinds except those with equal pixels.

    Columns: first, second (paths), bits, correlation, expected, same, and one column of bool for each of `CHANGES`.
    """
    hash_bits: int
    """Hamming distance up to which a hash alone identifies a copy in this data set.

    -1 if even equal hashes do not, or if there are too few images to know.
    """
    not_checked: str
    """Description of what was not compared, and why; empty if everything was compared."""
    planted: dict[str, Detection]
    """How many planted near-duplicates of each kind the search finds; empty if nothing could be compared."""
    planted_same: dict[str, Detection]
    """How many planted copies of each kind of `SAME_IMAGE` are recognized as the same image; empty likewise."""
    clusters: Clusters | None
    """Clusters of similar images in a sample; None if there are too few images to know."""


def find_copies(rows: pd.DataFrame, folder: Path, others: int) -> Copies:
    """Find duplicates and near-duplicates.

    Blank images are compared only for equal pixels.

    Args:
        rows: manifest.
        folder: output folder of ingest.
        others: number of images of which only the hash is known (those of the sealed test set).
    """
    code, first = _distinct(rows)
    known = rows.iloc[first]
    usable = np.flatnonzero(~known["blank"].to_numpy())
    if len(usable) < MIN_IMAGES:
        reason = (
            f"{quantity(len(usable), 'distinct non-blank image')} {'is' if len(usable) == 1 else 'are'} too few to "
            f"detect near-duplicates ({MIN_IMAGES} are required); only equal pixels were compared"
        )
        return Copies(*_sets(rows, code, first, _unjudged(known, np.empty((0, 2), int))), -1, reason, {}, {}, None)
    pairs, hash_bits, radius, unchecked = _candidates(known.iloc[usable])
    compared = _compare_images(known, usable[pairs], usable, folder)
    planted: dict[str, Detection] = {}
    planted_same: dict[str, Detection] = {}
    if compared.learned:
        planted, planted_same = _search_planted(known.iloc[usable], folder, compared.learned, radius)
    unchecked += _unchecked(compared, len(usable))
    if missed := describe_detection(planted | planted_same, reliable=False):
        unchecked.append(f"in this data set, the search misses many copies that are {missed}")
    bits = _reliable_bits(compared.candidates.assign(bits=hash_bits), len(usable), others)
    sets = _sets(rows, code, first, compared.near())
    return Copies(*sets, bits, "; ".join(unchecked), planted, planted_same, compared.clusters)


@dataclass(frozen=True)
class _Comparison:
    """Result of comparing images by their pixels."""

    candidates: pd.DataFrame
    """One row per pair with similar hashes."""
    sampled: pd.DataFrame
    """Pairs of the sample that are closer than distinct images, possibly after a strong change."""
    learned: DistanceDistribution | None
    """Distances between distinct images; None if there are too few images."""
    flat: int
    """Number of images without detail."""
    detailed: int
    """Number of images of the sample with detail."""
    clusters: Clusters | None
    """Clusters of the images of the sample."""

    def near(self) -> pd.DataFrame:
        """Return the near pairs, each once: those of the sample only if their hashes did not identify them."""
        identified = self.candidates[self.candidates["expected"] <= NEAR]
        return pd.concat([identified, self.sampled], ignore_index=True).drop_duplicates(["one", "two"])


def _unchecked(compared: _Comparison, usable: int) -> list[str]:
    """Return which images or copies were not compared, and why."""
    unchecked = []
    flat, detailed = compared.flat, compared.detailed
    if flat:
        verb = "was" if flat == 1 else "were"
        unchecked.append(f"{quantity(flat, 'image')} with almost no detail {verb} compared only for equal pixels")
    if detailed < MIN_IMAGES:
        unchecked.append(
            f"{quantity(detailed, 'image')} with more detail {'is' if detailed == 1 else 'are'} too few to detect "
            f"near-duplicates ({MIN_IMAGES} are required)"
        )
    elif compared.clusters is None:
        unchecked.append(
            f"{detailed} images are too few to know how similar distinct images are ({FEWEST} are required)"
        )
    if usable > REFERENCES:
        unchecked.append(f"copies that are {', '.join(STRONG)} were searched among {REFERENCES:,} of {usable:,} images")
    return unchecked


def _search_planted(
    usable: pd.DataFrame, folder: Path, learned: DistanceDistribution, radius: int
) -> tuple[dict[str, Detection], dict[str, Detection]]:
    """Return how many changed copies of random images are found by hash and then by pixels, by kind of copy.

    The second dict counts only those that are recognized as the same image. Copies of `STRONG` are found without their
    hash, but only within the sample: they are left out if there are more images.
    """
    originals = usable.iloc[np.random.default_rng(1).permutation(len(usable))[:COPIES]]
    images = [picture.image for picture in decode_images(originals, folder)]
    hashes = parse_hashes(originals["phash"])
    all_pairs = len(usable) <= REFERENCES  # all pairs are compared, not only those with similar hashes
    detected: dict[str, Detection] = {}
    for kind, change in {**KINDS, **(STRONG if all_pairs else {}), **SAME_IMAGE}.items():
        copies = [change(image) for image in images]
        bits = np.array([_hash_bits(one, copy) for one, copy in zip(hashes, copies, strict=True)])
        thumbs = np.stack([grey_thumbnail(image) for image in (*images, *copies)])
        details = image_details(thumbs)
        pairs = np.stack([np.arange(len(images)), np.arange(len(images), len(thumbs))], axis=1)
        judged = _judged(thumbs, details, pairs, learned)
        found = (judged["same"] if kind in SAME_IMAGE else judged["expected"] <= NEAR) & (bits <= radius)
        if all_pairs and kind not in SAME_IMAGE:
            found |= are_near(thumbs, details, pairs, learned)
        detailed = np.asarray(details.any(axis=1))[: len(images)]
        detected[kind] = Detection(int(found[detailed].sum()), int(detailed.sum()))
    near = {kind: one for kind, one in detected.items() if kind not in SAME_IMAGE}
    return near, {kind: detected[kind] for kind in SAME_IMAGE}


def _hash_bits(phash: np.uint64, copy: Integer[Array, "_ _ *_"]) -> int:
    """Return the Hamming distance of a hash to the nearer of those of an image and of its mirror image."""
    of_copy = parse_hashes(perceptual_hashes(Image.fromarray(to_grey(copy))))
    return int(np.bitwise_count(of_copy ^ phash).min())


def _distinct(rows: pd.DataFrame) -> tuple[Integer[Array, " N"], Integer[Array, " D"]]:
    """Return the index of the distinct image of each row, and the first row of each distinct image."""
    code, names = pd.factorize(rows["pixels"])
    first = np.full(len(names), len(rows))
    np.minimum.at(first, code, np.arange(len(rows)))
    return code, first


def _candidates(known: pd.DataFrame) -> tuple[Integer[Array, "P 2"], Integer[Array, " P"], int, list[str]]:
    """Return pairs with similar hashes, their Hamming distances, the maximum of these, and what was not compared."""
    hashes, mirrored = parse_hashes(known["phash"]), parse_hashes(known["phash_mirrored"])
    unique, place = np.unique(hashes, return_inverse=True)
    members = _members(place, known["contrast"].to_numpy())
    pairs = [_within(rows) for rows in members]
    rare = np.flatnonzero([len(rows) <= COMMON for rows in members])
    turned = mirrored[[members[u][0] for u in rare]]
    radius = min(radius_for(unique[rare], unique[rare]), radius_for(unique[rare], turned))
    if radius >= 0:
        for queries in (unique[rare], turned):
            near = rare[near_pairs(unique[rare], queries, radius)]
            pairs.append(_products([members[u] for u in near[:, 0]], [members[v] for v in near[:, 1]]))
    found = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    a, b = found.T
    bits = np.minimum(np.bitwise_count(hashes[a] ^ hashes[b]), np.bitwise_count(mirrored[a] ^ hashes[b]))
    unchecked = []
    if radius < RADIUS:
        near = f"that differ in at most {quantity(radius, 'bit')}, not {RADIUS}" if radius > 0 else "that are equal"
        unchecked.append(f"because many images look alike, only images with perceptual hashes {near} were compared")
    common = sum(len(rows) for rows in members if len(rows) > COMMON)
    if common:
        unchecked.append(
            f"{common:,} images share their perceptual hash with at least {COMMON} others and were compared only with "
            "those of similar contrast"
        )
    return found, bits.astype(int), radius, unchecked


def _members(place: Integer[Array, " N"], order_by: Real[Array, " N"]) -> list[Integer[Array, " _"]]:
    """Return the indices of the images of each hash, sorted by contrast."""
    order = np.lexsort((order_by, place))
    return np.split(order, np.flatnonzero(np.diff(place[order])) + 1)


def _within(rows: Integer[Array, " _"]) -> Integer[Array, "P 2"]:
    """Return pairs of images with the same hash: all pairs, or those of each image with the next `COMMON`."""
    steps = range(1, min(len(rows), COMMON + 1))
    return np.concatenate([np.empty((0, 2), int), *(np.stack([rows[:-s], rows[s:]], axis=1) for s in steps)])


def _products(ones: list[Integer[Array, " _"]], others: list[Integer[Array, " _"]]) -> Integer[Array, "P 2"]:
    """Return, for each pair of sets, the pairs of all images of one with all images of the other."""
    sets = zip(ones, others, strict=True)
    made = [np.stack([np.repeat(a, len(b)), np.tile(b, len(a))], axis=1) for a, b in sets]
    return np.concatenate([np.empty((0, 2), int), *made])


def _compare_images(
    known: pd.DataFrame, pairs: Integer[Array, "P 2"], usable: Integer[Array, " N"], folder: Path
) -> _Comparison:
    """Compare pairs of images, and all pairs of a random sample, by their pixels."""
    references = np.random.default_rng(0).permutation(usable)[:REFERENCES]
    needed = np.unique(np.concatenate([references, pairs.ravel()]))
    thumbs = np.stack([grey_thumbnail(p.image) for p in decode_images(known.iloc[needed], folder)])
    detail_NF = image_details(thumbs)
    flat = np.asarray(~detail_NF.any(axis=1))
    queried = np.searchsorted(needed, references)
    queried = queried[~flat[queried]]
    table, sampled, learned = _unjudged(known, pairs), _unjudged(known, np.empty((0, 2), int)), None
    if len(queried) >= MIN_IMAGES:
        learned = estimate_distribution(detail_NF[queried], len(usable))
        sampled = _search_sample(known, needed[queried], thumbs[queried], detail_NF[queried], learned)
    if learned and len(pairs):
        table = table.assign(**_judged(thumbs, detail_NF, np.searchsorted(needed, pairs), learned))
    clusters = find_clusters(detail_NF[queried], known.iloc[needed[queried]])
    return _Comparison(table, sampled, learned, int(flat.sum()), len(queried), clusters)


def _search_sample(
    known: pd.DataFrame,
    rows: Integer[Array, " N"],
    thumbs: UInt8[Array, "N 32 32"],
    detail_NF: Float[Array, "N 256"],
    learned: DistanceDistribution,
) -> pd.DataFrame:
    """Return the pairs of the sample `rows` that are closer than distinct images, also after a strong change."""
    pairs, change, correlation, expected = find_pairs(thumbs, detail_NF, learned)
    table = _unjudged(known, np.sort(rows[pairs], axis=1))
    changes = {name: change == number for number, name in enumerate(CHANGES)}
    return table.assign(correlation=correlation, expected=expected, **changes)


def _unjudged(known: pd.DataFrame, pairs: Integer[Array, "P 2"]) -> pd.DataFrame:
    """Return one row per pair, not yet compared: one, two (indices in `known`), first, second (paths), and results."""
    one, two = pairs.T
    table = pd.DataFrame({"one": one, "two": two})
    table = table.assign(first=known["path"].to_numpy()[one], second=known["path"].to_numpy()[two])
    return table.assign(correlation=0.0, expected=np.inf, same=False, **dict.fromkeys(CHANGES, False))


def _judged(
    thumbs: UInt8[Array, "N 32 32"],
    detail_NF: Float[Array, "N 256"],
    at: Integer[Array, "P 2"],
    learned: DistanceDistribution,
) -> dict[str, Shaped[Array, " P"]]:
    """Return the columns correlation, mirrored, cropped, expected and same for the pairs of indices `at`."""
    upright, turned = correlations(detail_NF, at)
    mirror, best = turned > upright, np.maximum(upright, turned)
    radii = np.full(len(detail_NF), np.inf)
    radii[np.unique(at)] = learned.radii(detail_NF[np.unique(at)])
    radius = radii[at].min(axis=1)
    expected = np.where(best > 0, learned.expected(distance(best), radius), np.inf)
    likely = np.argsort(expected)
    likely = likely[(expected[likely] > NEAR) & np.isfinite(expected[likely])][:MAX_CROP_PAIRS]
    as_crop = cropped_correlation(thumbs, at[likely], mirror[likely])
    by_crop = WINDOWS * learned.expected(distance(as_crop), radius[likely])  # corrected for the number of crops
    better = by_crop < expected[likely]
    cropped = np.zeros(len(at), bool)
    cropped[likely] = better
    best[likely] = np.where(better, as_crop, best[likely])
    expected[likely] = np.where(better, by_crop, expected[likely])
    same = (expected <= SAME) & (best >= SAME_DETAILS) & ~mirror & ~cropped
    return {"correlation": best, "mirrored": mirror, "cropped": cropped, "expected": expected, "same": same}


def _reliable_bits(judged: pd.DataFrame, count: int, others: int) -> int:
    """Return the largest Hamming distance at which at most one false pair with the `others` images is expected.

    The distance is at most `MAX_BITS`, and -1 if more than one false pair is expected even at 0.
    """
    wrong = np.bincount(judged.loc[judged["expected"] > NEAR, "bits"], minlength=RADIUS + 1)[: RADIUS + 1]
    expected = (np.cumsum(wrong) + 0.5) * 2 * others / max(1, count - 1)
    return min(MAX_BITS, int(np.searchsorted(expected, 1.0, side="right")) - 1)


def _sets(
    rows: pd.DataFrame, code: Integer[Array, " N"], first: Integer[Array, " D"], judged: pd.DataFrame
) -> tuple[list[pd.DataFrame], list[pd.DataFrame], pd.DataFrame]:
    """Return sets of duplicate rows, sets of near-duplicate rows, and the pairs of both."""
    pairs = judged.sort_values("expected", kind="stable")
    same = _connected(len(first), pairs.loc[pairs["same"], ["one", "two"]].to_numpy())
    near = _connected(len(first), pairs[["one", "two"]].to_numpy())
    duplicates = [group for _, group in rows.groupby(same[code]) if len(group) > 1]
    rank = pd.Series(near[pairs["one"]], dtype=int).drop_duplicates()
    wanted = np.isin(near[code], rank.to_numpy())
    of_near = dict(list(rows[wanted].groupby(near[code][wanted])))
    changed = [of_near[key] for key in rank if len(set(same[code[rows.index.get_indexer(of_near[key].index)]])) > 1]
    return duplicates, changed, pairs.drop(columns=["one", "two"])


def _connected(count: int, ends: Integer[Array, "E 2"]) -> Integer[Array, " {count}"]:
    """Return the connected component of each node of a graph with the edges `ends`."""
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def readable_label(row: Any) -> str:
    """Return the class of a row of the manifest; for other labels, their values and positions in words."""
    annotation = Annotation.from_json(row.annotation)
    return row.label if annotation.labels is not None else describe_labels(annotation)


def label_sets(sets: Iterable[pd.DataFrame], most: int = 50) -> list[list[str]]:
    """Return the paths of the first `most` sets with label and split, such as `["train/1.png (a, train)", ...]`."""
    return [[f"{r.path} ({readable_label(r)}, {r.split})" for r in same.itertuples()] for same in list(sets)[:most]]


def paths_of(sets: Iterable[pd.DataFrame], most: int = 24) -> list[str]:
    """Return the first `most` paths of the sets."""
    return [path for same in sets for path in same["path"]][:most]
