"""The tank lesson: can the label be told without looking at what is in the picture?

A network trained to find tanks had learned to tell sunny from overcast days. So a plain linear model is given nothing
but statistics of the images, then nothing but properties of their files, and asked for the label, across groups that
it has not seen. What it foretells better than chance, a network may have learned instead of the thing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, norm, rankdata
from sklearn.model_selection import StratifiedGroupKFold

from stages.audits.subject import Subject
from stages.frame import Finding
from stages.frame.sections import Audit
from stages.images.statistics import EXPOSURE, METADATA, STRUCTURE

FOLDS = 5
FEWEST_GROUPS = 20  # with 8 scenes the test had no power: silence would not mean clean
RIDGE = 1.0  # penalty on standardized features
MOST_LEVELS = 20  # of a categorical property; rarer ones are pooled


@dataclass(frozen=True)
class Skill:
    """How well a probe foretells the label out of fold."""

    skill: float
    """Balanced accuracy rescaled: 0 is chance, 1 is every label."""
    p: float
    """Share of block permutations of the labels that do as well."""


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`confounder/statistics` warns, or blocks when one statistic alone tells a class; `confounder/metadata` blocks."""
    rows, left_out = _enough_groups(subject.rows)
    groups = rows["group"].nunique()
    if rows["label"].nunique() < 2 or groups < FEWEST_GROUPS:
        says = (
            f"Too few groups to tell whether image statistics or file metadata give the label away: {groups} groups in "
            f"classes of at least {FOLDS}; at least {FEWEST_GROUPS} in two classes are needed. This does not mean that "
            "they don't."
        )
        return [Finding("confounder/not-checked", "warning", says, {"groups": int(groups), "classes_left_out": left_out})]
    rows = _sample_groups(rows, audit.max_images)
    findings = [_statistics_finding(rows, audit), _metadata_finding(rows, audit)]
    if left_out:
        says = f"{len(left_out)} classes have fewer than {FOLDS} groups and were left out of the confounder audit: {', '.join(left_out[:10])}."
        findings.append(Finding("confounder/not-checked", "info", says, {"classes": left_out}))
    return findings


def _statistics_finding(rows: pd.DataFrame, audit: Audit) -> Finding:
    features = rows[[*EXPOSURE, *STRUCTURE]]
    skill = probe(features, rows["label"], rows["group"], audit.permutations)
    tells = single_tells(features, rows["label"], rows["group"])
    evidence = {"skill": skill.skill, "p": skill.p, "images": len(rows), "tells": tells[:20]}
    alone = [t for t in tells if t["feature"] in EXPOSURE and t["p"] <= audit.max_p and t["auc"] >= audit.alone]
    says = f"Eight image statistics (brightness, contrast, colour ...) foretell the label with skill {skill.skill:.2f} (0 chance, 1 certain; p = {skill.p:.3f})."
    if alone:
        words = "; ".join(f"{t['feature']} alone tells class `{t['label']}` at AUC {t['auc']:.2f} ({t['direction']})" for t in alone[:5])
        says = f"{words[0].upper()}{words[1:]}. {says} A network may learn that instead of the thing: check how these images were made."
        images = [path for t in alone[:3] for path in rows.loc[rows["label"] == t["label"], "path"].head(6)]
        return Finding("confounder/statistics", "blocking", says, evidence, images)
    if skill.p <= audit.max_p and skill.skill >= audit.min_skill:
        strongest = "; ".join(f"{t['feature']} for class `{t['label']}` (AUC {t['auc']:.2f})" for t in tells[:3])
        says += f" The classes may truly differ so; strongest: {strongest}. Hold the model's score against this one."
        return Finding("confounder/statistics", "blocking" if audit.content_blocks else "warning", says, evidence)
    return Finding("confounder/statistics", "passed", says, evidence)


def _metadata_finding(rows: pd.DataFrame, audit: Audit) -> Finding:
    if not rows["has_file"].all():
        return Finding("confounder/metadata", "info", "The images came out of arrays: there is no file metadata to foretell the label.")
    varying = [name for name in METADATA if rows[name].nunique() > 1]
    if not varying:
        return Finding("confounder/metadata", "passed", "All files have one size, format and length: nothing in them can foretell the label.")
    skill = probe(rows[varying], rows["label"], rows["group"], audit.permutations)
    alone = sorted(
        ((probe(rows[[n]], rows["label"], rows["group"], permutations=0).skill, n) for n in varying), reverse=True
    )
    evidence = {"skill": skill.skill, "p": skill.p, "images": len(rows), "alone": {n: s for s, n in alone}}
    says = f"File metadata ({', '.join(varying)}) foretell the label with skill {skill.skill:.2f} (0 chance, 1 certain; p = {skill.p:.3f})."
    if skill.p <= audit.max_p and skill.skill >= audit.min_skill:
        best, name = alone[0]
        says += f" Strongest alone: {name}, skill {best:.2f}. The file cannot make an image what it is: find out why the classes were stored differently."
        return Finding("confounder/metadata", "blocking", says, evidence)
    return Finding("confounder/metadata", "passed", says, evidence)


