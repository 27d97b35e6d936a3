"""Evidence that images of a group resemble one another, compared with images of other groups.

Similar parts of names do not relate images; similar images do. The pairs of images of a group are compared with the
pairs of images of different groups, those of equal classes and those of different classes apart. The groups of the
images are then permuted within each class: related images are more similar than under every permutation. Whether a
coarser grouping relates more images than a finer one is tested alike, on pairs from different groups of the finer one,
whose groups are permuted as a whole.

Axes: K opened images, P pairs of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.configuration.group_similarity import ImageSignature, describe_comparison
from stages.core.shapes import Array, Bool, Integer

PERMUTATIONS = 30
SURE = 3.3  # standard deviations above the mean of the permutations
FEWEST_GROUPS = 4  # groups with a compared pair


@dataclass(frozen=True)
class GroupEvidence:
    """Comparison of the pairs of images within groups with pairs of different groups."""

    by: str
    """Compared property: `picture` or `tone`."""
    auc: float
    """Probability that a pair of a group is more similar than a pair of different groups, 0 to 1."""
    sigmas: float
    """Standard deviations by which this exceeds the mean of permuted groups."""
    within: float
    """Median correlation of the thumbnails of a pair, or median difference in tone, grey levels."""
    between: float
    """The same for pairs of different groups."""
    pairs: int

    @property
    def significant(self) -> bool:
        """True if images of a group are more similar than by chance."""
        return self.sigmas >= SURE

    def __str__(self) -> str:
        return describe_comparison(self.by, self.auc, self.within, self.between, self.pairs)


class PairSimilarities:
    """Similarities of all pairs of opened images, by picture and by tone."""

    def __init__(self, known: dict[int, ImageSignature], labels: Sequence[str]) -> None:
        """Compare all pairs of images.

        Args:
            known: signatures by index.
            labels: class of each image of the source, or ''.
        """
        self.places = sorted(known)
        self.label_K = np.unique([labels[place] for place in self.places], return_inverse=True)[1]
        self.one_P, self.other_P = np.triu_indices(len(self.places), 1)
        self.same_class_P = self.label_K[self.one_P] == self.label_K[self.other_P]
        thumbnail_KF = np.stack([known[place].thumbnail for place in self.places])
        thumbnail_KF = thumbnail_KF - thumbnail_KF.mean(axis=0)  # removes the background of a static camera
        thumbnail_KF -= thumbnail_KF.mean(axis=1, keepdims=True)
        thumbnail_KF /= np.maximum(np.linalg.norm(thumbnail_KF, axis=1, keepdims=True), 1e-6)
        tone_KF = np.stack([known[place].tone for place in self.places])
        self.values_P = {
            "picture": (thumbnail_KF @ thumbnail_KF.T)[self.one_P, self.other_P],
            "tone": -np.abs(tone_KF[self.one_P] - tone_KF[self.other_P]).mean(axis=1),
        }
        self._orders = {by: np.argsort(values, kind="stable") for by, values in self.values_P.items()}

    def compare(self, groups: Sequence[int], finer: Sequence[int] | None = None) -> list[GroupEvidence]:
        """Compare the pairs within groups with the pairs between groups; the more similar property first.

        Args:
            groups: number of the group of each image of the source.
            finer: number of the group of each image in a finer grouping; pairs within its groups are left out.

        Returns:
            One comparison per property; empty if fewer than `FEWEST_GROUPS` groups have a pair, or none is unrelated.
        """
        group_K = np.array(groups)[self.places]
        unit_K = np.arange(len(self.places)) if finer is None else np.array(finer)[self.places]
        apart_P = unit_K[self.one_P] != unit_K[self.other_P]
        within_P = apart_P & (group_K[self.one_P] == group_K[self.other_P])
        if len(np.unique(group_K[self.one_P[within_P]])) < FEWEST_GROUPS or not (apart_P & ~within_P).any():
            return []
        permuted = self._permutations(group_K, unit_K)
        found = []
        for by, values_P in self.values_P.items():
            auc = self._auc(by, within_P, apart_P)
            if auc is None:
                continue
            chance = [
                self._auc(by, apart_P & (group[self.one_P] == group[self.other_P]), apart_P) for group in permuted
            ]
            known = np.array([one for one in chance if one is not None] or [auc])
            sigmas = (auc - known.mean()) / max(float(known.std()), 1e-3) if auc > known.max() else 0.0
            sign = 1 if by == "picture" else -1
            inside, outside = (sign * float(np.median(values_P[which])) for which in (within_P, apart_P & ~within_P))
            found.append(GroupEvidence(by, auc, float(sigmas), inside, outside, int(within_P.sum())))
        return sorted(found, key=lambda one: (one.significant, one.auc), reverse=True)

    def _auc(self, by: str, within_P: Bool[Array, " P"], apart_P: Bool[Array, " P"]) -> float | None:
        """Return the AUC of pairs within groups against the others, averaged over pairs of equal and of other classes.

        None if neither kind of pairs contains both.
        """
        total, weights = 0.0, 0
        order_P = self._orders[by]
        for of_kind_P in (self.same_class_P, ~self.same_class_P):
            kept_P = order_P[(apart_P & of_kind_P)[order_P]]
            inside_P = within_P[kept_P]
            pairs = int(inside_P.sum())
            others = len(kept_P) - pairs
            if pairs and others:
                total += float(np.cumsum(~inside_P)[inside_P].sum()) / others
                weights += pairs
        return total / weights if weights else None

    def _permutations(self, group_K: Integer[Array, " K"], unit_K: Integer[Array, " K"]) -> list[Integer[Array, " K"]]:
        """Return groups that are permuted among units of the same class; a unit of several classes has its first."""
        _, first, unit_of_K = np.unique(unit_K, return_index=True, return_inverse=True)
        class_U, group_U = self.label_K[first], group_K[first]
        rng = np.random.default_rng(0)
        permuted = []
        for _ in range(PERMUTATIONS):
            new_U = group_U.copy()
            for label in np.unique(class_U):
                of_class = np.flatnonzero(class_U == label)
                new_U[of_class] = group_U[rng.permutation(of_class)]
            permuted.append(new_U[unit_of_K])
        return permuted
