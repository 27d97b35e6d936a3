"""Misplaced and exchanged landmarks, found by a shape model (`stages.probes.shape_model`)."""

from typing import Any

import numpy as np

from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.power import Power, choose_planted, require_power
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Shaped
from stages.dataset.manifest import parse_annotations
from stages.probes.shape_model import landmark_errors

MIN_GROUPS = 10  # for estimating the distribution of shapes
FAR = 20.0  # squared Mahalanobis distance; one in 20,000 points of a normal distribution is beyond
EXCHANGED = 10.0  # reduction of the squared Mahalanobis distance by exchanging two points
MOVED = 0.1  # distance by which a planted point is moved, a share of the diagonal
MARK = 0.03  # side of the box around a point, as a share of the diagonal


def find(data: AuditData) -> Found:
    """Report exchanged points first, then points far from the position that the other points of the image predict.

    Both lists are empty if the annotations of an image are not points.
    """
    rows = data.sample
    points = [annotation.points for annotation in parse_annotations(rows)]
    if not points[0]:
        return [], []
    names, groups = list(points[0]), rows["group"].nunique()
    if len(names) < 2 or groups < MIN_GROUPS:
        return [], [
            f"Points were not checked: {quantity(len(names), 'point')} in {quantity(groups, 'group')}; at least 2 "
            f"points in {MIN_GROUPS} groups are required."
        ]
    place_NP2 = np.array([[xy or (np.nan, np.nan) for xy in (named or {}).values()] for named in points], float)
    diagonal_N = np.hypot(rows["width"], rows["height"]).to_numpy()
    error_NP, gain_N, pair_N2 = landmark_errors(place_NP2 / diagonal_N[:, None, None], rows["group"].to_numpy())
    worst_N = np.nan_to_num(error_NP).argmax(axis=1)
    max_N = np.nan_to_num(error_NP).max(axis=1)
    exchanged = sorted(np.flatnonzero(gain_N > EXCHANGED), key=lambda n: -gain_N[n])
    far = sorted(set(np.flatnonzero(max_N > FAR)) - set(exchanged), key=lambda n: -max_N[n])
    paths, captions, places = list(rows["path"]), {}, {}
    for n in [*exchanged, *far]:
        one, other = pair_N2[n]
        captions[paths[n]] = (
            f"{names[one]} \N{LEFT RIGHT ARROW} {names[other]}?"
            if n in exchanged
            else f"{names[worst_N[n]]} misplaced?"
        )
        half = MARK * diagonal_N[n] / 2
        marked = place_NP2[n, [one, other] if n in exchanged else [worst_N[n]]]
        places[paths[n]] = [(x - half, y - half, x + half, y + half) for x, y in marked.tolist()]
    evidence: dict[str, Any] = {"images": len(rows), "points": len(names), "exchanged": len(exchanged), "far": len(far)}
    if not captions:
        message = (
            f"The {len(names)} points of {len(rows)} images agree with the arrangement of the points in other groups."
        )
        found = Finding("label_errors/points", "passed", message, evidence)
        return require_power(found, _powers(place_NP2 / diagonal_N[:, None, None], rows["group"].to_numpy())), []
    evidence["which"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    message = (
        f"Two points look exchanged in {len(exchanged)} of {len(rows)} images, and a point looks misplaced in "
        f"{len(far)}, compared with the shapes in other groups. A rare pose can look like this too: check these images."
    )
    images = list(captions)[:24]
    found = Finding("label_errors/points", "warning", message, evidence, images, captions, places)
    return [unless_too_many(found, len(captions), len(rows), "images")], []


def _powers(place_NP2: Float[Array, "N P 2"], groups_N: Shaped[Array, " N"]) -> list[Power]:
    """Return how many images are found with two exchanged points, and with a point moved by a tenth of the diagonal.

    Args:
        place_NP2: points in diagonals of their image; NaN for invisible points.
        groups_N: group of each image.
    """
    rng = np.random.default_rng(1)
    several_N = np.flatnonzero(np.isfinite(place_NP2[:, :, 0]).sum(axis=1) > 1)
    planted = several_N[choose_planted(len(several_N))]
    exchanged_NP2, moved_NP2 = place_NP2.copy(), place_NP2.copy()
    for n in planted:
        one, other = rng.permutation(np.flatnonzero(np.isfinite(place_NP2[n, :, 0])))[:2]
        exchanged_NP2[n, [one, other]] = place_NP2[n, [other, one]]
        turn = rng.uniform(0, 2 * np.pi)
        moved_NP2[n, one] += MOVED * np.array([np.cos(turn), np.sin(turn)])
    missing = "More images, or points whose arrangement varies less between the images, are required."
    powers = []
    for fault, changed_NP2 in (
        ("two exchanged points", exchanged_NP2),
        ("a point moved by 10% of the diagonal", moved_NP2),
    ):
        error_NP, gain_N, _ = landmark_errors(changed_NP2, groups_N, planted)
        found_N = (gain_N > EXCHANGED) | (np.nan_to_num(error_NP).max(axis=1) > FAR)
        alarms = f"false alarms in 0 of {quantity(len(place_NP2), 'image')}"
        powers.append(Power(fault, int(found_N[planted].sum()), len(planted), missing, alarms))
    return powers
