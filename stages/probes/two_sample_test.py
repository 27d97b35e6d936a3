"""Classifier two-sample test of whether two sets of images look different (Lopez-Paz and Oquab 2017).

The sets differ if a probe predicts better than chance to which set held-out images belong. Groups are kept together,
and images are compared within classes. The most different statistics are reported as causes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from stages.core.shapes import Array, Bool, Float
from stages.probes.appearance import FILE, WORDS, Appearance, measure_appearance, within_classes
from stages.probes.linear_probe import FOLDS, probe
from stages.probes.univariate import single_feature_separation

MIN_GROUPS = 2 * FOLDS  # in each set
MAX_IMAGES = 500  # of each set
CLEAR = 0.6  # AUC from which a significant difference is reported
SHOWN = 12  # images of each set


@dataclass(frozen=True)
class Difference:
    """Difference between two sets of images."""

    auc: float
    """AUC of the probe: 0.5 is chance, 1 is perfect."""
    p: float
    """P-value of a permutation test over groups."""
    causes: list[dict[str, Any]]
    """Most different significant feature of each family, strongest first: feature, family, auc, p, description."""
    typical: list[str]
    """Paths of the most typical images of the first set, then of the second."""

    def evidence(self) -> dict[str, Any]:
        """Return the evidence for a finding."""
        return {"auc": self.auc, "p": self.p, "causes": self.causes}

    def describe(self) -> str:
        """Return the strongest differences, such as `brighter (median brightness 120.3 against 81, AUC 0.80)`."""
        return (
            "; ".join(cause["description"] for cause in self.causes[:3])
            or "not significantly different in any single statistic"
        )


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MAX_IMAGES` random rows of as many groups as possible."""
    shuffled = rows.sample(frac=1, random_state=0)
    turn = shuffled.groupby("group").cumcount()
    return shuffled.loc[turn.sort_values(kind="stable").index[:MAX_IMAGES]].sort_index()


def too_few(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Return the reason why two sets cannot be compared; empty if they can."""
    counts = [rows["group"].nunique() for rows in (one, other)]
    if min(counts) >= MIN_GROUPS:
        return ""
    return f"the sets have {counts[0]} and {counts[1]} groups; at least {MIN_GROUPS} in each set are required"


def compare_rows(one: pd.DataFrame, other: pd.DataFrame, folder: Path, permutations: int, max_p: float) -> Difference:
    """Compare the images of two sets of manifest rows, within classes.

    Args:
        one: rows with at least `MIN_GROUPS` groups.
        other: rows with at least `MIN_GROUPS` groups, disjoint from `one`.
        folder: output folder of ingest.
        permutations: number of permutations of the test.
        max_p: significance level for single statistics.
    """
    rows = pd.concat([sample(one), sample(other)])
    return compare_features(rows, rows.index.isin(one.index), measure_appearance(rows, folder), permutations, max_p)


def compare_features(
    rows: pd.DataFrame, of_one: Bool[Array, " N"], looks: Appearance, permutations: int, max_p: float
) -> Difference:
    """Compare two sets of images by their features, within classes.

    Args:
        rows: N manifest rows of both sets.
        of_one: True for the first set.
        looks: appearance features of the rows.
        permutations: number of permutations of the test.
        max_p: significance level for single statistics.
    """
    side = pd.Series(np.where(of_one, "one", "other"), rows.index)
    scores = within_classes(looks.features, rows["label"])
    class_of_group = rows.groupby("group")["label"].transform("first")
    result = probe(scores, side, rows["group"], permutations, strata=class_of_group)
    score_N = result.scores["one"] - result.scores["other"]
    order = rows["path"][score_N.sort_values(kind="stable").index]
    ones = order[of_one[rows.index.get_indexer(order.index)]]
    others = order[~of_one[rows.index.get_indexer(order.index)]]
    typical = [*ones[::-1][:SHOWN], *others[:SHOWN]]
    causes = _causes(rows, side, looks.features, max_p)
    return Difference(float(roc_auc_score(of_one, score_N)), result.p, causes, typical)


def _causes(rows: pd.DataFrame, side: pd.Series, features: pd.DataFrame, max_p: float) -> list[dict[str, Any]]:
    table = features.join(rows[list(FILE)].astype(float))
    table = table[[name for name in WORDS if table[name].nunique() > 1]]
    separations = single_feature_separation(within_classes(table, rows["label"]), side, rows["group"])
    medians = table.groupby([side, rows["group"]]).mean().groupby(level=0).median()
    causes: dict[str, dict[str, Any]] = {}
    for separation in separations:
        family, less, more = WORDS[separation["feature"]]
        if separation["label"] == "one" and separation["p"] <= max_p and family not in causes:
            one, other = (float(medians.loc[name, separation["feature"]]) for name in ("one", "other"))
            word = more if separation["direction"].startswith("higher") else less
            medians_text = f"median {separation['feature']} {one:.4g} against {other:.4g}"
            description = f"{word} ({medians_text}, AUC {separation['auc']:.2f})"
            causes[family] = {
                "feature": separation["feature"],
                "family": family,
                "auc": separation["auc"],
                "p": separation["p"],
                "description": description,
            }
    return list(causes.values())


def shares_differ(rows: pd.DataFrame, of_one: Bool[Array, " N"], permutations: int) -> tuple[float, float, list[str]]:
    """Return the total variation distance of the class shares of two sets, its p-value, and the most different classes.

    The classes are at most three strings with name and difference, such as "`cat` +12.0%".

    Args:
        rows: N manifest rows of both sets.
        of_one: True for the first set; all images of a group count for the first set if one of them is in it.
        permutations: number of permutations of the groups.
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
    classes = [f"`{names[i]}` {apart[i]:+.1%}" for i in furthest if apart[i]]
    return distance, (1 + sum(n >= distance - 1e-12 for n in null)) / (1 + permutations), classes


def _distance(table: Float[Array, "G K"], in_one: Bool[Array, " G"]) -> tuple[float, Float[Array, " K"]]:
    one, other = (table[chosen].sum(axis=0) for chosen in (in_one, ~in_one))
    apart = one / max(1, one.sum()) - other / max(1, other.sum())  # if every group is in both sets, one side is empty
    return float(np.abs(apart).sum() / 2), apart
