"""Images whose names count, as frames of a film and slices of a stack do: whether neighbours are alike.

They show one scene a moment later. A split that parts them lets validation and test be remembered.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.dataset.manifest import decode_images
from stages.near_duplicates.image_similarity import details, thumbnail

SHORTEST = 20  # images of a series; of fewer nothing can be told
PAIRS = 400  # of neighbours that are looked at, and as many of images far apart
STEPS = (1, 2, 4, 8, 16, 32)  # numbers apart at which images are compared
ALIKE = 0.75  # AUC at which neighbours are so much more alike than others that they show one scene
SOMEWHAT = 0.6  # AUC at which they have something in common, as digits in one handwriting have
NUMBER = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True)
class Series:
    """How much more alike neighbours are than images far apart."""

    auc: float
    """Chance that two neighbours are more alike than two images far apart."""
    p: float
    reach: int
    """Numbers apart at which images are still more alike than others."""


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """Report consecutive images that are similar and in different groups: `sequence_leakage/similar-neighbours`."""
    rows = numbered(subject.rows)
    if rows.empty:
        says = f"The names of the images do not count on (no series of {SHORTEST}): there are no neighbouring frames."
        return [Finding("sequence_leakage/similar-neighbours", "passed", says)]
    found = series(rows, subject, audit.max_p)
    if found is None and (between := _in_two_groups(rows)):
        says = (
            f"{between} images stand next to another group's by their names, but too few of one class, or too few far "
            "apart, to tell whether neighbours are alike."
        )
        return [Finding("sequence_leakage/not-checked", "info", says)]
    if found is None:
        says = "All neighbours in the order of their names lie in one group each, and so in one split."
        return [Finding("sequence_leakage/similar-neighbours", "passed", says)]
    evidence = {"images": len(rows), "auc": found.auc, "p": found.p, "reach": found.reach}
    told = f"{found.auc:.2f} (.5 is chance, p = {found.p:.2g})"
    if SOMEWHAT <= found.auc < ALIKE and found.p <= audit.max_p:
        says = (
            f"Images next to each other by their names are somewhat more alike than others: in {told} of cases. They "
            "may share a hand, a patient or a session: if you know which, give them a group."
        )
        return [Finding("sequence_leakage/similar-neighbours", "info", says, evidence)]
    if found.auc < ALIKE or found.p > audit.max_p:
        says = f"Images next to each other by their names are not much more alike than others: in {told} of cases."
        return [Finding("sequence_leakage/similar-neighbours", "passed", says, evidence)]
    parted = _parted(rows)
    says = (
        f"Images next to each other by their names, but in different groups, are more alike than others in {told} of "
        f"cases, up to {found.reach} numbers apart: frames of a film or slices of one thing? Then validation and test "
        f"partly measure memory ({len(parted) // 2} such neighbours stand in train and val): keep them together by "
        f"ingest.sequence_block: {4 * found.reach} or more, or by a group of their own."
    )
    return [Finding("sequence_leakage/similar-neighbours", "warning", says, evidence, parted[:24])]


def numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose path counts, with `series` (all but the last number) and `number`, in order; series of `SHORTEST`."""
    number = rows["path"].str.extract(f"({NUMBER.pattern})")[0]
    table = rows.assign(series=[NUMBER.sub("#", path) for path in rows["path"]], number=number)
    table = table[number.notna() & (number.str.len() < 16) & ~table["blank"]]
    table = table[table.groupby("series")["path"].transform("size") >= SHORTEST]
    return table.assign(number=table["number"].astype(np.int64)).sort_values(["series", "number"], kind="stable")


def series(rows: pd.DataFrame, subject: Subject, max_p: float) -> Series | None:
    """Neighbours against images far apart, of one series, one class and two groups; None where there are no such."""
    rng = np.random.default_rng(0)
    pairs = {step: _pairs(rows, step) for step in STEPS}
    far = _far(rows, rng)
    if len(pairs[1]) < SHORTEST // 2 or len(far) < SHORTEST // 2:
        return None
    chosen = {step: rng.permutation(p)[:PAIRS] for step, p in {**pairs, 0: far}.items()}
    wanted = np.unique(np.concatenate(list(chosen.values())))
    found = details(np.stack([thumbnail(p.image) for p in decode_images(rows.iloc[wanted], subject.folder)]))
    alike = {s: (found[np.searchsorted(wanted, p)].prod(axis=1)).sum(axis=1) for s, p in chosen.items()}
    reach, auc, p_value = 0, 0.5, 1.0
    for step in STEPS:
        if len(alike[step]) < SHORTEST // 2:
            break
        test = mannwhitneyu(alike[step], alike[0], alternative="greater")
        this = float(test.statistic) / (len(alike[step]) * len(alike[0]))
        auc, p_value = (this, float(test.pvalue)) if step == 1 else (auc, p_value)
        if this < ALIKE or test.pvalue > max_p:
            break
        reach = step
    return Series(auc, p_value, reach)


def _pairs(rows: pd.DataFrame, step: int) -> np.ndarray[Any, Any]:
    """[P, 2] positions of images `step` apart in order, of one series, one class and two groups."""
    return _comparable(rows, np.arange(len(rows) - step), np.arange(step, len(rows)))


def _far(rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """[P, 2] positions of images taken at random, further apart than the neighbours."""
    one, other = rng.integers(0, len(rows), (2, 200 * PAIRS))
    size = rows.groupby("series")["path"].transform("size").to_numpy()
    far = np.abs(one - other) > np.minimum(max(STEPS), size[one] // 4)
    return _comparable(rows, one[far], other[far])


def _comparable(rows: pd.DataFrame, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    line, label, group = (pd.factorize(rows[name])[0] for name in ("series", "label", "group"))
    fits = (line[one] == line[other]) & (label[one] == label[other]) & (group[one] != group[other])
    return np.stack([one[fits], other[fits]], axis=1)


def _in_two_groups(rows: pd.DataFrame) -> int:
    """How many neighbours by name stand in different groups."""
    line, group = rows["series"].to_numpy(), rows["group"].to_numpy()
    return int(((line[1:] == line[:-1]) & (group[1:] != group[:-1])).sum())


def _parted(rows: pd.DataFrame) -> list[str]:
    """Paths of neighbours that stand in two splits, pair by pair."""
    pairs = _pairs(rows, 1)
    split, path = rows["split"].to_numpy(), rows["path"].to_numpy()
    return [str(path[i]) for pair in pairs if split[pair[0]] != split[pair[1]] for i in pair]
