"""Distributions of the reference images, small enough for the metadata of a model file.

A distribution of numbers is stored as a histogram between quantiles, and that of a class as counts. Both can be
compared exactly with those of other images, also if many values are equal.

Axes: N images, D columns.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer, Shaped

BINS = 32
MAX_CLASSES = 200
"""Number of classes, the most frequent ones, with their own count; the others share one."""
OTHER = "(other classes)"


def build_reference(
    columns: Mapping[str, Sequence[float] | Sequence[str]], group_N: Shaped[Array, " N"]
) -> dict[str, Any]:
    """Return the distributions of the reference images for JSON.

    `effective` is the number of independent images to which the N images correspond. Images of a group, such as the
    frames of a video, are alike; the number is N / (1 + (m - 1) r) with the mean group size m, weighted by images, and
    the intraclass correlation r of the ranks of the numbers, or of the classes (Kish 1965, "Survey sampling").

    Args:
        columns: values of the N images by name: numbers (NaN if unknown), or classes.
        group_N: group of each image.
    """
    code_N = np.unique(np.asarray(group_N), return_inverse=True)[1]
    found = {name: _describe(values, code_N) for name, values in columns.items()}
    statistics = {name: about for name, about in found.items() if about}
    return {"images": len(code_N), "groups": int(code_N.max() + 1), "statistics": statistics}


def _describe(values: Sequence[float] | Sequence[str], code_N: Integer[Array, " N"]) -> dict[str, Any]:
    if len(values) and isinstance(values[0], str):
        return _describe_classes([str(value) for value in values], code_N)
    value_N = np.asarray(values, float)
    known_N = np.isfinite(value_N)
    return _describe_numbers(value_N[known_N], code_N[known_N]) if known_N.any() else {}


def _describe_numbers(value_N: Float[Array, " N"], code_N: Integer[Array, " N"]) -> dict[str, Any]:
    single_N = value_N.astype(np.float32)
    inner = np.quantile(single_N, np.linspace(0, 1, BINS + 1), method="inverted_cdf")
    edges = np.unique([np.nextafter(single_N.min(), np.float32(-np.inf)), *inner])
    ordered_N = np.sort(single_N)
    rank_N = np.searchsorted(ordered_N, single_N, side="left") + np.searchsorted(ordered_N, single_N, side="right")
    return {
        "edges": [float(str(edge)) for edge in edges],  # the shortest text that gives the same 32 bits
        "counts": count_in_bins(value_N, edges).tolist(),
        "median": float(str(np.float32(np.median(value_N)))),
        "effective": round(effective_size(rank_N[:, None].astype(float), code_N), 1),
    }


def _describe_classes(names: list[str], code_N: Integer[Array, " N"]) -> dict[str, Any]:
    counts = Counter(names)
    kept = [name for name, _ in counts.most_common(MAX_CLASSES)]
    classes = {name: counts[name] for name in sorted(kept)}
    if rest := len(names) - sum(classes.values()):
        classes[OTHER] = rest
    one_hot_ND = np.array([[name == other for other in kept] for name in names], float)
    return {"classes": classes, "effective": round(effective_size(one_hot_ND, code_N), 1)}


def count_in_bins(value_N: Float[Array, " N"], edges: Sequence[float] | Float[Array, " E"]) -> Integer[Array, " _"]:
    """Return the number of values up to the first edge, above it and up to the second one, ..., and above the last.

    >>> count_in_bins(np.array([1.0, 2.0, 2.0, 5.0]), [1.0, 2.0]).tolist()
    [1, 2, 1]
    """
    return np.bincount(positions(value_N, edges), minlength=len(edges) + 1)


def positions(value_N: Float[Array, " N"], edges: Sequence[float] | Float[Array, " E"]) -> Integer[Array, " N"]:
    """Return the number of the bin of each value; values and edges are compared in 32 bits."""
    return np.searchsorted(np.asarray(edges, np.float32), value_N.astype(np.float32))


def effective_size(value_ND: Float[Array, "N D"], code_N: Integer[Array, " N"]) -> float:
    """Return the number of independent images to which images in groups correspond, between 1 and N.

    Args:
        value_ND: values of the images.
        code_N: number of the group of each image.

    >>> effective_size(np.array([[1.0], [1.0], [5.0], [5.0]]), np.array([0, 0, 1, 1]))
    2.0
    >>> effective_size(np.array([[1.0], [5.0], [2.0]]), np.array([0, 1, 2]))
    3.0
    """
    size_G = np.bincount(code_N)
    size_G = size_G[size_G > 0]
    count, groups = len(code_N), len(size_G)
    if groups in (1, count):
        return float(groups)
    weighted = float((size_G**2).sum()) / count
    code_N = np.unique(code_N, return_inverse=True)[1]
    sum_GD = np.zeros((groups, value_ND.shape[1]))
    np.add.at(sum_GD, code_N, value_ND)
    mean_GD, mean_D = sum_GD / size_G[:, None], value_ND.mean(axis=0)
    between = float((size_G[:, None] * (mean_GD - mean_D) ** 2).sum()) / (groups - 1)
    within = float(((value_ND - mean_GD[code_N]) ** 2).sum()) / (count - groups)
    usual = (count - weighted) / (groups - 1)
    total = between + (usual - 1) * within
    correlation = min(1.0, max(0.0, (between - within) / total)) if total > 0 else 1.0
    return count / (1 + (weighted - 1) * correlation)
