"""The error of a simple probe by the number of images that it was trained on, and by how noisy their labels were."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.probes.cross_validation import folds
from stages.probes.regression_targets import Asked
from stages.probes.ridge import Ridge, principal, ridge

Array = np.ndarray[Any, Any]
SHARES = np.geomspace(1 / 8, 1, 6)
"""Of the images that are not held out: the sizes of the training sets."""
NOISE = (0.05, 0.1, 0.2)
"""Share of training labels that are replaced."""
AXES = 512  # of the features, at least: up to 5,000 images more cost time and say no more
IMAGES_PER_AXIS = (
    10  # with many more the probe has learned all that it can, and its curve ends where no network's would
)
RESAMPLES = 500


@dataclass(frozen=True)
class Curve:
    """Errors out of fold, the mean over folds and repeats, and the same resampled."""

    images_J: Array
    """Training images, the mean over folds."""
    error_J: Array
    """Of classes: share of wrong answers, every class counted alike. Of numbers: share of their variance that is not
    foretold, the mean over them."""
    resampled_BJ: Array
    """With held-out groups drawn with replacement, the same ones for all sizes: what the held-out images leave open.
    What the draw of training sets leaves open shows in how the errors scatter about a law."""
    noisy_Q: Array
    """Error at the largest size with `NOISE` of the labels replaced."""
    noisy_BQ: Array
    """Resampled together with `resampled_BJ`."""


def measured(
    features_NF: Array,
    question: Asked,
    groups_N: Array,
    repeats: int = 1,
    seed: int = 0,
    shares: Array = SHARES,
    noise: tuple[float, ...] = NOISE,
) -> Curve:
    """Train the probe on nested draws of whole groups, classes in proportion, in every fold; five folds a repeat.

    Args:
        features_NF: as `stages.probes.image_features` makes them.
        question: its targets [N, D].
        groups_N: the group of each image.
        repeats: partitions into folds.
        seed: of folds, draws and noise.
        shares: of the images that are not held out, rising to 1.
        noise: shares of labels to replace.
    """
    rng = np.random.default_rng(seed)
    x_NF = axes(features_NF)
    group_N = np.unique(groups_N, return_inverse=True)[1]
    code_N = question.target_ND.argmax(axis=1) if question.classes else None
    error_CN = np.zeros((len(shares) + len(noise), len(x_NF)))
    sizes = []
    for repeat in range(repeats):
        for train, held_out in folds(group_N, code_N, seed=seed + repeat):
            order = drawn(train, group_N, code_N, rng)
            parts = [_prefix(order, group_N, share) for share in shares]
            sizes.append([len(part) for part in parts])
            probes = [fitted(x_NF[part], question, question.target_ND[part]) for part in parts]
            probes += [fitted(x_NF[order], question, noisy(question, order, group_N, q, rng)) for q in noise]
            for column, probe in enumerate(probes):
                error_CN[column, held_out] += wrong(probe(x_NF[held_out]), question, held_out) / repeats
    weight_N = weights(question)
    error_C = error_CN @ weight_N / weight_N.sum()
    resampled_BC = _resampled(error_CN, weight_N, group_N, rng)
    sizes_J = len(shares)
    return Curve(np.mean(sizes, axis=0), error_C[:sizes_J], resampled_BC[:, :sizes_J],
                 error_C[sizes_J:], resampled_BC[:, sizes_J:])  # fmt: skip


def axes(features_NF: Array) -> Array:
    """The features along as many of their axes as the number of images is worth."""
    return principal(features_NF, max(AXES, len(features_NF) // IMAGES_PER_AXIS))


def drawn(train: Array, group_N: Array, code_N: Array | None, rng: np.random.Generator) -> Array:
    """The images of a training set, group by group, in a random order of which every beginning has all classes."""
    names, first, place = np.unique(group_N[train], return_index=True, return_inverse=True)
    turn = rng.permutation(len(names)).astype(float)
    if code_N is not None:
        code = code_N[train][first]
        for one in np.unique(code):
            mine = np.flatnonzero(code == one)
            turn[mine[np.argsort(turn[mine])]] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return train[np.argsort(turn[place], kind="stable")]


def _prefix(order: Array, group_N: Array, share: float) -> Array:
    """The first groups whose images are at least this share of all."""
    end = int(np.ceil(share * len(order)))
    while end < len(order) and group_N[order[end]] == group_N[order[end - 1]]:
        end += 1
    return order[:end]


def fitted(x_NF: Array, question: Asked, target_ND: Array) -> Ridge:
    """Ridge regression on the targets, each in a unit in which they matter alike; what is unknown is their mean.

    A class is scaled by the root of how frequent it is, as optimal scoring has it (Hastie, Buja and Tibshirani 1995),
    so that the largest answer is not always the most frequent class.
    """
    if question.classes:
        return ridge(x_NF, target_ND / np.sqrt(np.maximum(target_ND.mean(axis=0), 1 / len(x_NF))), standardized=False)
    target_ND = np.where(np.isnan(target_ND), np.nanmean(question.target_ND, axis=0), target_ND)
    return ridge(x_NF, target_ND / np.nanstd(question.target_ND, axis=0), standardized=False)


def wrong(answer_MD: Array, question: Asked, at: Array) -> Array:
    """[M]: 1 for a wrong class, else the mean squared error of the numbers in units of their variance."""
    truth_MD = question.target_ND[at]
    if question.classes:
        return (answer_MD.argmax(axis=1) != truth_MD.argmax(axis=1)).astype(float)
    squared = (answer_MD - truth_MD / np.nanstd(question.target_ND, axis=0)) ** 2
    known = ~np.isnan(squared)
    return np.where(known, squared, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def weights(question: Asked) -> Array:
    """[N]: every class counts alike, every image where there are none."""
    if not question.classes:
        return np.ones(len(question.target_ND))
    return (question.target_ND / np.maximum(question.target_ND.sum(axis=0), 1)).sum(axis=1)


def noisy(question: Asked, order: Array, group_N: Array, share: float, rng: np.random.Generator) -> Array:
    """Targets of these images with a share replaced: by another class, or by the numbers of another image.

    Images of one group and one class keep one class.
    """
    target_ND = question.target_ND[order].copy()
    if not question.classes:
        chosen = rng.choice(len(order), round(share * len(order)), replace=False)
        target_ND[chosen] = target_ND[rng.permutation(chosen)]
        return target_ND
    kinds = target_ND.shape[1]
    code = target_ND.argmax(axis=1)
    units, unit = np.unique(np.stack([group_N[order], code]), axis=1, return_inverse=True)
    other = units[1].copy()
    chosen = rng.choice(len(other), round(share * len(other)), replace=False)
    other[chosen] = (other[chosen] + rng.integers(1, kinds, len(chosen))) % kinds
    return np.eye(kinds)[other[unit]]


def _resampled(error_CN: Array, weight_N: Array, group_N: Array, rng: np.random.Generator) -> Array:
    """[B, C]: errors of the same probes on groups drawn with replacement, the same ones for all C."""
    groups = int(group_N.max()) + 1
    often_BN = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)[:, group_N] * weight_N
    return (often_BN @ error_CN.T) / often_BN.sum(axis=1, keepdims=True)
