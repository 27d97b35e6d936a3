"""Learning curve of a simple probe: out-of-fold error by number of training images and by label noise."""

from dataclasses import dataclass

import numpy as np

from stages.core.shapes import Array, Float, Integer, Shaped
from stages.probes.cross_validation import folds
from stages.probes.regression_targets import RegressionTargets
from stages.probes.ridge import Ridge, principal, ridge

SHARES = np.geomspace(1 / 8, 1, 6)
"""Sizes of the training sets, as shares of the images that are not held out."""
NOISE = (0.05, 0.1, 0.2)
"""Shares of training labels that are replaced."""
AXES = 512  # principal axes to which features are reduced; more if there are many images
IMAGES_PER_AXIS = 10  # so that the capacity of the probe grows with the number of images
RESAMPLES = 500


@dataclass(frozen=True)
class Curve:
    """Out-of-fold errors, averaged over folds and repeats, with bootstrap replicates."""

    images_J: Float[Array, " J"]
    """Number of training images, averaged over folds."""
    error_J: Float[Array, " J"]
    """Classes: error rate, averaged over classes. Numbers: unexplained share of the variance, averaged over targets."""
    resampled_BJ: Float[Array, "B J"]
    """Bootstrap replicates of `error_J` over held-out groups, with the same groups for all sizes."""
    noisy_Q: Float[Array, " Q"]
    """Error at the largest size with each of the Q shares of the training labels replaced."""
    noisy_BQ: Float[Array, "B Q"]
    """Bootstrap replicates of `noisy_Q`, with the groups of `resampled_BJ`."""


def measure_curve(
    features_NF: Float[Array, "N F"],
    targets: RegressionTargets,
    groups_N: Shaped[Array, " N"],
    repeats: int = 1,
    seed: int = 0,
    shares: Float[Array, " J"] = SHARES,
    noise: tuple[float, ...] = NOISE,
) -> Curve:
    """Measure the out-of-fold error of the probe on nested, stratified subsets of the training groups.

    Each repeat has five folds, or one per group if there are fewer groups. Only classes are stratified.

    Args:
        features_NF: features, such as those of `stages.probes.image_features`.
        targets: targets of the N images.
        groups_N: group of each image.
        repeats: number of random partitions into folds.
        seed: seed of the folds, subsets and noise.
        shares: sizes of the training sets, as shares of the images that are not held out, rising to 1.
        noise: shares of the labels to replace.

    Raises:
        ValueError: fewer than two groups.
    """
    rng = np.random.default_rng(seed)
    x_NF = principal_features(features_NF)
    group_N = np.unique(groups_N, return_inverse=True)[1]
    code_N = targets.target_ND.argmax(axis=1) if targets.classes else None
    error_CN = np.zeros((len(shares) + len(noise), len(x_NF)))
    sizes = []
    for repeat in range(repeats):
        for train, held_out in folds(group_N, code_N, seed=seed + repeat):
            order = nested_order(train, group_N, code_N, rng)
            parts = [_prefix(order, group_N, share) for share in shares]
            sizes.append([len(part) for part in parts])
            probes = [fit_probe(x_NF[part], targets, targets.target_ND[part]) for part in parts]
            probes += [fit_probe(x_NF[order], targets, noisy(targets, order, group_N, q, rng)) for q in noise]
            for column, probe in enumerate(probes):
                error_CN[column, held_out] += errors(probe(x_NF[held_out]), targets, held_out) / repeats
    weight_N = weights(targets)
    error_C = error_CN @ weight_N / weight_N.sum()
    resampled_BC = resample_errors(error_CN, weight_N, group_N, rng)
    sizes_J = len(shares)
    return Curve(np.mean(sizes, axis=0), error_C[:sizes_J], resampled_BC[:, :sizes_J],
                 error_C[sizes_J:], resampled_BC[:, sizes_J:])  # fmt: skip


