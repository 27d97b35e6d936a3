"""Assign groups of images to train, val or the sealed test split; the split of a group never changes."""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.core.errors import UserError
from stages.dataset.manifest import SPLITS

MIN_GROUPS = 4  # groups in validation and test each, where enough are small: intervals of a score require several


def assign_splits(groups: pd.Series, labels: pd.Series, shares: dict[str, float], locked: dict[str, str]) -> pd.Series:
    """Assign a split to every image: the locked split of its group, else a stratified greedy choice.

    New groups are assigned in descending order of size, ties by a hash of the name. Each goes to the split with the
    largest deficit relative to the target count, averaged over the classes of the group. A group that is so large that
    `MIN_GROUPS` groups would exceed the target of a validation or test split goes elsewhere if smaller groups remain.
    The result is deterministic, and adding images does not move locked groups.

    Args:
        groups: group name per image.
        labels: class per image, aligned with `groups`.
        shares: target share of the images by split, summing to 1, for example {"train": .7, "val": .15, "test": .15}.
        locked: split by group name.

    Returns:
        split per image, aligned with `groups`.
    """
    code_N, known = pd.factorize(groups.to_numpy(), sort=True)
    class_N, classes = pd.factorize(labels.to_numpy(), sort=True)
    shape = len(known), len(classes)
    counts_GC = coo_array((np.ones(len(groups), int), (code_N, class_N)), shape=shape).tocsr()  # no dense [G, C]
    names = list(shares)
    target = np.outer(np.fromiter(shares.values(), float), np.asarray(counts_GC.sum(axis=0)).ravel())  # [split, class]
    deficit = target.copy()
    assigned: dict[str, str] = {}
    sizes = np.asarray(counts_GC.sum(axis=1)).ravel()
    new = []
    for place, group in enumerate(known):
        if group in locked:
            present, images = _row(counts_GC, place)
            assigned[group] = locked[group]
            deficit[names.index(locked[group]), present] -= images
        else:
            new.append(place)
    order = sorted(new, key=lambda place: (-sizes[place], stable_hash(known[place])))
    sizes_G = sizes[order]
    missing = _missing_groups(names, deficit.sum(axis=1), sizes_G, list(assigned.values()))
    later_C = np.bincount(counts_GC[order].indices, minlength=len(classes))  # groups that are still to be assigned
    later_images, lacks_groups = int(sizes_G.sum()), bool(missing.any())
    for number, place in enumerate(order):
        present, images = _row(counts_GC, place)
        later_C[present] -= 1
        later_images -= int(sizes[place])
        if len(present) == 1:  # nearly always; the general case takes four times as long
            relative_deficit = deficit[:, present[0]] / target[:, present[0]]
        else:
            relative_deficit = (deficit[:, present] / target[:, present]).mean(axis=1)
        if lacks_groups:
            later = _LaterGroups(sizes_G[number:], int(later_C[present].min()), later_images)
            suitable = _suitable_splits(deficit.sum(axis=1), missing, later)
            relative_deficit = np.where(suitable, relative_deficit, -np.inf)
        best = int(relative_deficit.argmax())
        assigned[known[place]] = names[best]
        deficit[best, present] -= images
        if lacks_groups:
            missing[best] = max(0, missing[best] - 1)
            lacks_groups = bool(missing.any())
    return groups.map(assigned)


def _row(counts_GC: Any, place: int) -> tuple[Any, Any]:
    """Return the classes of a group, and its images of each."""
    inside = slice(counts_GC.indptr[place], counts_GC.indptr[place + 1])
    return counts_GC.indices[inside], counts_GC.data[inside]


@dataclass(frozen=True)
class _LaterGroups:
    """Groups that are still to be assigned, the largest first."""

    sizes_G: Any
    """Images of each group, of the next one first."""
    of_its_classes: int
    """Number of groups after the next one that have the rarest of its classes."""
    images: int
    """Images of the groups after the next one."""


def _missing_groups(names: list[str], deficit_S: Any, sizes_G: Any, assigned: list[str]) -> Any:
    """Return how many new groups each split requires [split]: at most `MIN_GROUPS` in all, and 0 for train.

    They are fewer if the smallest groups together exceed the images that validation and test lack.

    Args:
        names: names of the splits.
        deficit_S: images that each split lacks.
        sizes_G: images of each new group.
        assigned: splits of earlier groups.
    """
    evaluated = np.array([name != "train" for name in names]) & (deficit_S > 0)
    fitting = int((np.cumsum(np.sort(sizes_G)) <= deficit_S[evaluated].sum()).sum())
    each = fitting // max(1, int(evaluated.sum()))
    return np.array([min(each, max(0, MIN_GROUPS - assigned.count(name))) for name in names]) * evaluated


