"""Linear probe that measures how well a few features predict the label, with a permutation test over groups.

Axes: N images, F features, K classes, T held-out images.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from stages.core.shapes import Array, Float, Integer, Shaped

FOLDS = 5
FEW_PERMUTATIONS = 99  # maximum number of permutations if `Skill.best` is below `min_skill`
RIDGE = 1.0  # penalty on standardized features
MAX_LEVELS = 20  # maximum number of levels of a categorical feature; rarer levels are pooled


@dataclass(frozen=True)
class Skill:
    """Out-of-fold performance of a probe."""

    skill: float
    """Balanced accuracy, rescaled so that 0 is chance and 1 is perfect."""
    p: float
    """P-value of a block permutation test (labels are permuted between groups)."""
    scores: pd.DataFrame
    """Out-of-fold score of each image for each class, [N, K]."""
    by_class: pd.Series
    """True positive rate minus false positive rate of each class (Youden 1950). For two classes this is `skill`."""
    margin: float
    """Statistic of the permutation test: mean margin of the true class."""
    null_J2: Float[Array, "J 2"]
    """Margin and `best` of each of the J permutations."""

    @property
    def best(self) -> float:
        """Maximum of `skill` and of `by_class`."""
        return max(self.skill, float(self.by_class.max()))

    def p_of(self, margin: float) -> float:
        """Return the p-value that another margin has under the null distribution of this test.

        A fault that is planted in a few features hardly changes the null distribution, so that it is not drawn again.
        """
        return float((1 + (self.null_J2[:, 0] >= margin).sum()) / (1 + len(self.null_J2)))

    def false_alarms(self, max_p: float, min_skill: float) -> tuple[int, int]:
        """Return how many permutations would be reported if they were the data, and the number of permutations.

        Args:
            max_p: largest p-value at which a probe is reported.
            min_skill: smallest value of `best` at which it is reported.
        """
        margin_J, best_J = self.null_J2.T
        as_high_J = len(margin_J) - np.searchsorted(np.sort(margin_J), margin_J)  # includes the permutation itself
        return int(((as_high_J <= max_p * len(margin_J)) & (best_J >= min_skill)).sum()), len(margin_J)


def probe(
    features: pd.DataFrame,
    labels: pd.Series,
    groups: pd.Series,
    permutations: int,
    min_skill: float = -1.0,
    strata: pd.Series | None = None,
) -> Skill:
    """Compute the out-of-fold skill of ridge regression on `design_matrix(features)`, with a p-value.

    Folds keep groups together and are stratified by class. The null distribution permutes the labels of whole groups.
    Ridge regression is linear in the labels, so each permutation requires only matrix products. The p-value is that of
    the mean margin by which the score of the true class exceeds the mean score.

    Args:
        features: [N, F], numbers or categories.
        labels: [N] class of each image; at least two classes.
        groups: [N] group of each image.
        permutations: number of permutations; the smallest p-value is 1 / (permutations + 1) (Phipson and Smyth 2010).
        min_skill: value of `Skill.best` below which at most `FEW_PERMUTATIONS` are used.
        strata: [N] stratum of each image; labels are permuted between groups of one stratum. None: all groups.
    """
    stratum_N = np.zeros(len(groups), int) if strata is None else pd.factorize(strata)[0]
    order = np.lexsort((pd.factorize(groups, sort=True)[0], stratum_N))
    x_NF = design_matrix(features.iloc[order])
    codes, names = pd.factorize(labels.iloc[order])
    starts = np.concatenate([[0], np.flatnonzero(np.diff(pd.factorize(groups.iloc[order])[0])) + 1])
    blocks, stratum_of_block = np.split(codes, starts[1:]), stratum_N[order][starts]
    fold_N = stratified_group_folds(codes, groups.iloc[order].to_numpy())
    parts = [(np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)) for fold in np.unique(fold_N)]
    solvers = [_Fold(test, train, x_NF[test], _ridge(x_NF[train])) for test, train in parts]
    skill, observed, scores_NK = _out_of_fold(solvers, codes)
    by_class = pd.Series(_youden(scores_NK.argmax(axis=1), codes), names)
    rng = np.random.default_rng(0)
    null = [
        _margin_and_best(solvers, _permute_blocks(blocks, _shuffle_within_strata(stratum_of_block, rng)))
        for _ in range(permutations if max(skill, by_class.max()) >= min_skill else min(permutations, FEW_PERMUTATIONS))
    ]
    null_J2 = np.array(null, float).reshape(-1, 2)
    p = float((1 + (null_J2[:, 0] >= observed).sum()) / (1 + len(null)))
    scores = pd.DataFrame(scores_NK, features.index[order], names).loc[features.index]
    return Skill(skill, p, scores, by_class, observed, null_J2)


def _margin_and_best(solvers: list["_Fold"], codes: Integer[Array, " N"]) -> tuple[float, float]:
    """Return the margin and the value of `Skill.best` for labels `codes`."""
    skill, margin, scores_NK = _out_of_fold(solvers, codes)
    return margin, max(skill, float(_youden(scores_NK.argmax(axis=1), codes).max()))


def _youden(predicted_N: Integer[Array, " N"], codes_N: Integer[Array, " N"]) -> Float[Array, " K"]:
    counts_K = np.bincount(codes_N)
    true_positives_K = np.bincount(codes_N, predicted_N == codes_N)
    false_positives_K = np.bincount(predicted_N, predicted_N != codes_N, len(counts_K))
    return true_positives_K / np.maximum(counts_K, 1) - false_positives_K / np.maximum(len(codes_N) - counts_K, 1)


def _permute_blocks(blocks: list[Integer[Array, " _"]], order: Integer[Array, " B"]) -> Integer[Array, " N"]:
    """Return codes in which each group has the labels of another group, repeated or truncated to its own length.

    Concatenating blocks of unequal length would mix the labels of groups and make p-values too small.
    """
    return np.concatenate([np.resize(blocks[i], len(own)) for own, i in zip(blocks, order, strict=True)])


def _shuffle_within_strata(stratum_of_block: Integer[Array, " B"], rng: np.random.Generator) -> Integer[Array, " B"]:
    """Return a random order of the blocks that keeps each block in its stratum."""
    return np.lexsort((rng.random(len(stratum_of_block)), stratum_of_block))


def stratified_group_folds(codes: Integer[Array, " N"], groups: Shaped[Array, " N"]) -> Integer[Array, " N"]:
    """Return the fold of each image; groups are kept together, classes are stratified.

    Images that are alone in their group are assigned separately, which is a hundred times faster and equivalent.
    """
    fold_N = np.zeros(len(codes), int)
    group_N = pd.factorize(groups)[0]
    alone_N = np.bincount(group_N)[group_N] == 1
    if min(np.bincount(codes[alone_N], minlength=codes.max() + 1)) < FOLDS:
        alone_N[:] = False  # too few to be stratified
    for some_N, splitter in ((alone_N, StratifiedKFold), (~alone_N, StratifiedGroupKFold)):
        rows = np.flatnonzero(some_N)
        count = min(FOLDS, len(np.unique(group_N[rows])))
        if count > 1:
            kind = splitter
            whole = group_N[rows] if kind is StratifiedGroupKFold else None
            if whole is not None and np.bincount(codes[rows]).max() < count:
                kind = GroupKFold  # no class has an image for each fold, so stratification is impossible
            split = kind(count, shuffle=True, random_state=0).split(rows, codes[rows], whole)
            for fold, (_, test) in enumerate(split):
                fold_N[rows[test]] = fold
    return fold_N


@dataclass(frozen=True)
class _Fold:
    """Ridge solution of one fold for arbitrary labels, as two factors."""

    test: Integer[Array, " T"]
    train: Integer[Array, " N"]
    x_TF: Float[Array, "T F"]
    ridge_FN: Float[Array, "F N"]


def _ridge(x_NF: Float[Array, "N F"]) -> Float[Array, "F N"]:
    """Return the matrix that maps targets to ridge coefficients."""
    return np.linalg.solve(x_NF.T @ x_NF + RIDGE * np.eye(x_NF.shape[1]), x_NF.T)


def _out_of_fold(folds: list[_Fold], codes: Integer[Array, " N"]) -> tuple[float, float, Float[Array, "N K"]]:
    """Return the skill, the mean margin of the true class, and the scores for labels `codes`."""
    classes = int(codes.max()) + 1
    present_K = np.bincount(codes, minlength=classes) > 0  # a permutation of blocks may lose a class
    counts = np.maximum(np.bincount(codes, minlength=classes), 1)
    scores_NK = np.empty((len(codes), classes))
    for fold in folds:
        ordered = np.argsort(codes[fold.train], kind="stable")
        first = np.searchsorted(codes[fold.train][ordered], np.arange(classes))
        sums_FK = np.add.reduceat(np.pad(fold.ridge_FN[:, ordered], ((0, 0), (0, 1))), first, axis=1)
        sums_FK[:, np.bincount(codes[fold.train], minlength=classes) == 0] = (
            0  # np.add.reduceat repeats a value for empty classes
        )
        coefficients_FK = sums_FK / counts  # all classes have the same weight
        scores_NK[fold.test] = fold.x_TF @ (coefficients_FK - coefficients_FK.mean(axis=1, keepdims=True))
    margin = scores_NK[np.arange(len(codes)), codes] - scores_NK.mean(axis=1)
    recall = np.bincount(codes, scores_NK.argmax(axis=1) == codes, classes) / counts
    skill = (recall[present_K].mean() - 1 / classes) / (1 - 1 / classes)
    return float(skill), float((np.bincount(codes, margin, classes) / counts)[present_K].mean()), scores_NK


def design_matrix(features: pd.DataFrame) -> Float[Array, "N F"]:
    """Return the design matrix: normal scores and their squares for numbers, indicators for categories.

    The columns are standardized; a column of ones precedes them.
    """
    columns = [np.ones(len(features))]
    for name in features:
        values = features[name]
        if pd.api.types.is_numeric_dtype(values):
            normal = norm.ppf((rankdata(values) - 0.5) / len(values))
            columns += [normal, normal**2]
        else:
            common = values.where(values.isin(values.value_counts().index[:MAX_LEVELS]), "(rare)")
            columns += list(pd.get_dummies(common, dtype=float).to_numpy().T)
    x_NF = np.stack(columns[1:], axis=1)
    x_NF = (x_NF - x_NF.mean(axis=0)) / np.maximum(x_NF.std(axis=0), 1e-9)
    return np.concatenate([np.ones((len(x_NF), 1)), x_NF], axis=1)
