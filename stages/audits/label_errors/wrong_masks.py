"""Wrong masks: masks that disagree with a pixel classifier, are empty, or contain a class that no other mask has.

Axes: N images, S side of the downsampled image, C channels, K classes.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import label, uniform_filter

from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.label_errors.wrong_numbers import list_weak, robust_deviations
from stages.audits.power import Power, choose_planted, require_power
from stages.core.findings import Finding, Severity
from stages.core.plurals import quantity
from stages.dataset.annotations import IGNORE_INDEX
from stages.dataset.manifest import parse_annotations
from stages.probes.downsampled import box_in_pixels, downsample_images, downsample_masks
from stages.probes.pixel_classifier import predict_pixels

Array = np.ndarray[Any, Any]
MIN_IMAGES = 10
MIN_DICE = 0.5  # minimum Dice of the baseline for a class, over all images
FAR = 4.0  # robust standard deviations below the median
POOR = 0.5  # Dice, relative to the median of all images
SLACK = 20  # downsampled pixels, added to numerator and denominator, so that a few wrong pixels have little effect
COMMON = 0.9  # share of masks with a class other than the first, from which an empty mask is unusual


def find(data: AuditData) -> Found:
    """Report masks that the baseline contradicts, that are unusually empty, or that alone contain a class.

    Both lists of `Found` are empty if the annotations are not masks.
    """
    rows = data.sample
    names = parse_annotations(rows.head(1))[0].mask
    if names is None:
        return [], []
    index_NSS, pixels_NK = downsample_masks(rows, data.folder, len(names))
    findings = _with_power(_unusual(rows, names, pixels_NK), rows, names, pixels_NK)
    if len(rows) < MIN_IMAGES:
        return findings, [
            f"Masks were not compared with predictions: {quantity(len(rows), 'mask')}; at least {MIN_IMAGES} are "
            "required."
        ]
    found, unchecked = _contradicted(data, names, index_NSS)
    return findings + found, unchecked


def _contradicted(data: AuditData, names: tuple[str, ...], index_NSS: Array) -> Found:
    """Report masks whose Dice with the prediction, of the worst class, is far below that of other masks.

    In benchmarks with exchanged, shifted and emptied masks, this detected more than the soft minimum of the pixel
    confidence (Lad and Mueller 2023), which is better at detecting a single missing object.
    """
    rows = data.sample
    image_NSSC = downsample_images(rows, data.folder)
    both_NK, sum_NK = np.zeros((len(rows), len(names))), np.zeros((len(rows), len(names)))
    planted, exchanged_K = set(choose_planted(len(rows)).tolist()), {}
    region_N: list[Any] = [None] * len(rows)
    for n, p_SSK in predict_pixels(image_NSSC, index_NSS, rows["group"].to_numpy(), len(names)):
        predicted_SS = p_SSK.argmax(axis=2)
        both_NK[n], sum_NK[n] = _overlap(predicted_SS, index_NSS[n], len(names))
        if n in planted:
            exchanged_K[n] = _soft_dice(*_overlap(predicted_SS, index_NSS[n - len(rows) // 2], len(names)))
        region_N[n] = _region(np.where(index_NSS[n] == IGNORE_INDEX, IGNORE_INDEX, predicted_SS), index_NSS[n])
    dice_K = 2 * both_NK.sum(axis=0) / np.maximum(sum_NK.sum(axis=0), 1)
    skilled = dice_K >= MIN_DICE
    weak = [f"{name} (Dice {dice:.2f})" for name, dice in zip(names, dice_K, strict=True) if dice < MIN_DICE]
    if skilled.sum() < min(2, len(names)):
        return [], [
            f"Masks were not compared with predictions: the Dice of the baseline must be at least {MIN_DICE} for "
            f"{quantity(min(2, len(names)), 'class', 'classes')}; it is lower for {list_weak(weak)}."
        ]
    unchecked: list[str] = []
    if weak:
        unchecked = [
            f"Masks were not checked for {list_weak(weak)}: the Dice of the baseline must be at least {MIN_DICE}."
        ]
    worst_N = np.where(skilled, _soft_dice(both_NK, sum_NK), np.inf).min(axis=1)
    far_N = _is_far(worst_N)
    ranked = [n for n in np.argsort(worst_N) if far_N[n]]
    evidence = {
        "images": len(rows),
        "dice_of_class": dict(zip(names, dice_K.tolist(), strict=True)),
        "dice_of_images": {f"{q}%": float(np.percentile(worst_N, q)) for q in (1, 5, 50, 95)},
    }
    if not ranked:
        message = f"The out-of-fold predictions of the baseline do not suggest wrong masks among {len(rows)} masks."
        found = Finding("label_errors/masks", "passed", message, evidence)
        exchanged = {n: float(np.where(skilled, of_image_K, np.inf).min()) for n, of_image_K in exchanged_K.items()}
        return require_power(found, [_power(worst_N, exchanged)]), unchecked
    paths, captions, places = list(rows["path"]), {}, {}
    for n in ranked:
        region_SS, given, predicted = region_N[n]
        captions[paths[n]] = f"{names[given]} \N{RIGHTWARDS ARROW} {names[predicted]}? Dice {worst_N[n]:.2f}"
        places[paths[n]] = [box_in_pixels(region_SS, int(rows["height"].iloc[n]), int(rows["width"].iloc[n]))]
    message = (
        f"{len(ranked)} of {len(rows)} masks {'disagrees' if len(ranked) == 1 else 'disagree'} with the out-of-fold "
        f"predictions of the baseline: the lowest Dice is {worst_N[ranked[0]]:.2f}, the median Dice of all images is "
        f"{np.median(worst_N):.2f}. A mask may belong to "
        "another image, be shifted or incomplete, or the image may be unusual. The differing regions are outlined: "
        "check them."
    )
    evidence["which"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    found = Finding("label_errors/masks", "warning", message, evidence, list(captions)[:24], captions, places)
    return [unless_too_many(found, len(ranked), len(rows), "masks")], unchecked


def _overlap(predicted_SS: Array, given_SS: Array, classes: int) -> tuple[Array, Array]:
    """Return the common pixels of a prediction and a mask, and the sum of their pixels, of each class.

    Args:
        predicted_SS: predicted class of each pixel.
        given_SS: class of each pixel in the mask; pixels without a class are left out.
        classes: number of classes.
    """
    known_SS = given_SS != IGNORE_INDEX
    given, predicted = (np.bincount(one[known_SS], minlength=classes) for one in (given_SS, predicted_SS))
    both = np.bincount(given_SS[known_SS & (given_SS == predicted_SS)], minlength=classes)
    return both, given + predicted


def _soft_dice(both_NK: Array, sum_NK: Array) -> Array:
    return (2 * both_NK + SLACK) / (sum_NK + SLACK)


def _is_far(worst_N: Array) -> Array:
    """Return whether the Dice of each mask is far below that of the others."""
    return (robust_deviations(worst_N[:, None])[:, 0] < -FAR) & (worst_N < POOR * np.median(worst_N))


def _power(worst_N: Array, exchanged: dict[int, float]) -> Power:
    """Return how many images are found if they have the mask of another image; the baseline is not trained again.

    Args:
        worst_N: lowest Dice of each image.
        exchanged: lowest Dice of images with the mask of another image, by index.
    """
    found = 0
    for n, dice in exchanged.items():
        changed_N = worst_N.copy()
        changed_N[n] = dice
        found += bool(_is_far(changed_N)[n])
    missing = "Masks that differ more between the images, or that the baseline predicts better, are required."
    alarms = f"false alarms in 0 of {quantity(len(worst_N), 'mask')}"
    return Power("images with the mask of another image", found, len(exchanged), missing, alarms)


def _region(predicted_SS: Array, given_SS: Array) -> tuple[Array, int, int]:
    """Return the largest connected region in which mask and prediction differ, its labelled and its predicted class.

    Without such a region, return the whole image and class 0 twice.
    """
    differs_SS = uniform_filter((predicted_SS != given_SS).astype(float), 3) > 0.5
    number_SS, count = label(differs_SS)
    if not count:
        return np.ones_like(differs_SS), 0, 0
    region_SS = number_SS == 1 + np.bincount(number_SS.ravel())[1:].argmax()
    given, predicted = given_SS[region_SS], predicted_SS[region_SS]
    pairs, counts = np.unique(np.stack([given, predicted])[:, (given != predicted)], axis=1, return_counts=True)
    one, other = pairs[:, counts.argmax()] if counts.size else (0, 0)
    return region_SS, int(one), int(other)


def _unusual(rows: pd.DataFrame, names: tuple[str, ...], pixels_NK: Array) -> Finding:
    """Report masks with only the first class, if nearly all contain others, and classes that occur in only one mask."""
    paths = rows["path"].to_numpy()
    empty = paths[pixels_NK[:, 1:].sum(axis=1) == 0]
    are_usual = len(empty) > (1 - COMMON) * len(rows)
    has_K = (pixels_NK > 0).sum(axis=0)
    single = {str(paths[pixels_NK[:, k].argmax()]): name for k, name in enumerate(names) if has_K[k] == 1}
    captions = {} if are_usual else {str(path): f"only {names[0]}" for path in empty}
    captions |= {path: f"the only mask with {name}" for path, name in single.items()}
    evidence = {"images": len(rows), "images_with": dict(zip(names, has_K.tolist(), strict=True))}
    of_empty = f"{len(empty):,} of {quantity(len(rows), 'mask')} {_contain(len(empty))} only {names[0]}"
    if are_usual:
        of_empty += ", which are too many for this audit to decide whether labels are missing"
    of_single = f"{len(single) or 'no'} {'mask' if len(single) == 1 else 'masks'} {_contain(len(single))} a class that "
    message = f"{of_empty}. {of_single[0].upper()}{of_single[1:]}no other mask contains."
    if captions:
        message += " Check whether these masks are incomplete or contain a wrong value."
    elif are_usual:
        message += f" Look at some images whose mask contains only {names[0]}."
    severity: Severity = "warning" if captions else "info" if are_usual else "passed"
    found = Finding("label_errors/unusual-masks", severity, message, evidence, list(captions)[:24], captions)
    return unless_too_many(found, len(captions), len(rows), "masks")


def _with_power(found: Finding, rows: pd.DataFrame, names: tuple[str, ...], pixels_NK: Array) -> list[Finding]:
    """Return the finding of `_unusual`; if it is passed, with the share of emptied masks that would be found.

    Args:
        found: the finding.
        rows: rows of the manifest.
        names: classes.
        pixels_NK: pixels of each class in each mask.
    """
    if found.severity != "passed":
        return [found]
    full = np.flatnonzero(pixels_NK[:, 1:].sum(axis=1) > 0)
    planted = full[choose_planted(len(full))]
    count = 0
    for n in planted:
        emptied_NK = pixels_NK.copy()
        emptied_NK[n, 1:] = 0
        count += rows["path"].iloc[n] in _unusual(rows, names, emptied_NK).captions
    missing = f"Masks of which fewer than {1 - COMMON:.0%} contain only {names[0]} are required."
    alarms = f"false alarms in 0 of {quantity(len(rows), 'mask')}"
    return require_power(found, [Power("emptied masks", count, len(planted), missing, alarms)])


def _contain(count: int) -> str:
    return "contains" if count == 1 else "contain"