def _suitable_splits(deficit_S: Any, missing_S: Any, later: _LaterGroups) -> Any:
    """Return True for each split that the next of the remaining groups may be assigned to [split].

    A split that lacks groups keeps room for them, at least half of it. A group that smaller groups cannot replace may
    go to every split: they are too few to fill half of the splits, or one of its classes would be missing in a split.

    Args:
        deficit_S: images that each split lacks.
        missing_S: groups that each split lacks; at least one lacks a group.
        later: remaining groups.
    """
    sizes_G, total = later.sizes_G, int(missing_S.sum())
    if len(sizes_G) <= total:
        return missing_S > 0
    lacking = missing_S > 0
    if later.of_its_classes < lacking.sum() or later.images < deficit_S[lacking].sum() / 2:
        return np.ones(len(missing_S), bool)
    room = deficit_S - (missing_S - 1) * sizes_G[-total:].mean()
    room = np.where(missing_S > 1, np.minimum(room, deficit_S / 2), room)
    return ~lacking | (sizes_G[0] <= room)


def merge_linked_groups(groups: pd.Series, images: pd.Series, locked: "SplitTable") -> pd.Series:
    """Merge groups that share an image, so that the image is not in two splits.

    New groups are merged into the earliest group. Groups that are already in two splits stay there, as one group in
    each; the leakage audit reports them.

    Args:
        groups: group name per image.
        images: value per image, equal for equal images, such as the perceptual hash; aligned with `groups`.
        locked: splits and arrivals of earlier groups.

    Returns:
        group name per image, aligned with `groups`. Merged groups have the name of the earliest one, or of the first by
        name among equally early ones. The result stays the same once the new groups are locked.
    """
    known = groups.unique()
    place = {group: i for i, group in enumerate(known)}
    shared = [
        (place[first], place[second])
        for _, linked in groups.groupby(images.to_numpy())
        for first, second in pairwise(linked.unique())
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
    """Splits and arrivals of the groups that were assigned so far."""

    splits: dict[str, str] = field(default_factory=dict)
    """Split by group."""
    arrivals: dict[str, int] = field(default_factory=dict)
    """Arrival by group: the number of the ingest that added the group, from 1, among ingests that added groups."""

    def with_new_groups(self, splits: dict[str, str]) -> "SplitTable":
        """Return a table extended by the groups that are not in it, as one arrival."""
        new = {group: split for group, split in splits.items() if group not in self.splits}
        latest = max(self.arrivals.values(), default=0) + 1
        return SplitTable(self.splits | new, self.arrivals | dict.fromkeys(new, latest))


def stable_hash(text: str) -> str:
    """Return the SHA-256 of a text in hex; unlike `hash`, it is the same in every process."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_grouping_rule(file: Path) -> str | None:
    """Return the rule by which the groups of a table were made; None if the file does not exist.

    Raises:
        UserError: the file is damaged.
    """
    return _read_table(file)[0] if file.exists() else None


def read_split_table(file: Path, rule: str) -> SplitTable:
    """Read the table of splits; empty if the file does not exist.

    Args:
        file: output of `write_split_table`.
        rule: current grouping rule.

    Raises:
        UserError: the file is damaged, or the groups were made by another rule.
    """
    if not file.exists():
        return SplitTable()
    grouped_by, splits, later = _read_table(file)
    wrong = {group: split for group, split in splits.items() if split not in SPLITS}
    if wrong:
        group, split = next(iter(wrong.items()))
        raise UserError(
            f"{file}: split {split!r} of group {group!r} is not one of {', '.join(SPLITS)}; restore the file with git"
        )
    if grouped_by != rule:
        raise UserError(
            f"{file} was written with groups by {grouped_by}, but the groups are now by {rule}: images could move "
            "between training and test. Restore the rule, or delete the file to split again; scores on a test split "
            "that was already unsealed are then invalid"
        )
    return SplitTable(splits, dict.fromkeys(splits, 1) | later)


def _read_table(file: Path) -> tuple[str, dict[str, str], dict[str, int]]:
    """Return the grouping rule, the split of each group, and the arrival of each group that was added later."""
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        later = {group: int(arrival) for group, arrival in dict(table.get("later_arrivals", {})).items()}
        return str(table["grouped_by"]), dict(table["splits"]), later
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{file} is damaged ({reason}); restore it with git") from error


def write_split_table(file: Path, rule: str, locked: SplitTable) -> None:
    """Write the table, one group per line, either completely or not at all; arrivals are listed from the second on.

    Args:
        file: file to replace.
        rule: grouping rule.
        locked: splits and arrivals.
    """
    part = file.with_name(file.name + ".part")
    later = {group: arrival for group, arrival in locked.arrivals.items() if arrival > 1}
    table = {"grouped_by": rule, "splits": locked.splits} | ({"later_arrivals": later} if later else {})
    part.write_text(json.dumps(table, indent=0, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    part.rename(file)
