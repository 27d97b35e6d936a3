"""Two-sample tests between the stored distributions of the reference images and the values of new images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer
from stages.drift.prediction_summary import Value
from stages.drift.reference_statistics import OTHER, count_in_bins

FALSE_ALARM_RATE = 0.01
"""Largest share of batches from the same distribution as the reference in which a difference is reported."""
MIN_IMAGES = 20
"""Fewest independent images on either side with which distributions are compared."""
MIN_DISTANCE = 0.1
"""Smallest difference of shares, 0 to 1, that is reported however many images show it."""
MIN_CLASS_DISTANCE = 0.05
"""The same for the shares of classes: one class in twenty is missing."""
DRAWS, CHUNK, ENOUGH = 9999, 1000, 100
"""Random divisions with which the difference of class shares is compared: at most, at a time, and the number of larger
differences after which no more are drawn (Besag and Clifford 1991, "Sequential Monte Carlo p-values")."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of one statistic of new images with the reference."""

    name: str
    of: str
    """`inputs` or `predictions`."""
    images: int
    """Number of new images with a value."""
    before: str
    """Reference value, such as the median, in words."""
    now: str
    """Value of the new images, in words."""
    distance: float
    """Largest difference of the cumulative shares of numbers, or total variation distance of class shares: 0 to 1."""
    p: float
    """P-value of this statistic alone."""
    least: float
    """Smallest distance that is reported."""
    adjusted_p: float = 1.0
    """P-value corrected for all statistics of the batch (Holm 1979)."""
    drifted: bool = False
    """Whether `adjusted_p` is at most `FALSE_ALARM_RATE` and the distance at least `least`."""

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return asdict(self)


def compare_statistic(name: str, of: str, stored: Mapping[str, Any], values: Sequence[Value]) -> Comparison | str:
    """Compare the values of new images with a stored distribution; return the reason if that is not possible.

    Args:
        name: name of the statistic.
        of: `inputs` or `predictions`.
        stored: distribution in a reference of `build_reference`.
        values: values of the new images.
    """
    if stored["effective"] < MIN_IMAGES:
        return (
            f"{name}: the reference images are in so few or so different groups that they correspond to "
            f"{stored['effective']:.0f} independent images; {MIN_IMAGES} are required"
        )
    if len(values) < MIN_IMAGES:
        return f"{name}: {len(values)} new images have a value; {MIN_IMAGES} are required"
    if "classes" in stored:
        return _compare_classes(name, of, stored, [str(value) for value in values])
    return _compare_numbers(name, of, stored, np.array(values, float))


def correct(found: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with p-values corrected by the method of Holm, and with the verdict, in the same order.

    The chance that any statistic of a batch from the reference distribution is reported is at most `FALSE_ALARM_RATE`,
    whatever the dependence between the statistics.
    """
    corrected, lowest = list(found), 0.0
    for rank, index in enumerate(sorted(range(len(found)), key=lambda i: found[i].p)):
        lowest = max(lowest, min(1.0, (len(found) - rank) * found[index].p))
        drifted = lowest <= FALSE_ALARM_RATE and found[index].distance >= found[index].least
        corrected[index] = replace(found[index], adjusted_p=lowest, drifted=drifted)
    return corrected


def _compare_numbers(name: str, of: str, stored: Mapping[str, Any], value_N: Float[Array, " N"]) -> Comparison:
    """Kolmogorov-Smirnov test on the bins of the reference, which has at most the false-alarm rate of the full test."""
    from scipy.stats import kstwo

    edges = stored["edges"]
    before, now = (_cumulative(c) for c in (np.array(stored["counts"]), count_in_bins(value_N, edges)))
    apart = now - before
    worst = int(np.abs(apart).argmax())
    distance = float(abs(apart[worst]))
    size = stored["effective"] * len(value_N) / (stored["effective"] + len(value_N))
    p = float(min(1.0, kstwo.sf(distance, max(1, round(size)))))
    share = f"of images up to {edges[worst]:.4g}"
    return Comparison(
        name,
        of,
        len(value_N),
        f"median {stored['median']:.4g}, {before[worst]:.0%} {share}",
        f"median {np.median(value_N):.4g}, {now[worst]:.0%} {share}",
        distance,
        p,
        MIN_DISTANCE,
    )


def _cumulative(counts: Integer[Array, " B"]) -> Float[Array, " B-1"]:
    """Return the share of values up to each edge."""
    return np.cumsum(counts)[:-1] / counts.sum()


def _compare_classes(name: str, of: str, stored: Mapping[str, Any], labels: list[str]) -> Comparison:
    """Permutation test of Pearson's statistic: all images are divided at random into two sets of the same sizes."""
    known = stored["classes"]
    found = Counter(label if label in known or OTHER not in known else OTHER for label in labels)
    names = [*known, *sorted(set(found) - set(known))]
    before_K = np.array([known.get(label, 0) for label in names])
    now_K = np.array([found[label] for label in names])
    share_K, now_share_K = before_K / before_K.sum(), now_K / now_K.sum()
    apart_K = now_share_K - share_K
    independent_K = np.round(before_K * stored["effective"] / before_K.sum()).astype(int)
    most = [int(k) for k in np.argsort(-np.abs(apart_K), kind="stable")[:3] if apart_K[k]]
    return Comparison(
        name,
        of,
        len(labels),
        ", ".join(f"{names[k]} {share_K[k]:.0%}" for k in most),
        ", ".join(f"{names[k]} {now_share_K[k]:.0%}" for k in most),
        float(np.abs(apart_K).sum() / 2),
        _permutation_p(now_K, independent_K + now_K),
        MIN_CLASS_DISTANCE,
    )


def _permutation_p(now_K: Integer[Array, " K"], all_K: Integer[Array, " K"]) -> float:
    """Return the share of random divisions of all images in which the classes differ as much or more."""
    rng, found = np.random.default_rng(0), _pearson(now_K[None], all_K)[0] - 1e-9
    larger = drawn = 0
    while drawn < DRAWS and larger < ENOUGH:
        count_JK = rng.multivariate_hypergeometric(all_K, now_K.sum(), min(CHUNK, DRAWS - drawn))
        larger += int((_pearson(count_JK, all_K) >= found).sum())
        drawn += len(count_JK)
    return (1 + larger) / (1 + drawn)


def _pearson(count_JK: Integer[Array, "J K"], all_K: Integer[Array, " K"]) -> Float[Array, " J"]:
    """Return Pearson's chi-squared statistic of the counts of one of two sets, up to a constant factor."""
    expected_K = all_K * (count_JK[0].sum() / all_K.sum())
    there_K = all_K > 0
    return ((count_JK - expected_K)[:, there_K] ** 2 / expected_K[there_K]).sum(axis=1)
