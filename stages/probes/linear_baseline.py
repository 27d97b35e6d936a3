"""Linear models on image features as a baseline: ridge regression, with calibrated probabilities for classes.

Axes: N training images, M other images, F features, K classes, D numbers.
"""

import numpy as np
from scipy.special import softmax

from stages.core.shapes import Array, Float, Integer, Shaped
from stages.probes.cross_validation import out_of_fold_temperature
from stages.probes.ridge import ridge


def predict_classes(
    train_NF: Float[Array, "N F"],
    codes_N: Integer[Array, " N"],
    groups_N: Shaped[Array, " N"],
    other_MF: Float[Array, "M F"],
    classes: int,
    standardized: bool = True,
) -> Float[Array, "M {classes}"]:
    """Return class probabilities of other images, calibrated by one temperature on out-of-fold predictions.

    Args:
        train_NF: features of the training images.
        codes_N: class of each training image, 0..classes-1.
        groups_N: group of each training image; the temperature is fitted on groups that a model was not trained on.
        other_MF: features of the images to predict.
        classes: number of classes.
        standardized: whether to divide the features by their standard deviations.
    """
    target_NK = np.eye(classes)[codes_N]
    scores_MK = ridge(train_NF, target_NK, standardized)(other_MF)
    return softmax(scores_MK * out_of_fold_temperature(train_NF, target_NK, groups_N, standardized), axis=1)


def predict_numbers(
    train_NF: Float[Array, "N F"],
    target_ND: Float[Array, "N D"],
    other_MF: Float[Array, "M F"],
    standardized: bool = True,
) -> Float[Array, "M D"]:
    """Return predicted numbers of other images; each is limited to the range of the training images.

    Args:
        train_NF: features of the training images.
        target_ND: numbers of the training images.
        other_MF: features of the images to predict.
        standardized: whether to divide the features by their standard deviations.
    """
    spread_D = np.maximum(target_ND.std(axis=0), 1e-12)  # one penalty for all numbers requires a common unit
    predicted_MD = ridge(train_NF, target_ND / spread_D, standardized)(other_MF) * spread_D
    return np.clip(predicted_MD, target_ND.min(axis=0), target_ND.max(axis=0))
