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
from stages.probes.linear_probe import FOLDS, Skill, probe
from stages.probes.univariate import single_feature_separation

MIN_GROUPS = 2 * FOLDS  # in each set
MAX_IMAGES = 500  # of each set
CLEAR = 0.6  # AUC from which a significant difference is reported
SHOWN = 12  # images of each set
CAMERAS: dict[str, tuple[float, tuple[str, ...]]] = {
    "brighter": (1, ("brightness", "darkest", "brightest", "border")),
    "darker": (-1, ("brightness", "darkest", "brightest", "border")),
    "redder": (1, ("redness", "red_to_green")),
    "bluer": (1, ("blueness", "blue_to_green")),
    "higher in contrast": (1, ("contrast", "entropy")),
    "softer": (-1, ("sharpness", "fineness", "wave_12", "wave_13", "wave_14", "wave_15")),
    "noisier": (1, ("noise", "wave_12", "wave_13", "wave_14", "wave_15")),
}
"""Properties of another camera, as the direction in which they shift features of the images."""


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
    cameras: dict[str, bool]
    """Whether another camera would be found that shifts a property of the first set by a standard deviation; see
    `CAMERAS`. Empty if the sets differ."""
    alarms: tuple[int, int]
    """Number of permutations that would be significant, and number of permutations."""

    @property
    def is_clear(self) -> bool:
        """True if the AUC is at least `CLEAR`; whether it is significant depends on `p`."""
        return self.auc >= CLEAR

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
    auc, alarms = float(roc_auc_score(of_one, score_N)), result.false_alarms(max_p, -1.0)
    differ = auc >= CLEAR and result.p <= max_p
    cameras = {} if differ else _find_cameras(rows, side, looks.features, result, max_p)
    return Difference(auc, result.p, causes, typical, cameras, alarms)


def _find_cameras(
    rows: pd.DataFrame, side: pd.Series, features: pd.DataFrame, clean: Skill, max_p: float
) -> dict[str, bool]:
    """Return whether each property of another camera in the first set would be found.

    The features are shifted by the standard deviation of all images, or by 1 if they are constant.

    Args:
        rows: manifest rows of both sets.
        side: `one` or `other` for each image.
        features: features of the images.
        clean: result for the features without a fault.
        max_p: significance level.
    """
    scores, found = within_classes(features, rows["label"]), {}
    spread = features.std().where(lambda std: std > 0, 1.0)
    of_one = (side == "one").to_numpy()
    for name, (direction, shifted) in CAMERAS.items():
        columns = [column for column in shifted if column in features]
        moved = features[columns].add(direction * np.outer(of_one, spread[columns]))
        planted = scores.assign(**within_classes(moved, rows["label"]))
        result = probe(planted, side, rows["group"], permutations=0)
        score_N = result.scores["one"] - result.scores["other"]
        found[name] = bool(clean.p_of(result.margin) <= max_p and roc_auc_score(of_one, score_N) >= CLEAR)
    return found


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


@dataclass(frozen=True)
class ShareDifference:
    """Difference between the class shares of two sets."""

    distance: float
    """Total variation distance."""
    p: float
    """P-value of a permutation test over groups."""
    classes: list[str]
    """At most three most different classes with their difference, such as "`cat` +12.0%"."""
    null_J: Float[Array, " J"]
    """Distances after permutation of the groups."""
    planted_K: Float[Array, " K"]
    """Distances if `PLANTED_SHARE` of the images of the first set had one class, for each of at most ten classes."""


PLANTED_SHARE = 0.5
"""Share of the images that a planted difference of the class shares replaces."""


def shares_differ(rows: pd.DataFrame, of_one: Bool[Array, " N"], permutations: int) -> ShareDifference:
    """Compare the class shares of two sets.

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
    null = np.array([_distance(table, rng.permutation(in_one))[0] for _ in range(permutations)])
    furthest = np.argsort(-np.abs(apart))[:3]
    classes = [f"`{names[i]}` {apart[i]:+.1%}" for i in furthest if apart[i]]
    p = float((1 + (null >= distance - 1e-12).sum()) / (1 + permutations))
    planted = [_distance(_replaced(table, in_one, k), in_one)[0] for k in range(min(10, len(names)))]
    return ShareDifference(distance, p, classes, null, np.array(planted))


def _replaced(table: Float[Array, "G K"], in_one: Bool[Array, " G"], k: int) -> Float[Array, "G K"]:
    """Return the table in which `PLANTED_SHARE` of the images of each group of the first set have class `k`."""
    planted = table.copy()
    planted[in_one] *= 1 - PLANTED_SHARE
    planted[in_one, k] += PLANTED_SHARE * table[in_one].sum(axis=1)
    return planted


def _distance(table: Float[Array, "G K"], in_one: Bool[Array, " G"]) -> tuple[float, Float[Array, " K"]]:
    one, other = (table[chosen].sum(axis=0) for chosen in (in_one, ~in_one))
    apart = one / max(1, one.sum()) - other / max(1, other.sum())  # if every group is in both sets, one side is empty
    return float(np.abs(apart).sum() / 2), apart
