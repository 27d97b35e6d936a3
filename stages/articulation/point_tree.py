"""Bones along annotated points: from given pairs, or from a minimum spanning tree of the points.

Axes: N images, P points, S points that are visible in some image, K bones.
"""

from collections.abc import Sequence

import numpy as np

from stages.articulation.skeleton import MAX_BONES, NO_BONES, bone_lengths
from stages.config.combinations import skeleton_problem
from stages.core.shapes import Array, Bool, Float


def infer_point_tree(xy_NP2: Float[Array, "N P 2"]) -> list[int]:
    """Infer the parent of each point; -1 for the root and for points that are visible in no image.

    The tree is the minimum spanning tree of the median distances between points, rooted at the point with the smallest
    sum of path lengths to all others.

    Args:
        xy_NP2: points of the training images, pixels; NaN where a point is missing.

    Returns:
        index of the parent of each of the P points.
    """
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

    parent_P = np.full(xy_NP2.shape[1], -1)
    seen_P = np.flatnonzero(np.isfinite(xy_NP2).all(axis=2).any(axis=0))
    if len(seen_P) < 2:
        return parent_P.tolist()
    xy_NS2 = xy_NP2[:, seen_P]
    apart_SS = np.stack([_medians(np.linalg.norm(xy_NS2 - xy_NS2[:, [point]], axis=2)) for point in range(len(seen_P))])
    never_SS = np.isnan(apart_SS)
    far = 1 + 2 * float(np.nansum(apart_SS))  # points that never occur together are linked last
    tree = minimum_spanning_tree(np.where(never_SS, far, np.maximum(apart_SS, 1e-6)))
    way_SS, before_SS = dijkstra(tree, directed=False, return_predecessors=True)
    before_S = before_SS[way_SS.sum(axis=1).argmin()]
    parent_P[seen_P] = np.where(before_S >= 0, seen_P[np.maximum(before_S, 0)], -1)
    return parent_P.tolist()


def _medians(values_NP: Float[Array, "N P"]) -> Float[Array, " P"]:
    """Return the lower median of each column, ignoring NaN; NaN for columns that contain only NaN."""
    middle_P = np.maximum((~np.isnan(values_NP)).sum(axis=0) - 1, 0) // 2
    return np.take_along_axis(np.sort(values_NP, axis=0), middle_P[None], axis=0)[0]


def trees_from_pairs(pairs: Sequence[tuple[str, str]], points: Sequence[str]) -> list[list[int]]:
    """Return the parents of the points for each tree that the pairs define; -1 for its root and points outside it.

    Args:
        pairs: names of parent and child, the parent nearer to the trunk.
        points: names of all points.

    Raises:
        ValueError: a name is not a point, a point has two parents, or the pairs form a cycle.
    """
    order = {name: index for index, name in enumerate(points)}
    above: dict[int, int] = {}
    for parent, child in pairs:
        for name in (parent, child):
            if name not in order:
                raise ValueError(f"{name} is not a point; the points are {', '.join(points)}")
        above[order[child]] = order[parent]
    if problem := skeleton_problem(pairs):
        raise ValueError(problem)

    def root_of(point: int) -> int:
        while point in above:
            point = above[point]
        return point

    roots = {point: root_of(point) for point in above}
    return [
        [above[point] if roots.get(point) == root else -1 for point in range(len(points))]
        for root in sorted(set(roots.values()))
    ]


def bones_from_points(xy_P2: Float[Array, "P 2"], trees: Sequence[list[int]], size: int) -> Float[Array, "K 7"]:
    """Return a bone from the nearest visible ancestor to every visible point, in the format of `bones_from_foreground`.

    If the root of a tree is not visible, one of its nearest visible descendants replaces it. The first bone of a tree,
    which has no parent and does not move, is the longest at its root. The radius is estimated as 0.3 of the length,
    clipped to 2 to 8 % of the size; the flexibility is 1. Trees that would have only one bone are omitted, and at most
    `MAX_BONES` bones are returned.

    Args:
        xy_P2: points, pixels; NaN where missing.
        trees: parents of the points for each tree.
        size: side of the image, pixels.
    """
    figures = [figure for tree in trees if len(figure := _bones_of_tree(xy_P2, tree, size))]
    first = np.cumsum([0, *map(len, figures)])
    for figure, offset in zip(figures, first, strict=False):
        figure[:, 5] += np.where(figure[:, 5] >= 0, offset, 0)
    return np.concatenate(figures)[:MAX_BONES].astype(np.float32) if figures else NO_BONES


def _bones_of_tree(xy_P2: Float[Array, "P 2"], parents: list[int], size: int) -> Float[Array, "K 7"]:
    children = _children(np.asarray(np.isfinite(xy_P2).all(axis=1)), parents)
    if sum(map(len, children.values())) < 2:
        return NO_BONES
    root = next(iter(children))
    order = sorted(children[root], key=lambda child: -float(np.linalg.norm(xy_P2[child] - xy_P2[root])))
    pairs = [(root, child) for child in order]
    for _, point in pairs:  # extended while iterating: parents before children
        pairs += [(point, child) for child in children.get(point, [])]
    number = {child: index for index, (_, child) in enumerate(pairs)}
    bone_K7 = np.zeros((len(pairs), 7))
    for index, (point, child) in enumerate(pairs):
        bone_K7[index] = [*xy_P2[point], *xy_P2[child], 0, number.get(point, 0 if index else -1), 1]
    bone_K7[:, 4] = np.clip(0.3 * bone_lengths(bone_K7), 0.02 * size, 0.08 * size)
    return bone_K7


def _children(visible_P: Bool[Array, " P"], parents: list[int]) -> dict[int, list[int]]:
    """Return the visible children of each visible point, the root first.

    A missing root is replaced by its nearest visible descendant with the most visible children.
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
