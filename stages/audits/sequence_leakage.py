"""Sequence-leakage audit: are consecutively numbered images (video frames, slices) similar but in different groups?

If such neighbours are in different splits, validation and test scores measure memorization.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.dataset.counters import NUMBER, SCOPES, counter_scope
from stages.dataset.manifest import decode_images
from stages.near_duplicates.image_similarity import grey_thumbnail, image_details

ID = "sequence_leakage/similar-neighbours"
LONG = 20  # images from which a series contains distant images; shorter series are compared with other series
SHORTEST = 3  # minimum number of images of a series
ENOUGH = 10  # minimum number of pairs of neighbours, and of distant pairs
PAIRS = 400  # maximum number of pairs that are compared at each distance, and of pairs of distant images
STEPS = (1, 2, 4, 8, 16, 32)  # distances at which images are compared, in images of the sorted series
SIMILAR = 0.75  # AUC from which neighbours are considered frames of one scene
SLIGHTLY_SIMILAR = 0.6  # AUC from which neighbours have something in common, such as the handwriting
SURE = 1.645  # standard errors; a passed audit rules out an AUC of `SIMILAR` with a certainty of 95 %
MAX_LEFT_OUT = 0.05  # share of the images that may be in no series without being reported
DIGITS = 15  # longer numbers are not counters

Codes = np.ndarray[Any, Any]
"""One integer per image."""
Pairs = np.ndarray[Any, Any]
"""Positions [P, 2] of pairs of images."""


@dataclass(frozen=True)
class Neighbours:
    """Pairs of images of one kind of series that are in different groups."""

    near: dict[int, Pairs]
    """Pairs by their distance in the series, one of `STEPS`."""
    far: Pairs
    """Distant pairs with which they are compared."""
    step: int
    """Median difference between the numbers of neighbours, which `ingest.sequence_block` refers to."""


@dataclass(frozen=True)
class NeighbourSimilarity:
    """Similarity of neighbours compared with distant images."""

    auc: float
    """Probability that two neighbours are more similar than two distant images."""
    p: float
    """p-value of the AUC (one-sided Mann-Whitney U test)."""
    error: float
    """Standard error of the AUC by chance."""
    reach: int
    """Largest of the distances `STEPS` at which images are still similar; 0 if neighbours are not."""
    pairs: Neighbours
    """Compared pairs."""


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report consecutive images that are similar but in different groups (`sequence_leakage/similar-neighbours`).

    If images form clusters across groups, numbers that say otherwise do not tell which images are related.
    """
    findings = _find(data, audit)
    passed = any(finding.severity == "passed" for finding in findings)
    similar = data.copies.clusters.across_groups() if passed and data.copies.clusters else []
    if not similar:
        return findings
    message = (
        f"Consecutive numbers do not show which images are related: {quantity(len(similar), 'image')} "
        f"{'has' if len(similar) == 1 else 'have'} a far nearer image in another group, such as `{similar[0][0]}` and "
        f"`{similar[0][1]}`. Specify groups, for example by ingest.group_regex."
    )
    return [_not_checked(message) if finding.severity == "passed" else finding for finding in findings]


