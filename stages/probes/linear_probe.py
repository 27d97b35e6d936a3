"""How well a few numbers foretell the label: the statistics behind the confounder audit.

Axes: N images, F features, K classes, T held-out images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

FOLDS = 5
FEW = 99  # permutations
RIDGE = 1.0  # penalty on standardized features
MOST_LEVELS = 20  # of a categorical property; rarer ones are pooled

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Skill:
    """How well a probe foretells the label out of fold."""

    skill: float
    """Balanced accuracy rescaled: 0 is chance, 1 is every label."""
    p: float
    """Share of block permutations of the labels that do as well."""
    scores: pd.DataFrame
    """[N, K] of each image for each class, out of fold."""
    by_class: pd.Series
    """Share of a class's images that are told, less the share of the others that are taken for it (Youden 1950): of two
    classes this is `skill`; of many, one that is told while the others are not stands out here and not there."""

    @property
    def most(self) -> float:
        """The greater of `skill` and that of the class which is told best."""
        return max(self.skill, float(self.by_class.max()))


def probe(
    features: pd.DataFrame,
    labels: pd.Series,
    groups: pd.Series,
    permutations: int,
    matters: float = -1.0,
    strata: pd.Series | None = None,
) -> Skill:
    """Out-of-fold skill of ridge regression on rank-normal features and their squares, against permuted labels.

    Folds keep groups whole and classes in proportion. The null permutes whole groups: the labels, laid out group by
    group, are laid anew in a random order of groups, so that what a group shares is kept. Ridge is linear in the
    labels, hence all permutations are a few matrix products.

    Args:
        features: [N, F], numbers or categories.
        labels: [N] class per image.
        groups: [N] group per image.
        permutations: how many; the smallest p is 1 / (permutations + 1) (Phipson and Smyth 2010).
        matters: skill, or that of a class, below which nobody asks for a precise p, so that `FEW` permutations do.
        strata: [N] what a group is exchanged within only, the same for all of a group; None: groups are all alike.
    """
    stratum_N = np.zeros(len(groups), int) if strata is None else pd.factorize(strata)[0]
    order = np.lexsort((pd.factorize(groups, sort=True)[0], stratum_N))
    x_NF = design(features.iloc[order])
    codes, names = pd.factorize(labels.iloc[order])
    starts = np.concatenate([[0], np.flatnonzero(np.diff(pd.factorize(groups.iloc[order])[0])) + 1])
    blocks, stratum_of_block = np.split(codes, starts[1:]), stratum_N[order][starts]
    fold_N = folds(codes, groups.iloc[order].to_numpy())
    parts = [(np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)) for fold in np.unique(fold_N)]
    solvers = [_Fold(test, train, x_NF[test], _ridge(x_NF[train])) for test, train in parts]
    skill, observed, scores_NK = _out_of_fold(solvers, codes)
    by_class = pd.Series(_by_class(scores_NK.argmax(axis=1), codes), names)
    rng = np.random.default_rng(0)
    null = [
        _out_of_fold(solvers, _exchanged(blocks, _shuffled(stratum_of_block, rng)))[1]
        for _ in range(permutations if max(skill, by_class.max()) >= matters else min(permutations, FEW))
    ]
    scores = pd.DataFrame(scores_NK, features.index[order], names).loc[features.index]
    return Skill(skill, (1 + sum(n >= observed for n in null)) / (1 + len(null)), scores, by_class)


def _by_class(said_N: Array, codes_N: Array) -> Array:
    counts_K = np.bincount(codes_N)
    right_K = np.bincount(codes_N, said_N == codes_N)
    wrongly_K = np.bincount(said_N, said_N != codes_N, len(counts_K))
    return right_K / counts_K - wrongly_K / np.maximum(len(codes_N) - counts_K, 1)


def _exchanged(blocks: list[Array], order: Array) -> Array:
    """Codes in which each group has the labels of another, repeated or cut to its own length.

    Laid end to end, blocks of unequal length would straddle groups, and the null would know less than the data.
    """
    return np.concatenate([np.resize(blocks[i], len(own)) for own, i in zip(blocks, order, strict=True)])


def _shuffled(stratum_of_block: Array, rng: np.random.Generator) -> Array:
    """The blocks in random order, each stratum in its place."""
    return np.lexsort((rng.random(len(stratum_of_block)), stratum_of_block))


def folds(codes: Array, groups: Array) -> Array:
    """Number of the fold [N] of each image, groups whole, classes in proportion.

    Images that are their own group are dealt apart from the others, which is alike and a hundred times faster.
    """
    fold_N = np.zeros(len(codes), int)
    group_N = pd.factorize(groups)[0]
    alone_N = np.bincount(group_N)[group_N] == 1
    if min(np.bincount(codes[alone_N], minlength=codes.max() + 1)) < FOLDS:
        alone_N[:] = False  # too few to be dealt in proportion
    for some_N, splitter in ((alone_N, StratifiedKFold), (~alone_N, StratifiedGroupKFold)):
        rows = np.flatnonzero(some_N)
        count = min(FOLDS, len(np.unique(group_N[rows])))
        if count > 1:
            kind = splitter
            whole = group_N[rows] if kind is StratifiedGroupKFold else None
            if whole is not None and np.bincount(codes[rows]).max() < count:
                kind = GroupKFold  # no class has an image a fold: there is nothing to keep in proportion
            dealt = kind(count, shuffle=True, random_state=0).split(rows, codes[rows], whole)
            for fold, (_, test) in enumerate(dealt):
                fold_N[rows[test]] = fold
    return fold_N


@dataclass(frozen=True)
class _Fold:
    """One fold, solved for any labels: kept as two thin matrices, whose product would be as large as the data."""

    test: Array
    train: Array
    x_TF: Array
    ridge_FN: Array


def _ridge(x_NF: Array) -> Array:
    """[F, N]: what maps targets to coefficients."""
    return np.linalg.solve(x_NF.T @ x_NF + RIDGE * np.eye(x_NF.shape[1]), x_NF.T)


def _out_of_fold(folds: list[_Fold], codes: Array) -> tuple[float, float, Array]:
    """Rescaled balanced accuracy, mean margin of the true class over the mean class, scores [N, K] of `codes` [N]."""
    classes = int(codes.max()) + 1
    there = np.bincount(codes, minlength=classes) > 0  # where groups exchange their labels a class may vanish
    counts = np.maximum(np.bincount(codes, minlength=classes), 1)
    scores_NK = np.empty((len(codes), classes))
    for fold in folds:
        ordered = np.argsort(codes[fold.train], kind="stable")
        first = np.searchsorted(codes[fold.train][ordered], np.arange(classes))
        sums_FK = np.add.reduceat(np.pad(fold.ridge_FN[:, ordered], ((0, 0), (0, 1))), first, axis=1)
        sums_FK[:, np.bincount(codes[fold.train], minlength=classes) == 0] = 0  # reduceat repeats a value for these
        coefficients_FK = sums_FK / counts  # every class weighs the same
        scores_NK[fold.test] = fold.x_TF @ (coefficients_FK - coefficients_FK.mean(axis=1, keepdims=True))
    margin = scores_NK[np.arange(len(codes)), codes] - scores_NK.mean(axis=1)
    recall = np.bincount(codes, scores_NK.argmax(axis=1) == codes, classes) / counts
    skill = (recall[there].mean() - 1 / classes) / (1 - 1 / classes)
    return float(skill), float((np.bincount(codes, margin, classes) / counts)[there].mean()), scores_NK


def design(features: pd.DataFrame) -> Array:
    """Features as [N, columns], standardized: numbers as normal scores and their squares, categories as indicators."""
    columns = [np.ones(len(features))]
    for name in features:
        values = features[name]
        if pd.api.types.is_numeric_dtype(values):
            normal = norm.ppf((rankdata(values) - 0.5) / len(values))
            columns += [normal, normal**2]
        else:
            common = values.where(values.isin(values.value_counts().index[:MOST_LEVELS]), "(rare)")
            columns += list(pd.get_dummies(common, dtype=float).to_numpy().T)
    x_NF = np.stack(columns[1:], axis=1)
    x_NF = (x_NF - x_NF.mean(axis=0)) / np.maximum(x_NF.std(axis=0), 1e-9)
    return np.concatenate([np.ones((len(x_NF), 1)), x_NF], axis=1)
