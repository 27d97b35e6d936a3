"""Comparison of linear probes on pretrained features and on random patches, from which `configure` chooses a network.

Axes: N images, F features, D targets.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Integer
from stages.dataset.annotations import Annotation
from stages.networks.pretrained_features import NETWORK, SIDE, pretrained_features
from stages.probes.cross_validation import folds
from stages.probes.image_features import SIDE as THUMBNAIL
from stages.probes.image_features import thumbnail_features, to_square
from stages.probes.learning_curve_fit import errors, fit_probe, principal_features, resample_errors, weights
from stages.probes.regression_targets import RegressionTargets, regression_targets

MIN_GROUPS = 40  # below it, the interval of the difference says nothing
MIN_GAIN = 0.02  # difference of the scores from which the weights are proposed


@dataclass(frozen=True)
class FeatureComparison:
    """Out-of-fold scores of two probes on the same images: balanced accuracy of classes, R2 of numbers."""

    images: int
    """Number of images."""
    patches: float
    """Score on features of random patches."""
    pretrained: float
    """Score on features of a network with ImageNet weights."""
    gain: tuple[float, float]
    """99 % interval of the difference, from a bootstrap over groups."""
    is_skilled: bool
    """Whether the probe on pretrained features is better than a constant prediction, beyond its 95 % interval."""
    score: str
    """Name of the score."""

    @property
    def is_better(self) -> bool:
        """True if the pretrained features are better by `MIN_GAIN` and by more than noise.

        Without `is_skilled`, 3 of 60 comparisons of random features of 200 images were better, and 2 with it.
        """
        return self.is_skilled and self.gain[0] > 0 and self.pretrained - self.patches >= MIN_GAIN

    def describe(self) -> str:
        """Return both scores and the interval of their difference in words."""
        low, high = self.gain
        return (
            f"a linear probe has a {self.score} of {self.pretrained:.2f} on features of {NETWORK} at {SIDE} pixels and "
            f"of {self.patches:.2f} on random patches ({quantity(self.images, 'image')}, out of fold; 99% interval of "
            f"the difference {low:+.2f} to {high:+.2f})"
        )


def compare_with_pretrained(
    images: Iterable[Integer[Array, "H W *C"]], annotations: Sequence[Annotation], groups: Sequence[str]
) -> FeatureComparison | str:
    """Compare probes on the labels of images, or return the reason why that is not possible.

    Args:
        images: N images with 8 or 16 bits, of which only one is kept in memory at a time.
        annotations: labels of the images, classes or numbers; not read before the last image.
        groups: group of each image, likewise; a group is predicted by a probe that was not trained on it.

    Raises:
        UserError: the package with the weights is not installed, or its file is not the one that was reviewed.
    """
    sides = [(to_square(image, THUMBNAIL, 3), to_square(image, SIDE, 3)) for image in images]
    group_N = np.unique(np.array(groups), return_inverse=True)[1]
    count = len(np.unique(group_N))
    if count < MIN_GROUPS:
        return f"the images are in {quantity(count, 'group')}; at least {MIN_GROUPS} are required"
    targets = regression_targets(pd.DataFrame({"annotation": [one.to_json() for one in annotations]}), Path())
    if isinstance(targets, str):
        return targets
    small_NHWC = np.stack([small for small, _ in sides])
    if (small_NHWC == small_NHWC[..., :1]).all():
        small_NHWC = small_NHWC[..., :1]  # grey
    pretrained_NF = np.concatenate(list(pretrained_features(square for _, square in sides)))
    kinds = (thumbnail_features(small_NHWC), pretrained_NF)
    error_2N = np.stack([_out_of_fold_errors(features_NF, targets, group_N) for features_NF in kinds])
    weight_N = weights(targets)
    patches, pretrained = 1 - error_2N @ weight_N / weight_N.sum()
    error_B2 = resample_errors(error_2N, weight_N, group_N, np.random.default_rng(0))
    low, high = np.quantile(error_B2[:, 0] - error_B2[:, 1], (0.005, 0.995))
    constant = 1 / targets.target_ND.shape[1] if targets.classes else 0.0
    is_skilled = bool(np.quantile(1 - error_B2[:, 1], 0.025) > constant)
    score = "balanced accuracy" if targets.classes else "R2"
    gain = (float(low), float(high))
    return FeatureComparison(len(group_N), float(patches), float(pretrained), gain, is_skilled, score)


def _out_of_fold_errors(
    features_NF: Float[Array, "N F"], targets: RegressionTargets, group_N: Integer[Array, " N"]
) -> Float[Array, " N"]:
    x_NF, error_N = principal_features(features_NF), np.empty(len(features_NF))
    code_N = targets.target_ND.argmax(axis=1) if targets.classes else None
    for train, held_out in folds(group_N, code_N):
        probe = fit_probe(x_NF[train], targets, targets.target_ND[train])
        error_N[held_out] = errors(probe(x_NF[held_out]), targets, held_out)
    return error_N
