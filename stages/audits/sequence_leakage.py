"""Sequence-leakage audit: are consecutively numbered images (video frames, slices) similar but in different groups?

If such neighbours are in different splits, validation and test scores measure memorization.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.dataset.manifest import decode_images
from stages.near_duplicates.image_similarity import grey_thumbnail, image_details

MIN_LENGTH = 20  # minimum number of images of a series
PAIRS = 400  # maximum number of pairs that are compared at each distance, and of pairs of distant images
STEPS = (1, 2, 4, 8, 16, 32)  # distances at which images are compared, in images of the sorted series
SIMILAR = 0.75  # AUC from which neighbours are considered frames of one scene
SLIGHTLY_SIMILAR = 0.6  # AUC from which neighbours have something in common, such as the handwriting
NUMBER = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True)
class NeighbourSimilarity:
    """Similarity of neighbours compared with distant images."""

    auc: float
    """Probability that two neighbours are more similar than two distant images."""
    p: float
    """p-value of the AUC (one-sided Mann-Whitney U test)."""
    reach: int
    """Largest of the distances `STEPS` at which images are still similar; 0 if neighbours are not."""


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report consecutive images that are similar but in different groups (`sequence_leakage/similar-neighbours`)."""
    rows = numbered_rows(data.rows)
    if rows.empty:
        message = f"The file names contain no numbered series of at least {MIN_LENGTH} images."
        return [Finding("sequence_leakage/similar-neighbours", "passed", message)]
    found = neighbour_similarity(rows, data, audit.max_p)
    if found is None and (between := _neighbours_in_two_groups(rows)):
        message = (
            f"Similarity of neighbours was not checked: {quantity(between, 'image')} {'is' if between == 1 else 'are'} "
            "next to an image of another group in a numbered series, but the audit requires "
            f"{MIN_LENGTH // 2} pairs of neighbours and {MIN_LENGTH // 2} pairs of distant images with the same class "
            "and different groups."
        )
        return [Finding("sequence_leakage/not-checked", "info", message)]
    if found is None:
        message = "Any two consecutive images of a numbered series are in the same group."
        return [Finding("sequence_leakage/similar-neighbours", "passed", message)]
    evidence = {"images": len(rows), "auc": found.auc, "p": found.p, "reach": found.reach}
    auc = f"{found.auc:.2f} (0.5: chance, p = {found.p:.2g})"
    if SLIGHTLY_SIMILAR <= found.auc < SIMILAR and found.p <= audit.max_p:
        message = (
            "Consecutively numbered images in different groups are slightly more similar than distant images: AUC "
            f"{auc}. They may share a writer, a patient or a session. If this is known, specify groups, for example by "
            "ingest.group_regex."
        )
        return [Finding("sequence_leakage/similar-neighbours", "info", message, evidence)]
    if found.auc < SIMILAR or found.p > audit.max_p:
        degree = "hardly" if found.auc < SLIGHTLY_SIMILAR else "not significantly"
        message = f"Consecutively numbered images are {degree} more similar than distant images: AUC {auc}."
        return [Finding("sequence_leakage/similar-neighbours", "passed", message, evidence)]
    in_two_splits = _neighbours_in_two_splits(rows)
    pairs = len(in_two_splits) // 2
    block = 4 * found.reach * _step_between_numbers(rows)
    message = (
        f"Consecutively numbered images in different groups are more similar than distant images: AUC {auc}. Images up "
        f"to {quantity(found.reach, 'position')} apart are similar. If they are video frames or slices of one object, "
        "scores of a split that contains neighbours of training images partly measure memorization "
        f"({quantity(pairs, 'pair')} of neighbours {'is' if pairs == 1 else 'are'} in both the training and the "
        f"validation split): set ingest.sequence_block to {block} or more, or specify groups, for example by "
        "ingest.group_regex."
    )
    return [Finding("sequence_leakage/similar-neighbours", "warning", message, evidence, in_two_splits[:24])]


