"""Univariate separation: how well a single feature separates a class from all others."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from stages.core.shapes import Array, Float, Integer


def single_feature_separation(
    features: pd.DataFrame, labels: pd.Series, groups: pd.Series, most: int = 200
) -> list[dict[str, Any]]:
    """Return how well each feature separates each class from all others by a threshold, strongest first.

    Each group counts once per class, with its mean. The p-value is that of a two-sided Mann-Whitney test (1947, normal
    approximation with ties), multiplied by the number of pairs of feature and class (Bonferroni). Accuracy is the
    balanced accuracy at the best threshold.

    Args:
        features: [N, F] numeric features.
        labels: [N] class of each image.
        groups: [N] group of each image.
        most: maximum number of entries.

    Returns:
        Dicts with feature, label, auc (0.5 to 1), accuracy, inside and outside (medians in the class and in all
        others), direction (`higher` or `lower`, with the medians) and p. Empty if there are fewer than two classes or
        no feature varies.
    """
    units = features.groupby([labels.rename("label"), groups.rename("group")], observed=True).mean()
    code_of, names = pd.factorize(units.index.get_level_values("label"))
    units = units.loc[:, units.nunique() > 1]
    if units.empty or len(names) < 2:
        return []
    counts = np.bincount(code_of)
    auc_FK, p_FK = np.transpose([_mann_whitney(units[name].to_numpy(), code_of, counts) for name in units], (1, 0, 2))
    strongest = np.argsort(-np.abs(auc_FK - 0.5), axis=None, kind="stable")[:most]
    separations = []
    for feature, code in zip(*np.unravel_index(strongest, auc_FK.shape), strict=True):
        values = units.iloc[:, feature].to_numpy()
        inside, outside = values[code_of == code], values[code_of != code]
        auc, middles = float(auc_FK[feature, code]), (float(np.median(inside)), float(np.median(outside)))
        separations.append(
            {
                "feature": units.columns[feature],
                "label": names[code],
                "auc": max(auc, 1 - auc),
                "accuracy": _accuracy(inside, outside),
                "inside": middles[0],
                "outside": middles[1],
                "direction": f"{'higher' if auc >= 0.5 else 'lower'}: median {middles[0]:.1f} against {middles[1]:.1f}",
                "p": min(1.0, float(p_FK[feature, code]) * auc_FK.size),
            }
        )
    return separations


def _mann_whitney(
    values_N: Float[Array, " N"], code_N: Integer[Array, " N"], counts_K: Integer[Array, " K"]
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Return the AUC and the p-value of each class against all others, for at least two classes."""
    total = len(values_N)
    ranks_N = rankdata(values_N)
    pairs_K = counts_K * (total - counts_K)
    auc_K = (np.bincount(code_N, ranks_N) - counts_K * (counts_K + 1) / 2) / np.maximum(pairs_K, 1)
    ties = np.unique(values_N, return_counts=True)[1].astype(float)
    spread_K = np.sqrt(pairs_K / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1))))
    off_K = np.maximum(np.abs(auc_K - 0.5) * pairs_K - 0.5, 0)  # continuity correction
    return auc_K, 2 * norm.sf(off_K / np.maximum(spread_K, 1e-9))


def _accuracy(inside: Float[Array, " A"], outside: Float[Array, " B"]) -> float:
    """Return the balanced accuracy at the best threshold: (1 + Kolmogorov-Smirnov distance) / 2."""
    values = np.unique(np.concatenate([inside, outside]))
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (inside, outside)]
    return 0.5 + 0.5 * float(np.abs(below[0] - below[1]).max())