def principal_features(features_NF: Float[Array, "N F"]) -> Float[Array, "N _"]:
    """Return the features along their principal axes, whose number grows with the number of images."""
    return principal(features_NF, max(AXES, len(features_NF) // IMAGES_PER_AXIS))


def nested_order(
    train: Integer[Array, " T"],
    group_N: Integer[Array, " N"],
    code_N: Integer[Array, " N"] | None,
    rng: np.random.Generator,
) -> Integer[Array, " T"]:
    """Return training images in a random order of groups in which every prefix is stratified.

    Args:
        train: indices of the training images.
        group_N: group of each image.
        code_N: class of each image; None: not stratified.
        rng: random generator.
    """
    names, first, place = np.unique(group_N[train], return_index=True, return_inverse=True)
    turn = rng.permutation(len(names)).astype(float)
    if code_N is not None:
        code = code_N[train][first]
        for value in np.unique(code):
            of_class = np.flatnonzero(code == value)
            turn[of_class[np.argsort(turn[of_class])]] = (np.arange(len(of_class)) + rng.random()) / len(of_class)
    return train[np.argsort(turn[place], kind="stable")]


def _prefix(order: Integer[Array, " T"], group_N: Integer[Array, " N"], share: float) -> Integer[Array, " _"]:
    """Return the images of the first groups that together contain at least this share of the images."""
    end = int(np.ceil(share * len(order)))
    while end < len(order) and group_N[order[end]] == group_N[order[end - 1]]:
        end += 1
    return order[:end]


def fit_probe(x_NF: Float[Array, "N F"], targets: RegressionTargets, target_ND: Float[Array, "N D"]) -> Ridge:
    """Fit ridge regression on standardized targets; unknown targets are replaced by their mean.

    Class indicators are divided by the square root of the class frequency (optimal scoring, Hastie, Buja and Tibshirani
    1995), so that the largest output is not always the most frequent class.

    Args:
        x_NF: features.
        targets: targets of all images; those that are numbers define the scale.
        target_ND: targets of the rows of `x_NF`.
    """
    if targets.classes:
        return ridge(x_NF, target_ND / np.sqrt(np.maximum(target_ND.mean(axis=0), 1 / len(x_NF))), standardized=False)
    target_ND = np.where(np.isnan(target_ND), np.nanmean(targets.target_ND, axis=0), target_ND)
    return ridge(x_NF, target_ND / np.nanstd(targets.target_ND, axis=0), standardized=False)


def errors(
    prediction_MD: Float[Array, "M D"], targets: RegressionTargets, at: Integer[Array, " M"]
) -> Float[Array, " M"]:
    """Return the error of each predicted image.

    For classes, the error is 1 if the class is wrong, else 0. For numbers, it is the squared error relative to the
    variance of the target, averaged over the known targets of the image; 0 if none is known.

    Args:
        prediction_MD: predictions; numbers in units of the standard deviation of each target.
        targets: targets of all images.
        at: indices of the predicted images.
    """
    truth_MD = targets.target_ND[at]
    if targets.classes:
        return (prediction_MD.argmax(axis=1) != truth_MD.argmax(axis=1)).astype(float)
    squared = (prediction_MD - truth_MD / np.nanstd(targets.target_ND, axis=0)) ** 2
    known = ~np.isnan(squared)
    return np.where(known, squared, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def weights(targets: RegressionTargets) -> Float[Array, " N"]:
    """Return weights of the images that give every class the same total; 1 if there are no classes."""
    if not targets.classes:
        return np.ones(len(targets.target_ND))
    return (targets.target_ND / np.maximum(targets.target_ND.sum(axis=0), 1)).sum(axis=1)


def noisy(
    targets: RegressionTargets,
    order: Integer[Array, " T"],
    group_N: Integer[Array, " N"],
    share: float,
    rng: np.random.Generator,
) -> Float[Array, "T D"]:
    """Return targets with a share replaced by another class, or by the numbers of another image.

    Images with the same group and class are replaced together; numbers are exchanged regardless of groups.

    Args:
        targets: targets of all images.
        order: indices of the T images whose targets are returned.
        group_N: group of each image.
        share: share to replace, 0 to 1: of the pairs of group and class, or of the images for numbers.
        rng: random generator.
    """
    target_ND = targets.target_ND[order].copy()
    if not targets.classes:
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


def resample_errors(
    error_CN: Float[Array, "C N"],
    weight_N: Float[Array, " N"],
    group_N: Integer[Array, " N"],
    rng: np.random.Generator,
) -> Float[Array, "B C"]:
    """Return bootstrap replicates of mean errors over groups, with the same groups for all columns.

    Args:
        error_CN: errors of each image, in C columns.
        weight_N: weight of each image.
        group_N: group of each image, numbered from 0.
        rng: random generator.
    """
    groups = int(group_N.max()) + 1
    weight_BN = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)[:, group_N] * weight_N
    return (weight_BN @ error_CN.T) / weight_BN.sum(axis=1, keepdims=True)
