"""Bones along annotated points: given as pairs, or the tree of points that lie near each other.

Axes: N images, P points, S points that are in some image, K bones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.articulation.skeleton import MAX_BONES, NO_BONES, bone_lengths

Array = np.ndarray[Any, Any]


def infer_point_tree(xy_NP2: Array) -> list[int]:
    """Parent of each point, -1 for the root and for points that are in no image.

    Of all training images, NaN where a point is missing: the minimum spanning tree over the median distance between
    two points where both are there, rooted at the point from which the ways to all others are shortest in sum.
    """
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

    parent_P = np.full(xy_NP2.shape[1], -1)
    seen_P = np.flatnonzero(np.isfinite(xy_NP2).all(axis=2).any(axis=0))
    if len(seen_P) < 2:
        return parent_P.tolist()
    xy_NS2 = xy_NP2[:, seen_P]
    apart_SS = np.stack([_medians(np.linalg.norm(xy_NS2 - xy_NS2[:, [point]], axis=2)) for point in range(len(seen_P))])
    never_SS = np.isnan(apart_SS)
    far = 1 + 2 * float(np.nansum(apart_SS))  # two that are never together are joined last, but are joined
    tree = minimum_spanning_tree(np.where(never_SS, far, np.maximum(apart_SS, 1e-6)))
    way_SS, before_SS = dijkstra(tree, directed=False, return_predecessors=True)
    before_S = before_SS[way_SS.sum(axis=1).argmin()]
    parent_P[seen_P] = np.where(before_S >= 0, seen_P[np.maximum(before_S, 0)], -1)
    return parent_P.tolist()


def _medians(values_NP: Array) -> Array:
    """The lower median of what is not NaN in each column; NaN where nothing is there."""
    middle_P = np.maximum((~np.isnan(values_NP)).sum(axis=0) - 1, 0) // 2
    return np.take_along_axis(np.sort(values_NP, axis=0), middle_P[None], axis=0)[0]


def trees_from_pairs(pairs: Sequence[tuple[str, str]], points: Sequence[str]) -> list[list[int]]:
    """The parents of each tree that (nearer the trunk, farther from it) pairs of names say; -1 elsewhere.

    Raises:
        ValueError: a name is no point, a point has two parents, or a chain of pairs is closed.
    """
    order = {name: index for index, name in enumerate(points)}
    above: dict[int, int] = {}
    for parent, child in pairs:
        for name in (parent, child):
            if name not in order:
                raise ValueError(f"{name} is no point; the points are {', '.join(points)}")
        if order[child] in above:
            raise ValueError(f"{child} hangs from {points[above[order[child]]]} and from {parent}; it may from one")
        above[order[child]] = order[parent]

    def root_of(point: int) -> int:
        for _ in points:
            if point not in above:
                return point
            point = above[point]
        raise ValueError(f"{points[point]} hangs from itself")

    roots = {point: root_of(point) for point in above}
    return [
        [above[point] if roots.get(point) == root else -1 for point in range(len(points))]
        for root in sorted(set(roots.values()))
    ]


def bones_from_points(xy_P2: Array, trees: Sequence[list[int]], size: int) -> Array:
    """Bones [K, 7] as those of a foreground, from every visible point to its nearest visible ancestor.

    Points in pixels, NaN where missing, in an image `size` pixels long; the parents of each tree. Of a tree the first
    bone, which stays, is the longest at its root. The radius is guessed, .3 of the length within 2 to 8 % of the size.
    """
    figures = [figure for tree in trees if len(figure := _figure(xy_P2, tree, size))]
    first = np.cumsum([0, *map(len, figures)])
    for figure, offset in zip(figures, first, strict=False):
        figure[:, 5] += np.where(figure[:, 5] >= 0, offset, 0)
    return np.concatenate(figures)[:MAX_BONES].astype(np.float32) if figures else NO_BONES


def _figure(xy_P2: Array, parents: list[int], size: int) -> Array:
    children = _children(np.asarray(np.isfinite(xy_P2).all(axis=1)), parents)
    if sum(map(len, children.values())) < 2:
        return NO_BONES
    root = next(iter(children))
    order = sorted(children[root], key=lambda child: -float(np.linalg.norm(xy_P2[child] - xy_P2[root])))
    pairs = [(root, child) for child in order]
    for _, point in pairs:  # grows meanwhile: parents before children, those near the root first
        pairs += [(point, child) for child in children.get(point, [])]
    number = {child: index for index, (_, child) in enumerate(pairs)}
    bone_K7 = np.zeros((len(pairs), 7))
    for index, (point, child) in enumerate(pairs):
        bone_K7[index] = [*xy_P2[point], *xy_P2[child], 0, number.get(point, 0 if index else -1), 1]
    bone_K7[:, 4] = np.clip(0.3 * bone_lengths(bone_K7), 0.02 * size, 0.08 * size)
    return bone_K7


def _children(visible_P: Array, parents: list[int]) -> dict[int, list[int]]:
    """Visible children of each visible point, the root first.

    Where the root is missing, the one of its visible children that has most itself stands in for it.
    """
    children: dict[int, list[int]] = {}
    for point, parent in enumerate(parents):
        if not visible_P[point] or (parent < 0 and point not in parents):
            continue
        above = parent
        while above >= 0 and not visible_P[above]:
            above = parents[above]
        children.setdefault(above, []).append(point)
    tops = children.pop(-1, [])
    if not tops:
        return {}
    root = max(tops, key=lambda top: len(children.get(top, [])))
    return {root: [top for top in tops if top != root] + children.pop(root, []), **children}
