"""Whether two sets of images can be told apart by how they look, by how much, and in what they differ.

A classifier two-sample test (Lopez-Paz and Oquab 2017): if a probe tells, of images that it has not seen, which set
they are from, the sets differ. Groups stay whole, and classes are compared with themselves.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from stages.probes.appearance import FILE, WORDS, Appearance, appearance, within_classes
from stages.probes.linear_probe import FOLDS, probe
from stages.probes.univariate import single_tells

FEWEST_GROUPS = 2 * FOLDS  # on each side; of fewer nothing can be told
MOST = 500  # images of a side that are looked at
CLEAR = 0.6  # AUC at which a difference that is no chance is worth a warning; .5 is none, 1 complete
SHOWN = 12  # images of each side


@dataclass(frozen=True)
class Difference:
    """How one set of images differs from another."""

    auc: float
    """Chance that the probe finds an image of the one set more like that set than an image of the other."""
    p: float
    """Share of random divisions of the groups that are told apart as well."""
    causes: list[dict[str, Any]]
    """The feature of each family that differs most, the strongest first: feature, family, auc, p, says."""
    typical: list[str]
    """Paths: of images most typical of the one set, then of the other."""

    def evidence(self) -> dict[str, Any]:
        """What the finding keeps."""
        return {"auc": self.auc, "p": self.p, "causes": self.causes}

    def in_words(self) -> str:
        """What differs most: `brighter (median brightness 120.3 against 81.0)`."""
        return "; ".join(cause["says"] for cause in self.causes[:3]) or "no single statistic stands out"


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Up to `MOST` rows at random, as many groups as can be."""
    shuffled = rows.sample(frac=1, random_state=0)
    turn = shuffled.groupby("group").cumcount()
    return shuffled.loc[turn.sort_values(kind="stable").index[:MOST]].sort_index()


def too_few(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Why two sets cannot be compared; empty where they can."""
    counts = [rows["group"].nunique() for rows in (one, other)]
    if min(counts) >= FEWEST_GROUPS:
        return ""
    return f"{counts[0]} and {counts[1]} groups; at least {FEWEST_GROUPS} of each are needed"


def difference(one: pd.DataFrame, other: pd.DataFrame, folder: Path, permutations: int, max_p: float) -> Difference:
    """How the images of manifest rows `one` differ from those of `other`, classes compared with themselves.

    Args:
        one: rows with at least `FEWEST_GROUPS` groups.
        other: the same; an image is in one of the two.
        folder: where their images can be read from.
        permutations: shuffles behind p.
        max_p: p up to which a single statistic is called different.
    """
    rows = pd.concat([sample(one), sample(other)])
    return compared(rows, rows.index.isin(one.index), appearance(rows, folder), permutations, max_p)


def compared(
    rows: pd.DataFrame, of_one: np.ndarray[Any, Any], looks: Appearance, permutations: int, max_p: float
) -> Difference:
    """The same, of images that were looked at: `of_one` [N] is true for those of the one set."""
    side = pd.Series(np.where(of_one, "one", "other"), rows.index)
    scores = within_classes(looks.features, rows["label"])
    class_of_group = rows.groupby("group")["label"].transform("first")
    found = probe(scores, side, rows["group"], permutations, strata=class_of_group)
    leaning = found.scores["one"] - found.scores["other"]
    order = rows["path"][leaning.sort_values(kind="stable").index]
    ones = order[of_one[rows.index.get_indexer(order.index)]]
    others = order[~of_one[rows.index.get_indexer(order.index)]]
    typical = [*ones[::-1][:SHOWN], *others[:SHOWN]]
    causes = _causes(rows, side, looks.features, max_p)
    return Difference(float(roc_auc_score(of_one, leaning)), found.p, causes, typical)


def _causes(rows: pd.DataFrame, side: pd.Series, features: pd.DataFrame, max_p: float) -> list[dict[str, Any]]:
    table = features.join(rows[list(FILE)].astype(float))
    table = table[[name for name in WORDS if table[name].nunique() > 1]]
    tells = single_tells(within_classes(table, rows["label"]), side, rows["group"])
    middles = table.groupby([side, rows["group"]]).mean().groupby(level=0).median()
    causes: dict[str, dict[str, Any]] = {}
    for tell in tells:
        family, less, more = WORDS[tell["feature"]]
        if tell["label"] == "one" and tell["p"] <= max_p and family not in causes:
            one, other = (float(middles.loc[name, tell["feature"]]) for name in ("one", "other"))
            word = more if tell["direction"].startswith("higher") else less
            says = f"{word} (median {tell['feature']} {one:.4g} against {other:.4g}, alone AUC {tell['auc']:.2f})"
            causes[family] = {
                "feature": tell["feature"],
                "family": family,
                "auc": tell["auc"],
                "p": tell["p"],
                "says": says,
            }
    return list(causes.values())


def shares_differ(
    rows: pd.DataFrame, of_one: np.ndarray[Any, Any], permutations: int
) -> tuple[float, float, list[str]]:
    """Distance of the class shares of two sets, its p by divisions of the groups, and the classes furthest apart.

    The distance is that of total variation: the share of images that would have to change their class.
    """
    code, names = pd.factorize(rows["label"])
    group = pd.factorize(rows["group"])[0]
    table = np.zeros((group.max() + 1, len(names)))
    np.add.at(table, (group, code), 1)
    in_one = np.bincount(group, of_one) > 0
    rng = np.random.default_rng(0)
    distance, apart = _distance(table, in_one)
    null = [_distance(table, rng.permutation(in_one))[0] for _ in range(permutations)]
    furthest = np.argsort(-np.abs(apart))[:3]
    said = [f"`{names[i]}` {apart[i]:+.1%}" for i in furthest if apart[i]]
    return distance, (1 + sum(n >= distance - 1e-12 for n in null)) / (1 + permutations), said


def _distance(table: np.ndarray[Any, Any], in_one: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
    one, other = (table[chosen].sum(axis=0) for chosen in (in_one, ~in_one))
    apart = one / max(1, one.sum()) - other / max(1, other.sum())  # where every group is in both, one side is empty
    return float(np.abs(apart).sum() / 2), apart
