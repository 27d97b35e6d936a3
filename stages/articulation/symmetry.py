"""Measure which geometric changes preserve the appearance of a data set, and black borders, to configure augmentation.

Axes: N images, F features, S side of a thumbnail.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import mannwhitneyu
from sklearn.model_selection import GroupKFold

from stages.dataset.pixel_store import PixelStore
from stages.images.image_statistics import to_grey, to_uint8

Array = np.ndarray[Any, Any]
MAX_IMAGES, MIN_IMAGES = 1000, 50  # maximum and minimum number of images
MARGIN = 1.96 * 3**-0.5  # half of the 95 % interval of an AUC near 0.5, times the root of the number of images
MIN_SKILL = 0.1  # accuracy above chance of the class probe, below which no score drop is reported
SIDE, CELLS, DIRECTIONS, FOLDS = 32, 4, 8, 5
BLACK = 8  # grey levels, of 255
RIDGE = 0.1  # ridge penalty relative to the number of images
CHANGES: dict[str, Callable[[Array], Array]] = {
    "mirror": lambda image_NSS: image_NSS[:, :, ::-1],
    "upside_down": lambda image_NSS: image_NSS[:, ::-1],
    "turn": lambda image_NSS: np.rot90(image_NSS, axes=(1, 2)),
}


def measure_symmetries(store: PixelStore, class_N: Array | None) -> dict[str, dict[str, float]]:
    """Measure whether mirrored, flipped and rotated images still look like the data.

    Linear classifiers of thumbnails and of histograms of oriented gradients (Dalal and Triggs 2005) are trained and
    cross-validated by group. Both results are empty if there are too few images or groups.

    Args:
        store: the training images.
        class_N: class of each image [N]; None without classes.

    Returns:
        `symmetry_auc`: upper end of the 95 % interval of the AUC of a classifier that separates changed from original
        images, by change; 0.5 means indistinguishable. `symmetry_score_drop`: share of the balanced accuracy above
        chance that a classifier of the classes loses on changed images, by change; empty without classes, or if the
        balanced accuracy for unchanged images is less than `MIN_SKILL` above chance. Of colour images, `grey` is the
        share that a classifier without colours loses, compared with one that is given the colours.
    """
    chosen_N = np.unique(np.linspace(0, len(store) - 1, min(MAX_IMAGES, len(store))).astype(int))
    group_N = store.rows["group"].to_numpy()[chosen_N]
    if len(chosen_N) < MIN_IMAGES or len(set(group_N)) < FOLDS:
        return {"symmetry_auc": {}, "symmetry_score_drop": {}}
    rows = store.rows.iloc[chosen_N]
    inner = zip(store.image_NHWC[chosen_N], rows["inner_height"], rows["inner_width"], strict=True)
    image_NSS = np.stack([_thumbnail(image_HWC[: int(height), : int(width)]) for image_HWC, height, width in inner])
    own_NF, changed = _features(image_NSS), {name: _features(change(image_NSS)) for name, change in CHANGES.items()}
    margin = MARGIN / len(own_NF) ** 0.5
    auc = {name: min(1.0, _auc(own_NF, x_NF, group_N) + margin) for name, x_NF in changed.items()}
    drop = {} if class_N is None else _score_drop(own_NF, changed, class_N[chosen_N], group_N)
    if class_N is not None and store.image_NHWC.shape[3] == 3:
        chroma_NF = np.stack([_chroma(image_HWC) for image_HWC in store.image_NHWC[chosen_N]])
        drop |= _colour_drop(own_NF, chroma_NF, class_N[chosen_N], group_N)
    return {"symmetry_auc": auc, "symmetry_score_drop": drop}


def _score_drop(own_NF: Array, changed: dict[str, Array], class_N: Array, group_N: Array) -> dict[str, float]:
    """Return the relative drop of balanced accuracy above chance from unchanged to changed images, by change.

    The result is empty if unchanged images reach less than `MIN_SKILL`.
    """
    mean_F, deviation_F = own_NF.mean(axis=0), np.maximum(own_NF.std(axis=0), 1e-6)
    x, classes = (own_NF - mean_F) / deviation_F, np.unique(class_N)
    y = np.where(class_N[:, None] == classes, 1.0, -1.0) / (class_N[:, None] == classes).mean(axis=0)
    predicted = {name: np.empty_like(class_N) for name in ("own", *changed)}
    for train, test in GroupKFold(FOLDS).split(x, class_N, group_N):
        penalty = RIDGE * len(train) * np.eye(x.shape[1])
        weight_FK = np.linalg.solve(x[train].T @ x[train] + penalty, x[train].T @ y[train])
        for name, x_NF in {"own": own_NF, **changed}.items():
            predicted[name][test] = classes[((x_NF[test] - mean_F) / deviation_F @ weight_FK).argmax(axis=1)]
    chance = 1 / len(classes)
    skill = {
        name: float(np.mean([(predicted_N[class_N == value] == value).mean() for value in classes])) - chance
        for name, predicted_N in predicted.items()
    }
    return {name: 1 - skill[name] / skill["own"] for name in changed} if skill["own"] >= MIN_SKILL else {}


def _colour_drop(own_NF: Array, chroma_NF: Array, class_N: Array, group_N: Array) -> dict[str, float]:
    """Return as `grey` the share of the skill that a class probe loses without colours; empty if it has no skill."""
    both_NF = np.concatenate([own_NF, chroma_NF], axis=1)
    grey, coloured = (_skill(x_NF, class_N, group_N) for x_NF in (own_NF, both_NF))
    return {"grey": 1 - max(grey, 0.0) / coloured} if coloured >= MIN_SKILL else {}


def _skill(x_NF: Array, class_N: Array, group_N: Array) -> float:
    """Return the cross-validated balanced accuracy above chance of a linear classifier."""
    x_NF = (x_NF - x_NF.mean(axis=0)) / np.maximum(x_NF.std(axis=0), 1e-6)
    classes, predicted = np.unique(class_N), np.empty_like(class_N)
    y = np.where(class_N[:, None] == classes, 1.0, -1.0) / (class_N[:, None] == classes).mean(axis=0)
    for train, test in GroupKFold(FOLDS).split(x_NF, class_N, group_N):
        penalty = RIDGE * len(train) * np.eye(x_NF.shape[1])
        weight_FK = np.linalg.solve(x_NF[train].T @ x_NF[train] + penalty, x_NF[train].T @ y[train])
        predicted[test] = classes[(x_NF[test] @ weight_FK).argmax(axis=1)]
    return float(np.mean([(predicted[class_N == value] == value).mean() for value in classes])) - 1 / len(classes)


def _chroma(image_HWC: Array) -> Array:
    """Return red and blue relative to green in the cells of a grid [2 * CELLS * CELLS]."""
    small = Image.fromarray(to_uint8(image_HWC)).resize((CELLS, CELLS), Image.Resampling.BOX)
    levels = np.asarray(small, np.float32)
    return (levels[:, :, [0, 2]] - levels[:, :, [1]]).ravel()


def black_border_share(store: PixelStore) -> float:
    """Return the share of black pixels on the image borders; if it is high, augmentation pads with black."""
    chosen_N = np.unique(np.linspace(0, len(store) - 1, min(MAX_IMAGES, len(store))).astype(int))
    rows, shares = store.rows.iloc[chosen_N], []
    for image_HWC, height, width in zip(
        store.image_NHWC[chosen_N], rows["inner_height"], rows["inner_width"], strict=True
    ):
        grey = to_grey(image_HWC[: int(height), : int(width)])
        rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        shares.append(float((rim <= BLACK).mean()))
    return float(np.mean(shares))


def _thumbnail(image_HWC: Array) -> Array:
    """Return a thumbnail [SIDE, SIDE] of the central square with mean 0 and standard deviation 1."""
    grey = to_grey(image_HWC)
    side = min(grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    square = Image.fromarray(np.ascontiguousarray(grey[top : top + side, left : left + side]))
    values = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    return (values - values.mean()) / max(float(values.std()), 1e-3)


def _features(image_NSS: Array) -> Array:
    """Return features [N, F]: gradient strength by cell and direction, and thumbnails at half the size."""
    down, across = np.gradient(image_NSS, axis=(1, 2))
    strength, direction = np.hypot(down, across), np.arctan2(down, across) % np.pi
    cells = (len(image_NSS), CELLS, SIDE // CELLS, CELLS, SIDE // CELLS)
    histogram = [
        np.where((direction * DIRECTIONS // np.pi) % DIRECTIONS == value, strength, 0).reshape(cells).sum(axis=(2, 4))
        for value in range(DIRECTIONS)
    ]
    half = image_NSS.reshape(len(image_NSS), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    return np.concatenate([np.stack(histogram, axis=1).reshape(len(half), -1), half.reshape(len(half), -1)], axis=1)


def _auc(own_NF: Array, changed_NF: Array, group_N: Array) -> float:
    x, y = np.concatenate([own_NF, changed_NF]), np.repeat([1.0, -1.0], len(own_NF))
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    score, groups = np.empty(len(x)), np.tile(group_N, 2)
    for train, test in GroupKFold(FOLDS).split(x, y, groups):
        penalty = RIDGE * len(train) * np.eye(x.shape[1])
        score[test] = x[test] @ np.linalg.solve(x[train].T @ x[train] + penalty, x[train].T @ y[train])
    statistic = float(mannwhitneyu(score[y > 0], score[y < 0]).statistic)
    return statistic / len(own_NF) ** 2