def probe(features: pd.DataFrame, labels: pd.Series, groups: pd.Series, permutations: int) -> Skill:
    """Out-of-fold skill of ridge regression on rank-normal features and their squares, against permuted labels.

    Folds keep groups whole and classes in proportion. The null permutes whole groups: the labels, laid out group by
    group, are laid anew in a random order of groups, so that what a group shares is kept. Ridge is linear in the
    labels, hence all permutations are a few matrix products.

    Args:
        features: [N, F], numbers or categories.
        labels: [N] class per image.
        groups: [N] group per image.
        permutations: how many; the smallest p is 1 / (permutations + 1) (Phipson and Smyth 2010).
    """
    order = np.argsort(groups.to_numpy(), kind="stable")
    x_NF = design(features.iloc[order])
    codes, _ = pd.factorize(labels.iloc[order])
    blocks = np.split(codes, np.flatnonzero(np.diff(pd.factorize(groups.iloc[order])[0])) + 1)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(x_NF, codes, groups.iloc[order])
    solvers = [_Fold(test, train, x_NF[test], _ridge(x_NF[train])) for train, test in folds]
    skill, observed = _out_of_fold(solvers, codes)
    rng = np.random.default_rng(0)
    null = [
        _out_of_fold(solvers, np.concatenate([blocks[i] for i in rng.permutation(len(blocks))]))[1] for _ in range(permutations)
    ]
    return Skill(skill, (1 + sum(n >= observed for n in null)) / (1 + permutations))


@dataclass(frozen=True)
class _Fold:
    """One fold, solved for any labels: kept as two thin matrices, whose product would be as large as the data."""

    test: np.ndarray
    train: np.ndarray
    x_TF: np.ndarray
    ridge_FN: np.ndarray


def _ridge(x_NF: np.ndarray) -> np.ndarray:
    """[F, N]: what maps targets to coefficients."""
    return np.linalg.solve(x_NF.T @ x_NF + RIDGE * np.eye(x_NF.shape[1]), x_NF.T)


def _out_of_fold(folds: list[_Fold], codes: np.ndarray) -> tuple[float, float]:
    """Rescaled balanced accuracy, and the mean margin of the true class over the mean class, of labels `codes` [N]."""
    classes = int(codes.max()) + 1
    counts = np.bincount(codes, minlength=classes)
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
    return float((recall.mean() - 1 / classes) / (1 - 1 / classes)), float((np.bincount(codes, margin, classes) / counts).mean())


def design(features: pd.DataFrame) -> np.ndarray:
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


def single_tells(features: pd.DataFrame, labels: pd.Series, groups: pd.Series) -> list[dict]:
    """How well each statistic alone, by a threshold, tells each class from all others; the strongest first.

    A group counts once per class, by its mean. AUC is that of Mann and Whitney (1947), p its two-sided p-value times
    the number of pairs of statistic and class (Bonferroni).
    """
    units = features.groupby([labels.rename("label"), groups.rename("group")], observed=True).mean()
    label_of = units.index.get_level_values("label")
    pairs = [(name, label) for name in features for label in label_of.unique() if units[name].nunique() > 1]
    tells = []
    for name, label in pairs:
        inside, outside = units.loc[label_of == label, name], units.loc[label_of != label, name]
        test = mannwhitneyu(inside, outside)
        auc = float(test.statistic) / (len(inside) * len(outside))
        higher = auc >= 0.5
        tells.append(
            {
                "feature": name,
                "label": label,
                "auc": max(auc, 1 - auc),
                "direction": f"{'higher' if higher else 'lower'}: median {inside.median():.1f} against {outside.median():.1f}",
                "p": min(1.0, float(test.pvalue) * len(pairs)),
            }
        )
    return sorted(tells, key=lambda t: -t["auc"])


def _enough_groups(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    per_class = rows.groupby("label")["group"].nunique()
    left_out = sorted(per_class[per_class < FOLDS].index)
    return rows[~rows["label"].isin(left_out)], left_out


def _sample_groups(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most about `most` images, whole groups at random."""
    if len(rows) <= most:
        return rows
    rng = np.random.default_rng(0)
    sizes = rows.groupby("group").size()
    shuffled = sizes.iloc[rng.permutation(len(sizes))]
    return rows[rows["group"].isin(shuffled.index[shuffled.cumsum() <= most])]
