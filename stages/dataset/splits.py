"""Which group of images is for training, validation or the sealed test: decided once per group, never again."""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.core.errors import UserError
from stages.dataset.manifest import SPLITS


def assign_splits(groups: pd.Series, labels: pd.Series, shares: dict[str, float], locked: dict[str, str]) -> pd.Series:
    """The split of every image: as locked where its group is, else chosen so that every class comes out in its shares.

    New groups are taken largest first, ties by a hash of their name, and each goes to the split that is most short of
    the group's classes, as a share of what that split should hold of them. So a group's split depends on nothing
    random, and adding images moves no group that is locked.

    Args:
        groups: group name per image.
        labels: class per image, aligned with `groups`.
        shares: wanted share of the images by split, summing to 1, as {"train": .7, "val": .15, "test": .15}.
        locked: split by group name.

    Returns:
        split per image, aligned with `groups`.
    """
    counts = pd.crosstab(groups.to_numpy(), labels.to_numpy())
    names = list(shares)
    wanted = np.outer(np.fromiter(shares.values(), float), counts.sum().to_numpy())  # [split, class]
    missing = wanted.copy()
    decided: dict[str, str] = {}
    for group in counts.index.intersection(list(locked)):
        decided[group] = locked[group]
        missing[names.index(locked[group])] -= counts.loc[group].to_numpy()
    order = sorted(counts.index.difference(list(locked)), key=lambda g: (-int(counts.loc[g].sum()), stable_hash(g)))
    table = dict(zip(counts.index, counts.to_numpy(), strict=True))
    for group in order:
        holds = table[group] > 0
        shortage = (missing[:, holds] / wanted[:, holds]).mean(axis=1)
        best = int(np.argmax(shortage))
        decided[group] = names[best]
        missing[best] -= table[group]
    return groups.map(decided)


def merge_linked_groups(groups: pd.Series, pictures: pd.Series, locked: "SplitTable") -> pd.Series:
    """Groups that share a picture made one: it must not stand in two splits.

    New groups go to the split of the first that came. Groups that are in two splits stay in them, as one group in each:
    the audit of leakage tells.

    Args:
        groups: group name per image.
        pictures: equal where images show the same, aligned with `groups`.
        locked: what is decided of groups that came before.

    Returns:
        group name per image, aligned with `groups`: of those made one the first that came, by name among equals. It is
        the same once the new groups are locked too.
    """
    known = groups.unique()
    place = {group: i for i, group in enumerate(known)}
    shared = [
        (place[one], place[other])
        for _, those in groups.groupby(pictures.to_numpy())
        for one, other in pairwise(those.unique())
    ]
    ends = np.array(shared, int).reshape(-1, 2).T
    links = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(known), len(known)))
    _, component = connected_components(links, directed=False)
    names = pd.DataFrame({"name": known, "component": component})
    names["arrival"] = [locked.arrivals.get(name, np.inf) for name in known]
    names["split"] = [locked.splits.get(name, "") for name in known]
    names = names.sort_values(["arrival", "name"])
    of_first = names.groupby("component")["split"].transform("first")
    names["split"] = names["split"].where(names["split"] != "", of_first)
    first = names.groupby(["component", "split"])["name"].transform("first")
    return groups.map(dict(zip(names["name"], first, strict=True)))


@dataclass(frozen=True)
class SplitTable:
    """What was decided of groups when they came."""

    splits: dict[str, str] = field(default_factory=dict)
    """Split by group."""
    arrivals: dict[str, int] = field(default_factory=dict)
    """Which of the ingests that brought new groups a group came with, 1 the first."""

    def with_new_groups(self, splits: dict[str, str]) -> "SplitTable":
        """With the groups that are not known yet, as one arrival."""
        new = {group: split for group, split in splits.items() if group not in self.splits}
        latest = max(self.arrivals.values(), default=0) + 1
        return SplitTable(self.splits | new, self.arrivals | dict.fromkeys(new, latest))


def stable_hash(text: str) -> str:
    """SHA-256 in hex: the same on every machine and in every run, as Python's own hash is not."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_split_table(file: Path, rule: str) -> SplitTable:
    """What was decided earlier; empty when nothing was yet.

    Args:
        file: as `write_locked` wrote it.
        rule: how groups are made now.

    Raises:
        UserError: the table cannot be trusted, or groups were made by another rule.
    """
    if not file.exists():
        return SplitTable()
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        grouped_by, splits = table["grouped_by"], dict(table["splits"])
        later = {group: int(arrival) for group, arrival in dict(table.get("later_arrivals", {})).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); restore it with git") from error
    wrong = {group: split for group, split in splits.items() if split not in SPLITS}
    if wrong:
        group, split = next(iter(wrong.items()))
        raise UserError(f"{file}: split {split!r} of group {group!r} is none of {', '.join(SPLITS)}")
    if grouped_by != rule:
        raise UserError(
            f"{file} was made with groups by {grouped_by}, now they are by {rule}: images would move between training "
            "and test. Keep the rule, or delete the file to split anew; a test that was opened is worthless then"
        )
    return SplitTable(splits, dict.fromkeys(splits, 1) | later)


def write_split_table(file: Path, rule: str, locked: SplitTable) -> None:
    """Write the table, a group a line, whole or not at all; of arrivals those after the first."""
    part = file.with_name(file.name + ".part")
    later = {group: arrival for group, arrival in locked.arrivals.items() if arrival > 1}
    table = {"grouped_by": rule, "splits": locked.splits} | ({"later_arrivals": later} if later else {})
    part.write_text(json.dumps(table, indent=0, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    part.rename(file)
