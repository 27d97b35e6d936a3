"""Points at the wrong place, or exchanged: see `stages.probes.shape_model` for how they are told."""

from typing import Any

import numpy as np

from stages.audits.audit_data import Subject
from stages.audits.label_errors.wrong_classes import Found
from stages.core.findings import Finding
from stages.dataset.manifest import parse_annotations
from stages.probes.shape_model import oddness

FEWEST_GROUPS = 10  # shapes of a few scenes do not tell what others may look like
FAR = 20.0  # squared deviations; of a normal distribution one in 20,000 lies beyond
EXCHANGED = 10.0  # gain of exchanging two points
MARK = 0.03  # side of the frame around a point, as a share of the diagonal


def find(subject: Subject) -> Found:
    """`label_errors/points`: exchanged points first, then those far from where the others of their image say."""
    rows = subject.sample
    points = [annotation.points for annotation in parse_annotations(rows)]
    if not points[0]:
        return [], []
    names, groups = list(points[0]), rows["group"].nunique()
    if len(names) < 2 or groups < FEWEST_GROUPS:
        return [], [
            f"Misplaced points cannot be told: {len(names)} points in {groups} groups of images; at least 2 points in "
            f"{FEWEST_GROUPS} groups are needed to know their shapes."
        ]
    place_NP2 = np.array([[xy or (np.nan, np.nan) for xy in (one or {}).values()] for one in points], float)
    diagonal_N = np.hypot(rows["width"], rows["height"]).to_numpy()
    odd_NP, gain_N, pair_N2 = oddness(place_NP2 / diagonal_N[:, None, None], rows["group"].to_numpy())
    worst_N = np.nan_to_num(odd_NP).argmax(axis=1)
    most_N = np.nan_to_num(odd_NP).max(axis=1)
    exchanged = sorted(np.flatnonzero(gain_N > EXCHANGED), key=lambda n: -gain_N[n])
    far = sorted(set(np.flatnonzero(most_N > FAR)) - set(exchanged), key=lambda n: -most_N[n])
    paths, captions, places = list(rows["path"]), {}, {}
    for n in [*exchanged, *far]:
        one, other = pair_N2[n]
        captions[paths[n]] = (
            f"{names[one]} \N{LEFT RIGHT ARROW} {names[other]}?" if n in exchanged else f"{names[worst_N[n]]} far off?"
        )
        half = MARK * diagonal_N[n] / 2
        marked = place_NP2[n, [one, other] if n in exchanged else [worst_N[n]]]
        places[paths[n]] = [(x - half, y - half, x + half, y + half) for x, y in marked.tolist()]
    evidence: dict[str, Any] = {"images": len(rows), "points": len(names), "exchanged": len(exchanged), "far": len(far)}
    if not captions:
        says = f"The {len(names)} points of {len(rows)} images lie as those of other images let expect."
        return [Finding("label_errors/points", "passed", says, evidence)], []
    evidence["which"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    says = (
        f"In {len(exchanged)} of {len(rows)} images two points look exchanged, in {len(far)} one lies far from where "
        "the others of its image say, by the shapes in other groups of images. A rare pose looks like that too: look."
    )
    images = list(captions)[:24]
    return [Finding("label_errors/points", "warning", says, evidence, images, captions, places)], []
