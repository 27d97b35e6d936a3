"""Wrong numbers: far from what is foretold of the image, as seldom a right one is."""

from typing import Any

import numpy as np

from stages.audits.audit_data import Subject
from stages.audits.label_errors.wrong_classes import Found
from stages.core.findings import Finding, Severity
from stages.dataset.manifest import parse_annotations
from stages.probes.cross_validation import numbers

Array = np.ndarray[Any, Any]
SKILLED = 0.5  # R2 out of fold
FAR = 5.0  # robust deviations
HUBER = 3.0  # robust deviations that count in full
ROUNDS = 3
BEYOND = 1e6  # deviations, from which on a number is as far as any
USUAL = 0.002  # share of right numbers that lie beyond `FAR`; up to it, and none beyond twice that, is no warning


def find(subject: Subject) -> Found:
    """`label_errors/numbers`: one finding for all numbers of the images."""
    scalars = [annotation.scalars for annotation in parse_annotations(subject.sample)]
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
    measured_ND, middle_D, unit_D = _measured(given_ND)
    foretold_ND, skill_D = _foretold(subject.features[known_N], measured_ND, rows["group"].to_numpy()[known_N])
    weak = [f"{name} (R2 {skill:.2f})" for name, skill in zip(names, skill_D, strict=True) if skill < SKILLED]
    unknown = (
        [f"Wrong numbers cannot be told of {', '.join(weak)}: a plain model does not foretell it."] if weak else []
    )
    left_ND = measured_ND - foretold_ND
    deviation_ND = (left_ND - np.median(left_ND, axis=0)) / _scale(left_ND, _telling(measured_ND))
    foretold_ND = _as_given(foretold_ND, middle_D, unit_D)
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
        return [Finding("label_errors/numbers", "passed", says, evidence)], unknown
    says = (
        f"{len(captions)} of {len(paths)} images have a number that lies more than {FAR:g} deviations from what a "
        "plain model foretells of the image, the farthest first: look whether it was misread."
    )
    evidence["far"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    severity: Severity = "warning" if far[0][0] > 2 * FAR or len(far) > USUAL * known_N.sum() * len(names) else "info"
    return [Finding("label_errors/numbers", severity, says, evidence, list(captions)[:24], captions)], unknown


def _measured(given_ND: Array) -> tuple[Array, Array, Array]:
    """Numbers of any size in deviations from their median; a quarter of both [D], so that no difference overflows."""
    middle_D = np.median(given_ND / 4, axis=0)
    off_ND = given_ND / 4 - middle_D
    unit_D = _scale(off_ND, _telling(off_ND), least=np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        return np.clip(off_ND / unit_D, -BEYOND, BEYOND), middle_D, unit_D


def _as_given(measured_ND: Array, middle_D: Array, unit_D: Array) -> Array:
    """In the unit of the given numbers; what is foretold beyond the largest float is infinite, and said to be."""
    with np.errstate(over="ignore"):
        return np.asarray(4 * (middle_D + measured_ND * unit_D))


def _foretold(features_NF: Array, given_ND: Array, groups_N: Array) -> tuple[Array, Array]:
    """Return out-of-fold predictions [N, D] of a robust regression, and their R2 [D].

    Values far from their prediction are pulled towards it (Huber 1964): otherwise one misplaced decimal point would
    bend all predictions. Numbers are in deviations from their median.
    """
    telling_ND, pulled_ND = _telling(given_ND), given_ND
    foretold_ND = np.zeros(given_ND.shape)
    for _ in range(ROUNDS):
        pulled_ND = foretold_ND + _pulled(given_ND - foretold_ND, telling_ND)
        foretold_ND = numbers(features_NF, pulled_ND, groups_N)
    pulled_ND = foretold_ND + _pulled(given_ND - foretold_ND, telling_ND)
    left_D, variance_D = ((pulled_ND - foretold_ND) ** 2).mean(axis=0), pulled_ND.var(axis=0)
    return foretold_ND, np.where(variance_D > 0, 1 - left_D / np.maximum(variance_D, 1e-12), 0)


def _pulled(off_ND: Array, telling_ND: Array) -> Array:
    most_D = HUBER * _scale(off_ND, telling_ND)
    return np.clip(off_ND, -most_D, most_D)


def _telling(value_ND: Array) -> Array:
    """Return [N, D] the values from which the spread is estimated.

    These are all values. If more than half are the same value, as counts of rare objects are, these are the others.
    """
    other_ND = value_ND != np.median(value_ND, axis=0)
    return other_ND | (other_ND.mean(axis=0) >= 0.5) | ~other_ND.any(axis=0)


def _scale(off_ND: Array, telling_ND: Array, least: float = 1e-12) -> Array:
    """[D], never 0: 1.4826 times the median absolute deviation, which is the standard one if normal."""
    return np.maximum(1.4826 * np.nanmedian(np.where(telling_ND, abs(off_ND), np.nan), axis=0), least)


def robust(value_ND: Array) -> Array:
    """Deviations from the median, see `_scale`."""
    off_ND = value_ND - np.median(value_ND, axis=0)
    return off_ND / _scale(off_ND, _telling(value_ND))