def numbered_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the sorted rows of series of at least `MIN_LENGTH` images, with `series` (path pattern) and `number`.

    Blank images, and names whose last number is missing or has more than 15 digits, are left out.
    """
    number = rows["path"].str.extract(f"({NUMBER.pattern})")[0]
    table = rows.assign(series=[NUMBER.sub("#", path) for path in rows["path"]], number=number)
    table = table[number.notna() & (number.str.len() < 16) & ~table["blank"]]
    table = table[table.groupby("series")["path"].transform("size") >= MIN_LENGTH]
    return table.assign(number=table["number"].astype(np.int64)).sort_values(["series", "number"], kind="stable")


def neighbour_similarity(rows: pd.DataFrame, data: AuditData, max_p: float) -> NeighbourSimilarity | None:
    """Compare neighbours with distant images of the same series and class but different groups.

    Args:
        rows: output of `numbered_rows`.
        data: input of the audit.
        max_p: significance level.

    Returns:
        The similarity; None if there are too few pairs.
    """
    rng = np.random.default_rng(0)
    pairs = {step: _pairs(rows, step) for step in STEPS}
    far = _far(rows, rng)
    if len(pairs[1]) < MIN_LENGTH // 2 or len(far) < MIN_LENGTH // 2:
        return None
    chosen = {step: rng.permutation(p)[:PAIRS] for step, p in {**pairs, 0: far}.items()}
    needed = np.unique(np.concatenate(list(chosen.values())))
    detail_NF = image_details(
        np.stack([grey_thumbnail(p.image) for p in decode_images(rows.iloc[needed], data.folder)])
    )
    similarity = {s: (detail_NF[np.searchsorted(needed, p)].prod(axis=1)).sum(axis=1) for s, p in chosen.items()}
    reach, auc, p_value = 0, 0.5, 1.0
    for step in STEPS:
        if len(similarity[step]) < MIN_LENGTH // 2:
            break
        test = mannwhitneyu(similarity[step], similarity[0], alternative="greater")
        step_auc = float(test.statistic) / (len(similarity[step]) * len(similarity[0]))
        auc, p_value = (step_auc, float(test.pvalue)) if step == 1 else (auc, p_value)
        if step_auc < SIMILAR or test.pvalue > max_p:
            break
        reach = step
    return NeighbourSimilarity(auc, p_value, reach)


def _pairs(rows: pd.DataFrame, step: int) -> np.ndarray[Any, Any]:
    """Return positions [P, 2] of pairs of images `step` apart, of the same series and class but different groups."""
    return _comparable(rows, np.arange(len(rows) - step), np.arange(step, len(rows)))


def _far(rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return positions [P, 2] of random pairs of distant images.

    The images of a pair are of the same series and class but different groups. They are more than 32 positions, or a
    quarter of their series if that is less, apart.
    """
    one, other = rng.integers(0, len(rows), (2, 200 * PAIRS))
    size = rows.groupby("series")["path"].transform("size").to_numpy()
    far = np.abs(one - other) > np.minimum(max(STEPS), size[one] // 4)
    return _comparable(rows, one[far], other[far])


def _comparable(rows: pd.DataFrame, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    series, label, group = (pd.factorize(rows[name])[0] for name in ("series", "label", "group"))
    fits = (series[one] == series[other]) & (label[one] == label[other]) & (group[one] != group[other])
    return np.stack([one[fits], other[fits]], axis=1)


def _step_between_numbers(rows: pd.DataFrame) -> int:
    """Return the median difference between consecutive numbers of a series, which `ingest.sequence_block` refers to."""
    steps = rows.groupby("series")["number"].diff()
    return max(1, round(float(steps.median())))


def _neighbours_in_two_groups(rows: pd.DataFrame) -> int:
    """Return the number of images that follow an image of another group in the same series."""
    series, group = rows["series"].to_numpy(), rows["group"].to_numpy()
    return int(((series[1:] == series[:-1]) & (group[1:] != group[:-1])).sum())


def _neighbours_in_two_splits(rows: pd.DataFrame) -> list[str]:
    """Return the paths of neighbours of one class but different groups in two splits, pair by pair."""
    pairs = _pairs(rows, 1)
    split, path = rows["split"].to_numpy(), rows["path"].to_numpy()
    return [str(path[i]) for pair in pairs if split[pair[0]] != split[pair[1]] for i in pair]