def _find(data: AuditData, audit: Audit) -> list[Finding]:
    rows = numbered_rows(data.rows)
    if rows.empty:
        message = (
            f"It is unknown which images are neighbours: the file names contain no series of at least {SHORTEST} "
            "numbers. If the images are frames or slices in an order, add the position to the names, or specify groups."
        )
        return [_not_checked(message)]
    tested = [found for pairs in list_neighbours(rows) if (found := compare_neighbours(pairs, data, audit.max_p))]
    left_out = list(_left_out(len(rows), int((~data.rows["blank"]).sum())))
    if not tested:
        between = _neighbours_in_two_groups(rows)
        if not between:
            message = "Any two consecutive images of a numbered series are in the same group."
            return [Finding(ID, "passed", message), *left_out]
        message = (
            f"Similarity of neighbours was not checked: {quantity(between, 'image')} {'is' if between == 1 else 'are'} "
            "next to an image of another group in a numbered series, but the audit requires "
            f"{ENOUGH} pairs of neighbours and {ENOUGH} pairs of distant images in different groups, which are all of "
            "the same class or all of different classes. If the series are slices or frames, specify groups."
        )
        return [_not_checked(message), *left_out]
    found = max(tested, key=lambda one: one.auc)
    p = min(1.0, found.p * len(tested))  # corrected for the number of kinds of series
    evidence = {"images": len(rows), "auc": found.auc, "p": p, "reach": found.reach}
    auc = f"{found.auc:.2f} (0.5: chance, p = {p:.2g})"
    if found.auc >= SIMILAR and p <= audit.max_p:
        return [_similar(found, data.rows, auc, evidence), *left_out]
    if found.auc >= SLIGHTLY_SIMILAR and p <= audit.max_p:
        message = (
            "Consecutively numbered images in different groups are slightly more similar than distant images: AUC "
            f"{auc}. They may share a writer, a patient or a session. If this is known, specify groups, for example by "
            "ingest.group_regex."
        )
        return [Finding(ID, "info", message, evidence), *left_out]
    unsure = max(tested, key=lambda one: one.auc + SURE * one.error)  # of any kind of series
    if unsure.auc + SURE * unsure.error >= SIMILAR:
        message = (
            f"Similarity of neighbours could not be decided from {quantity(len(unsure.pairs.near[1]), 'pair')} of "
            f"neighbours and {len(unsure.pairs.far):,} of distant images in different groups: AUC {unsure.auc:.2f} "
            f"(0.5: chance, standard error {unsure.error:.2f}). If the series are slices or frames, specify groups, "
            "for example by ingest.sequence_block."
        )
        return [_not_checked(message, evidence), *left_out]
    degree = "hardly" if found.auc < SLIGHTLY_SIMILAR else "not significantly"
    message = (
        f"Consecutively numbered images are {degree} more similar than distant images: AUC {auc}. An AUC of "
        f"{SIMILAR}, from which they would be reported as frames of one scene, is ruled out with a certainty of 95%."
    )
    return [Finding(ID, "passed", message, evidence), *left_out]


def _not_checked(message: str, evidence: dict[str, Any] | None = None) -> Finding:
    return Finding("sequence_leakage/not-checked", "info", message, evidence or {})


def _left_out(numbered: int, usable: int) -> Iterator[Finding]:
    """Yield a finding about the images that are in no numbered series, unless they are few."""
    left = usable - numbered
    if left > MAX_LEFT_OUT * usable:
        yield _not_checked(
            f"{left:,} of {quantity(usable, 'image')} {'is' if left == 1 else 'are'} in no series of at least "
            f"{SHORTEST} numbers, so that the neighbours of these images are unknown."
        )


def _similar(found: NeighbourSimilarity, rows: pd.DataFrame, auc: str, evidence: dict[str, Any]) -> Finding:
    split, path = rows["split"].to_numpy(), rows["path"].to_numpy()
    near = found.pairs.near[1]
    apart = near[split[near[:, 0]] != split[near[:, 1]]]
    block = 4 * found.reach * found.pairs.step
    message = (
        f"Consecutively numbered images in different groups are more similar than distant images: AUC {auc}. Images up "
        f"to {quantity(found.reach, 'position')} apart are similar. If they are video frames or slices of one object, "
        "scores of a split that contains neighbours of training images partly measure memorization "
        f"({quantity(len(apart), 'pair')} of neighbours {'is' if len(apart) == 1 else 'are'} in both the training and "
        f"the validation split): set ingest.sequence_block to {block} or more, or specify groups, for example by "
        "ingest.group_regex."
    )
    return Finding(ID, "warning", message, evidence, [str(one) for one in path[apart].ravel()[:24]])


