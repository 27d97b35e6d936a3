"""Wrong masks: far from what is foretold of their pixels, empty, or with what no other mask has.

Axes: N images, S side of the working picture, K classes.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import label, uniform_filter

from stages.audits.audit_data import Subject
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.label_errors.wrong_numbers import robust
from stages.core.findings import Finding
from stages.dataset.annotations import IGNORE_INDEX
from stages.dataset.manifest import parse_annotations
from stages.probes.downsampled import box_in_pixels, small_masks, small_pictures
from stages.probes.pixel_classifier import foretold

Array = np.ndarray[Any, Any]
FEWEST_IMAGES = 10
SKILLED = 0.5  # Dice of a class, over all images
FAR = 4.0  # robust deviations below the others
POOR = 0.5  # Dice, as a share of the median image's
SLACK = 20  # small pixels, added to both sides of a Dice: a few astray say nothing
USUAL = 0.9  # share of the masks that have a class or more beside the first, from which one that has none is odd


def find(subject: Subject) -> Found:
    """Report masks that the baseline contradicts, and masks that are empty or hold a class that no other mask does."""
    rows = subject.sample
    names = parse_annotations(rows.head(1))[0].mask
    if names is None:
        return [], []
    index_NSS, pixels_NK = small_masks(rows, subject.folder, len(names))
    findings = [_odd(rows, names, pixels_NK)]
    if len(rows) < FEWEST_IMAGES:
        return findings, [f"{len(rows)} masks are too few to tell which do not fit their images."]
    found, unknown = _contradicted(subject, names, index_NSS)
    return findings + found, unknown


def _contradicted(subject: Subject, names: tuple[str, ...], index_NSS: Array) -> Found:
    """Masks whose Dice with what is foretold, in the class where they agree least, is far below that of others.

    In trials with exchanged, shifted and emptied masks this told them better than the soft minimum of the pixels'
    confidence (Lad and Mueller 2023), which is better at a single thing left out.
    """
    rows = subject.sample
    image_NSSC = small_pictures(rows, subject.folder)
    both_NK, sum_NK = np.zeros((len(rows), len(names))), np.zeros((len(rows), len(names)))
    region_N: list[Any] = [None] * len(rows)
    for n, p_SSK in foretold(image_NSSC, index_NSS, rows["group"].to_numpy(), len(names)):
        known_SS = index_NSS[n] != IGNORE_INDEX
        answer_SS = np.where(known_SS, p_SSK.argmax(axis=2), IGNORE_INDEX)
        for k in range(len(names)):
            given, answered = index_NSS[n] == k, answer_SS == k
            both_NK[n, k], sum_NK[n, k] = (given & answered).sum(), given.sum() + answered.sum()
        region_N[n] = _region(answer_SS, index_NSS[n])
    dice_K = 2 * both_NK.sum(axis=0) / np.maximum(sum_NK.sum(axis=0), 1)
    skilled = dice_K >= SKILLED
    weak = [f"{name} (Dice {dice:.2f})" for name, dice in zip(names, dice_K, strict=True) if dice < SKILLED]
    unknown = [f"Wrong masks cannot be told by {', '.join(weak)}: a plain model does not find it."] if weak else []
    if skilled.sum() < min(2, len(names)):
        return [], unknown
    dice_NK = (2 * both_NK + SLACK) / (sum_NK + SLACK)
    worst_N = np.where(skilled, dice_NK, np.inf).min(axis=1)
    far_N = (robust(worst_N[:, None])[:, 0] < -FAR) & (worst_N < POOR * np.median(worst_N))
    ranked = [n for n in np.argsort(worst_N) if far_N[n]]
    evidence = {
        "images": len(rows),
        "dice_of_class": dict(zip(names, dice_K.tolist(), strict=True)),
        "dice_of_images": {f"{q} %": float(np.percentile(worst_N, q)) for q in (1, 5, 50, 95)},
    }
    if not ranked:
        says = f"No mask of {len(rows)} is far from what a plain model, which had not seen the image, makes of it."
        return [Finding("label_errors/masks", "passed", says, evidence)], unknown
    paths, captions, places = list(rows["path"]), {}, {}
    for n in ranked:
        region_SS, given, answered = region_N[n]
        captions[paths[n]] = f"{names[given]} \N{RIGHTWARDS ARROW} {names[answered]}? Dice {worst_N[n]:.2f}"
        places[paths[n]] = [box_in_pixels(region_SS, rows["height"].iloc[n], rows["width"].iloc[n])]
    says = (
        f"{len(ranked)} of {len(rows)} masks are far from what a plain model, which had not seen the image, makes of "
        f"it: Dice {worst_N[ranked[0]]:.2f} at worst, where the median image has {np.median(worst_N):.2f}. The "
        "mask may be of another image, moved or unfinished, or the image unlike others. Where they differ is framed."
    )
    evidence["which"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    return [Finding("label_errors/masks", "warning", says, evidence, list(captions)[:24], captions, places)], unknown


def _region(answer_SS: Array, given_SS: Array) -> tuple[Array, int, int]:
    """The largest connected region of one contradiction, and its two classes."""
    against_SS = uniform_filter((answer_SS != given_SS).astype(float), 3) > 0.5
    number_SS, count = label(against_SS)
    if not count:
        return np.ones_like(against_SS), 0, 0
    region_SS = number_SS == 1 + np.bincount(number_SS.ravel())[1:].argmax()
    given, answered = given_SS[region_SS], answer_SS[region_SS]
    pairs, counts = np.unique(np.stack([given, answered])[:, (given != answered)], axis=1, return_counts=True)
    one, other = pairs[:, counts.argmax()] if counts.size else (0, 0)
    return region_SS, int(one), int(other)


def _odd(rows: pd.DataFrame, names: tuple[str, ...], pixels_NK: Array) -> Finding:
    """Masks of the first class alone where nearly all have others, and classes that one mask alone has."""
    paths = rows["path"].to_numpy()
    empty = paths[pixels_NK[:, 1:].sum(axis=1) == 0]
    if len(empty) > (1 - USUAL) * len(rows):
        empty = empty[:0]
    has_K = (pixels_NK > 0).sum(axis=0)
    single = {str(paths[pixels_NK[:, k].argmax()]): name for k, name in enumerate(names) if has_K[k] == 1}
    captions = {str(path): f"only {names[0]}" for path in empty}
    captions |= {path: f"the only one with {name}" for path, name in single.items()}
    evidence = {"images": len(rows), "images_with": dict(zip(names, has_K.tolist(), strict=True))}
    if not captions:
        return Finding(
            "label_errors/unusual-masks", "passed", "No mask is empty, none holds what no other does.", evidence
        )
    says = (
        f"{len(empty)} of {len(rows)} masks hold nothing but {names[0]}, {len(single)} a class that no other mask "
        "holds: is the mask unfinished, or a value misspelt?"
    )
    return Finding("label_errors/unusual-masks", "warning", says, evidence, list(captions)[:24], captions)
