"""Extract articulated bones from a figure on a plain background.

The skeleton of the foreground (Zhang and Suen 1984) becomes a tree that is rooted at its thickest pixel. Branches that
leave the body are simplified (Douglas and Peucker 1973) and divided into bones.

Axes: N pixels of the skeleton, K bones, B pixels of the body.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from stages.core.shapes import Array, Bool, Float, Integer

MAX_BONES = 16  # maximum number of bones of a figure
MIN_SIDE = 8  # minimum side of an image, pixels
MIN_SHARE, MAX_SHARE = 0.01, 0.7  # of the image covered by the figure
MAX_BORDER_SHARE = 0.4  # of the outermost pixels covered by the figure
MIN_CONTRAST = 10.0  # grey levels between figure and background; also for 16 bits, which seldom use the full range
NOISE_FACTOR = 4.0  # minimum ratio of the threshold to the spread of the background
FAINT = 0.25  # share of the threshold for pixels next to certain ones: antennae are fainter than bodies
THICK = 0.5  # share of the maximum radius from which the skeleton belongs to the body
MAX_BODY_LENGTH = 2.5  # maximum distance of body pixels from the thickest pixel, in its radii; longer bodies bend
SPUR = 2.0  # minimum length of a branch in local radii
MIN_LIMB = 0.6, 3.0, 0.04  # minimum length of a limb in maximum radii, in pixels and in lengths of the figure
PIECES = 6  # straight bones shorter than the length of the figure divided by this number are not divided
SLENDER = 6.0  # straight bones shorter than this, in radii, are not divided
NO_BONES = np.zeros((0, 7), np.float32)


class _Tree(NamedTuple):
    """Skeleton of a figure as a tree; the root is the pixel with the largest radius."""

    xy_N2: Float[Array, "N 2"]
    """x and y, pixels."""
    radius_N: Float[Array, " N"]
    """Distance to the outline of the figure, pixels."""
    before_N: Integer[Array, " N"]
    """Next pixel on the path to the root; -1 at the root."""
    way_N: Float[Array, " N"]
    """Length of the path to the root, pixels."""


def bones_from_foreground(image_HWC: Integer[Array, "H W *C"]) -> Float[Array, "K 7"]:
    """Return the bones of the figure in an image.

    Args:
        image_HWC: uint8 or uint16 image, grey or with channels.

    Returns:
        float32 bones, K at most 16; K is 0 if nothing can move or no figure is detected. Columns: x, y of the
        joint and of the other end, pixels; radius (half the thickness), pixels; index of the parent, lower than that
        of the bone, -1 for row 0, the thickest part, which does not move; flexibility, 0 to 1, as a share of the
        largest joint angle, lower for short thick parts.
    """
    figure_HW = segment_foreground(image_HWC)
    if not figure_HW.any():
        return NO_BONES
    box = ndimage.find_objects(figure_HW.astype(np.int8))[0]
    tree = _tree(np.pad(figure_HW[box], 1))
    bone_K7 = _limit_bones(_bones_of_tree_branches(tree, float(np.hypot(*figure_HW[box].shape))))
    bone_K7[:, :4] += np.tile((box[1].start - 1, box[0].start - 1), 2)
    bone_K7[:, 6] = np.clip((bone_lengths(bone_K7) / (2 * bone_K7[:, 4]) - 0.5) / 2, 0, 1)
    return bone_K7.astype(np.float32) if len(bone_K7) > 1 else NO_BONES


def segment_foreground(image_HWC: Integer[Array, "H W *C"]) -> Bool[Array, "H W"]:
    """Segment the most salient object that differs from the colour of the border.

    Hysteresis thresholding is applied to the distance from that colour, with the threshold of Otsu (1979) as the upper
    one. Gaps of one pixel are closed and holes are filled.

    Args:
        image_HWC: uint8 or uint16 image, grey or with channels.

    Returns:
        mask; all False if no object is detected.
    """
    height, width = image_HWC.shape[:2]
    nothing_HW = np.zeros((height, width), bool)
    if min(height, width) < MIN_SIDE:
        return nothing_HW
    values_HWC = image_HWC.reshape(height, width, -1).astype(np.float32)
    rim_HW = ~np.pad(np.ones((height - 2, width - 2), bool), 1)
    from_ground_HWC = values_HWC - np.median(values_HWC[rim_HW], axis=0)
    distance_HW = np.sqrt(np.square(from_ground_HWC).mean(axis=2))
    smooth_HW = ndimage.gaussian_filter(distance_HW, 0.5)
    threshold, contrast = _otsu(smooth_HW)
    spread = float(np.median(distance_HW[rim_HW]))
    if (
        contrast < MIN_CONTRAST
        or threshold < NOISE_FACTOR * spread
        or (smooth_HW[rim_HW] > threshold).mean() > MAX_BORDER_SHARE
    ):
        return nothing_HW
    faint_HW = smooth_HW > max(FAINT * threshold, NOISE_FACTOR * spread)
    faint_HW |= ndimage.binary_closing(faint_HW, np.ones((3, 3)))
    part_HW, parts = ndimage.label(faint_HW, np.ones((3, 3)))
    certain_HW = smooth_HW > threshold
    weight_N = np.bincount(part_HW[certain_HW], smooth_HW[certain_HW], parts + 1)
    weight_N[0] = 0
    figure_HW = _filled(part_HW == weight_N.argmax())
    return figure_HW if MIN_SHARE <= figure_HW.mean() <= MAX_SHARE else nothing_HW


def _otsu(values_HW: Float[Array, "H W"]) -> tuple[float, float]:
    """Return the midpoint of the means of Otsu's two groups (1979), as threshold, and the distance of the means."""
    count_N, edge_N = np.histogram(values_HW, 128)
    centre_N = (edge_N[1:] + edge_N[:-1]) / 2
    below_N, sum_N = np.cumsum(count_N), np.cumsum(count_N * centre_N)
    above_N = below_N[-1] - below_N
    above_mean_N, below_mean_N = (sum_N[-1] - sum_N) / np.maximum(above_N, 1), sum_N / np.maximum(below_N, 1)
    best = int((below_N * above_N * np.square(above_mean_N - below_mean_N)).argmax())
    above, below = float(above_mean_N[best]), float(below_mean_N[best])
    return (above + below) / 2, above - below  # midpoint of the means, since many thresholds give the same groups