def numbered_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images in series of at least `SHORTEST` images, in the order of the manifest.

    Added columns: `series` in the scope of each folder and prefix, `wide` in the widest scope, `number`, and `place`,
    the position in the manifest. Blank images, and names whose last number is missing or too long, are left out.
    """
    parts = [NUMBER.fullmatch(path) for path in rows["path"]]
    usable = ~rows["blank"].to_numpy() & [part is not None and len(part[2]) <= DIGITS for part in parts]
    table = rows.assign(place=np.arange(len(rows)))[usable]
    matches = [part for part, use in zip(parts, usable, strict=True) if use and part is not None]
    widest = SCOPES[counter_scope(table["path"])]
    table["series"] = [f"{part[1]}#{part[3]}" for part in matches]
    table["wide"] = [f"{widest(part[1])}#{part[3]}" for part in matches]
    table["number"] = np.array([int(part[2]) for part in matches], np.int64)
    return table[table.groupby("wide")["path"].transform("size") >= SHORTEST]


def list_neighbours(rows: pd.DataFrame) -> Iterator[Neighbours]:
    """Yield the pairs that can be compared, one element per kind of series.

    Series of each folder and prefix, and of a counter that runs across them, are of different kinds; so are series of
    images of one class, neighbours of different classes, and short series.

    Args:
        rows: output of `numbered_rows`.
    """
    place, number = rows["place"].to_numpy(), rows["number"].to_numpy()
    codes = {name: pd.factorize(rows[name])[0] for name in ("series", "wide", "label", "group")}
    scopes = ("series", "wide") if codes["series"].max() > codes["wide"].max() else ("series",)
    for scope, same_class, long in product(scopes, (True, False), (True, False)):
        near, far = _pairs(codes[scope], number, codes["label"], codes["group"], same_class, long)
        step = float(np.median(np.diff(number[near[1]], axis=1))) if len(near[1]) else 1
        yield Neighbours({steps: place[pairs] for steps, pairs in near.items()}, place[far], max(1, round(step)))


def _pairs(
    series: Codes, number: Codes, label: Codes, group: Codes, same_class: bool, long: bool
) -> tuple[dict[int, Pairs], Pairs]:
    """Return pairs of neighbours by distance, and distant pairs, of images in different groups.

    Distant images of long series are more than 32 positions, or a quarter of the series if that is less, apart. In a
    short series all images may be similar, so they are compared with images of other series; a single short series is
    compared like a long one.

    Args:
        series: series of each image [N].
        number: its number in the series [N].
        label: its class [N].
        group: its group [N].
        same_class: True for pairs of images of one class, False for pairs of different classes.
        long: True for series of at least `LONG` images, False for shorter ones.
    """
    unit = pd.factorize(pd.Series(series * (label.max() + 1) + label))[0] if same_class else series
    size = np.bincount(unit)
    order = np.lexsort((number, unit))
    order = order[((size >= LONG) == long)[unit[order]] & (size >= SHORTEST)[unit[order]]]

    def in_two_groups(one: Codes, other: Codes) -> Pairs:
        kept = (group[one] != group[other]) & ((label[one] == label[other]) == same_class)
        return np.stack([one[kept], other[kept]], axis=1)

    near = {}
    for step in STEPS:
        pairs = in_two_groups(order[:-step], order[step:])
        near[step] = pairs[unit[pairs[:, 0]] == unit[pairs[:, 1]]]
    if not len(order):
        return near, near[1]
    at = np.random.default_rng(0).integers(0, len(order), (2, 200 * PAIRS))
    if long or len(np.unique(series[order])) == 1:
        distance, (one, other) = np.abs(at[0] - at[1]), unit[order[at]]
        at = at[:, (one == other) & (distance > np.clip(size[one] // 4, 1, max(STEPS)))]
    else:
        at = at[:, np.not_equal(*series[order[at]])]
    return near, np.unique(np.sort(in_two_groups(*order[at]), axis=1), axis=0)


def compare_neighbours(pairs: Neighbours, data: AuditData, max_p: float) -> NeighbourSimilarity | None:
    """Compare neighbours with distant images.

    Args:
        pairs: pairs to compare.
        data: input of the audit.
        max_p: significance level.

    Returns:
        The similarity; None if there are too few pairs.
    """
    if min(len(pairs.near[1]), len(pairs.far)) < ENOUGH:
        return None
    rng = np.random.default_rng(0)
    chosen = {step: rng.permutation(some)[:PAIRS] for step, some in {**pairs.near, 0: pairs.far}.items()}
    needed = np.unique(np.concatenate(list(chosen.values())))
    detail_NF = image_details(
        np.stack([grey_thumbnail(p.image) for p in decode_images(data.rows.iloc[needed], data.folder)])
    )
    similarity = {s: (detail_NF[np.searchsorted(needed, p)].prod(axis=1)).sum(axis=1) for s, p in chosen.items()}
    near, far = len(similarity[1]), len(similarity[0])
    error = ((near + far + 1) / (12 * near * far)) ** 0.5
    reach, auc, p_value = 0, 0.5, 1.0
    for step in STEPS:
        if len(similarity[step]) < ENOUGH:
            break
        test = mannwhitneyu(similarity[step], similarity[0], alternative="greater")
        step_auc = float(test.statistic) / (len(similarity[step]) * len(similarity[0]))
        auc, p_value = (step_auc, float(test.pvalue)) if step == 1 else (auc, p_value)
        if step_auc < SIMILAR or test.pvalue > max_p:
            break
        reach = step
    return NeighbourSimilarity(auc, p_value, error, reach, pairs)


def _neighbours_in_two_groups(rows: pd.DataFrame) -> int:
    """Return the number of images that follow an image of another group in the same series of the widest scope."""
    ordered = rows.sort_values(["wide", "number"], kind="stable")
    series, group = ordered["wide"].to_numpy(), ordered["group"].to_numpy()
    return int(((series[1:] == series[:-1]) & (group[1:] != group[:-1])).sum())
