"""Which group of images is for training, validation or the sealed test: decided once per group, never again."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from stages.frame import UserError
from stages.images.manifest import SPLITS


def assign(groups: pd.Series, labels: pd.Series, shares: dict[str, float], locked: dict[str, str]) -> pd.Series:
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


def stable_hash(text: str) -> str:
    """SHA-256 in hex: the same on every machine and in every run, as Python's own hash is not."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_locked(file: Path) -> dict[str, str]:
    """Splits decided earlier, by group; empty when there are none yet.

    Raises:
        UserError: when the table cannot be trusted: columns missing, a split misspelled, a group listed twice.
    """
    if not file.exists():
        return {}
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if list(table.columns) != ["group", "split"]:
        raise UserError(f"{file} has columns {list(table.columns)}, not group, split; restore it with git")
    wrong = table[~table["split"].isin(SPLITS)]
    if len(wrong):
        raise UserError(
            f"{file}: split {wrong['split'].iloc[0]!r} of group {wrong['group'].iloc[0]!r} is none of {SPLITS}"
        )
    doubled = table["group"][table["group"].duplicated()]
    if len(doubled):
        raise UserError(f"{file}: group {doubled.iloc[0]!r} stands there twice; keep the line that was committed first")
    return dict(zip(table["group"], table["split"], strict=True))


def write_locked(file: Path, locked: dict[str, str]) -> None:
    """Write the table, sorted by group, whole or not at all."""
    table = pd.DataFrame(sorted(locked.items()), columns=["group", "split"])
    part = file.with_name(file.name + ".part")
    table.to_csv(part, index=False, lineterminator="\n")
    part.rename(file)