def _filled(figure_HW: Bool[Array, "H W"]) -> Bool[Array, "H W"]:
    """Return the figure without holes: background that does not reach the border becomes figure."""
    ground_HW, _ = ndimage.label(np.pad(~figure_HW, 1, constant_values=True))
    return ground_HW[1:-1, 1:-1] != ground_HW[0, 0]


def _tree(figure_HW: Bool[Array, "H W"]) -> _Tree:
    """Return the skeleton of a figure as a tree of shortest paths to its thickest pixel; loops are cut."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra
    from skimage.morphology import skeletonize

    depth_HW = ndimage.distance_transform_edt(figure_HW)
    bone_HW: Array = skeletonize(figure_HW)  # type: ignore[no-untyped-call]
    if not bone_HW.any():
        bone_HW = depth_HW == depth_HW.max()
    y_N, x_N = np.nonzero(bone_HW)
    number_HW = np.full(figure_HW.shape, -1)
    number_HW[y_N, x_N] = np.arange(len(x_N))
    edges, lengths = [], []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):  # the figure never touches the border
        to_N = number_HW[y_N + down, x_N + right]
        edges.append(np.stack([np.flatnonzero(to_N >= 0), to_N[to_N >= 0]]))
        lengths.append(np.full(edges[-1].shape[1], np.hypot(down, right)))
    edge_2E = np.concatenate(edges, axis=1)
    graph = csr_array((np.concatenate(lengths), (edge_2E[0], edge_2E[1])), (len(x_N), len(x_N)))
    radius_N = depth_HW[y_N, x_N] - 0.5  # the outline lies between two pixels
    way_N, before_N = dijkstra(graph, directed=False, indices=int(radius_N.argmax()), return_predecessors=True)
    assert np.isfinite(way_N).all(), "the skeleton of one object is connected"
    return _Tree(np.stack([x_N, y_N], axis=1).astype(np.float64), radius_N, np.maximum(before_N, -1), way_N)


def _bones_of_tree_branches(tree: _Tree, length: float) -> Float[Array, "K 7"]:
    """Return the bones of the body and of the branches that leave it and are long enough; flexibility is still 0."""
    bones, owner_N = _body(tree)
    thickest = tree.radius_N.max()
    least = max(MIN_LIMB[0] * thickest, MIN_LIMB[1], MIN_LIMB[2] * length)
    leaf_N = np.setdiff1d(np.arange(len(owner_N)), tree.before_N)
    for leaf in leaf_N[np.argsort(-tree.way_N[leaf_N], kind="stable")]:  # the longest first, since others branch off it
        branch = [int(leaf)]
        while owner_N[branch[-1]] < 0:
            branch.append(int(tree.before_N[branch[-1]]))
        fork, way_N = branch.pop(), np.array(branch[::-1], int)
        parent, wide = int(owner_N[fork]), tree.radius_N[fork]
        if parent:  # a branch of a limb starts at the outline of the limb
            way_N = way_N[np.linalg.norm(tree.xy_N2[way_N] - tree.xy_N2[fork], axis=1) >= wide]
        elif branch:
            wide = tree.radius_N[way_N[0]]
        if len(way_N) < 2 or tree.way_N[way_N[-1]] - tree.way_N[way_N[0]] < max(least, SPUR * wide):
            continue
        owner_N[branch] = parent
        for first, last in pairwise(_corners(tree, way_N, length)):
            piece_N = way_N[first : last + 1]
            ends = [*tree.xy_N2[piece_N[0]], *tree.xy_N2[piece_N[-1]]]
            bones.append([*ends, float(np.median(tree.radius_N[piece_N])), parent, 0.0])
            parent = len(bones) - 1
            owner_N[piece_N] = parent
    return np.array(bones)


def _body(tree: _Tree) -> tuple[list[list[float]], Integer[Array, " N"]]:
    """Return the bone along the axis of the body, and the owner of each skeleton pixel: 0 in the body, else -1.

    The bone is at least half as long as the body is thick, so that a round body has a direction.
    """
    from scipy.spatial.distance import cdist

    thickest = tree.radius_N.max()
    core_N = (tree.radius_N >= THICK * thickest) & (tree.way_N <= MAX_BODY_LENGTH * thickest)
    order_N = np.argsort(tree.way_N, kind="stable")
    for pixel in order_N[1:]:  # thick pixels beyond a thin pixel do not belong to the body
        core_N[pixel] &= core_N[tree.before_N[pixel]]
    body_B = order_N[core_N[order_N]]
    xy_B2, radius = tree.xy_N2[body_B], float(np.median(tree.radius_N[body_B]))
    one_2 = xy_B2[np.linalg.norm(xy_B2 - xy_B2[0], axis=1).argmax()]
    other_2 = xy_B2[np.linalg.norm(xy_B2 - one_2, axis=1).argmax()]
    along = float(np.linalg.norm(other_2 - one_2))
    half_2 = (other_2 - one_2) / along if along else np.array([1.0, 0.0])
    half_2, middle_2 = half_2 * max(along, radius) / 2, (one_2 + other_2) / 2
    some_B = body_B[:: 1 + len(body_B) // 64]  # a subset suffices, since the discs overlap
    covered_N = (cdist(tree.xy_N2, tree.xy_N2[some_B]) < tree.radius_N[some_B]).any(axis=1)
    bone = [*(middle_2 - half_2), *(middle_2 + half_2), radius, -1.0, 0.0]
    return [bone], np.where(covered_N | core_N, 0, -1)


def _corners(tree: _Tree, way_N: Integer[Array, " N"], length: float) -> list[int]:
    """Return the indices that divide a branch into bones, including the first and the last.

    Args:
        tree: skeleton of the figure.
        way_N: pixels of the branch, from the body outwards.
        length: length of the figure, pixels.
    """
    xy_N2, radius = tree.xy_N2[way_N], float(np.median(tree.radius_N[way_N]))
    shortest = max(MIN_LIMB[1], SPUR * radius)
    corners, pending = [0], [len(way_N) - 1]
    while pending:
        first, last = corners[-1], pending[-1]
        along_2, inner_N2 = xy_N2[last] - xy_N2[first], xy_N2[first : last + 1] - xy_N2[first]
        long = float(np.linalg.norm(along_2))
        aside_N = np.abs(inner_N2 @ np.array([-along_2[1], along_2[0]])) / max(long, 1e-6)
        aside_N = aside_N if long >= 1 else np.linalg.norm(inner_N2, axis=1)
        way = tree.way_N[way_N[last]] - tree.way_N[way_N[first]]
        bent = aside_N.max() > max(1.5, 0.5 * radius, 0.08 * way)
        middle = first + (int(aside_N.argmax()) if bent else (last - first) // 2)
        parts = tree.way_N[way_N[[first, middle, last]]]
        too_long = way > max(SLENDER * radius, length / PIECES)
        if (bent or too_long) and np.diff(parts).min() >= shortest:
            pending.append(middle)
        else:
            corners.append(pending.pop())
    return corners


def _limit_bones(bone_K7: Float[Array, "K 7"]) -> Float[Array, "_ 7"]:
    """Return at most 16 bones: while there are more, the shortest leaf is removed or merged with the bone before it."""
    while len(bone_K7) > MAX_BONES:
        parent_K = bone_K7[:, 5].astype(int)
        leaf_N = np.setdiff1d(np.arange(1, len(bone_K7)), parent_K)
        leaf = int(leaf_N[bone_lengths(bone_K7)[leaf_N].argmin()])
        if parent_K[leaf] > 0 and (bone_K7[leaf, :2] == bone_K7[parent_K[leaf], 2:4]).all():
            bone_K7[parent_K[leaf], 2:4] = bone_K7[leaf, 2:4]
        bone_K7 = np.delete(bone_K7, leaf, axis=0)
        bone_K7[:, 5] -= bone_K7[:, 5] > leaf
    return bone_K7


def bone_lengths(bone_K7: Float[Array, "K 7"]) -> Float[Array, " K"]:
    """Return the distance between the two ends of each bone, pixels."""
    return np.linalg.norm(bone_K7[:, 2:4] - bone_K7[:, :2], axis=1)
