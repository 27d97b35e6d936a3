"""Wrong numbers: far from what is foretold of the image, as seldom a right one is."""

from typing import Any

import numpy as np

from stages.audits.label_classes import Found
from stages.audits.out_of_fold import numbers
from stages.audits.subject import Subject
from stages.frame import Finding
from stages.frame.findings import Severity
from stages.images.manifest import annotations

Array = np.ndarray[Any, Any]
SKILLED = 0.5  # R2 out of fold
FAR = 5.0  # robust deviations
HUBER = 3.0  # robust deviations that count in full
ROUNDS = 3
USUAL = 0.002  # share of right numbers that lie beyond `FAR`; up to it, and none beyond twice that, is no warning


def find(subject: Subject) -> Found:
    """`labels/numbers`: one finding for all numbers of the images."""
    scalars = [annotation.scalars for annotation in annotations(subject.sample)]
    if not scalars[0]:
        return [], []
    names = list(scalars[0])
    given_ND = np.array([[(one or {}).get(name, np.nan) for name in names] for one in scalars])
    return compare(subject, names, given_ND)


def compare(subject: Subject, names: list[str], given_ND: Array) -> Found:
    """Numbers [N, D] of the images of `subject.sample` against what is foretold of them."""
    rows = subject.sample
    known_N = np.isfinite(given_ND).all(axis=1)
    paths = rows["path"].to_numpy()[known_N]
    given_ND = given_ND[known_N]
    foretold_ND, skill_D = _foretold(subject.features[known_N], given_ND, rows["group"].to_numpy()[known_N])
    weak = [f"{name} (R2 {skill:.2f})" for name, skill in zip(names, skill_D, strict=True) if skill < SKILLED]
    unknown = (
        [f"Wrong numbers cannot be told of {', '.join(weak)}: a plain model does not foretell it."] if weak else []
    )
    deviation_ND = robust(given_ND - foretold_ND)
    far = [(abs(deviation_ND[n, d]), n, d) for d in np.flatnonzero(skill_D >= SKILLED) for n in range(len(paths))]
    far = sorted((one for one in far if one[0] > FAR), reverse=True)
    captions: dict[str, str] = {}
    for _, n, d in far:
        captions.setdefault(paths[n], f"{names[d]} {given_ND[n, d]:.4g} \N{RIGHTWARDS ARROW} {foretold_ND[n, d]:.4g}?")
    evidence = {"r2": dict(zip(names, skill_D.tolist(), strict=True)), "images": len(paths)}
    if len(weak) == len(names):
        return [], unknown
    if not far:
        says = f"No number of {len(paths)} images lies far from what a plain model foretells of it."
        return [Finding("labels/numbers", "passed", says, evidence)], unknown
    says = (
        f"{len(captions)} of {len(paths)} images have a number that lies more than {FAR:g} deviations from what a "
        "plain model foretells of the image, the farthest first: look whether it was misread."
    )
    evidence["far"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    severity: Severity = "warning" if far[0][0] > 2 * FAR or len(far) > USUAL * known_N.sum() * len(names) else "info"
    return [Finding("labels/numbers", severity, says, evidence, list(captions)[:24], captions)], unknown


def _foretold(features_NF: Array, given_ND: Array, groups_N: Array) -> tuple[Array, Array]:
    """[N, D] out of fold, and R2 [D], where what lies far off is pulled near (Huber 1964): one typing error in ten-fold
    would else bend all that is foretold.
    """
    pulled_ND = np.median(given_ND, axis=0) + _pulled(given_ND - np.median(given_ND, axis=0))
    for _ in range(ROUNDS):
        foretold_ND = numbers(features_NF, pulled_ND, groups_N)
        pulled_ND = foretold_ND + _pulled(given_ND - foretold_ND)
    left_D, whole_D = ((pulled_ND - foretold_ND) ** 2).mean(axis=0), pulled_ND.var(axis=0)
    return foretold_ND, np.where(whole_D > 0, 1 - left_D / np.where(whole_D > 0, whole_D, 1), 0.0)


def _pulled(off_ND: Array) -> Array:
    most_D = HUBER * _spread(off_ND)
    return np.clip(off_ND, -most_D, most_D)


def _spread(off_ND: Array) -> Array:
    """1.4826 times the median absolute deviation, the standard one if normal; where more than half are 0, that one."""
    median_D = 1.4826 * np.median(abs(off_ND), axis=0)
    return np.where(median_D > 0, median_D, off_ND.std(axis=0))


def robust(value_ND: Array) -> Array:
    """Deviations from the median, in robust standard ones."""
    off_ND = value_ND - np.median(value_ND, axis=0)
    return off_ND / np.maximum(_spread(off_ND), 1e-12)
