"""Wrong classes and grades: see `stages.probes.confident_learning` for how they are told."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.audits.audit_data import Subject
from stages.core.findings import Finding, Severity
from stages.dataset.manifest import parse_annotations, sorted_labels
from stages.probes.confident_learning import Doubt, doubt
from stages.probes.cross_validation import FOLDS, numbers, probabilities

SKILLED = 0.65  # below it, clean data were said to have wrong labels; see docs/reference/findings.md
NOTABLE = 0.01  # share of wrong labels, at its lower bound, that is worth a warning
Found = tuple[list[Finding], list[str]]
"""Findings, and what could not be told."""


def find(subject: Subject) -> Found:
    """Report wrong classes, or grades where the classes have an order; several labels are checked one by one."""
    labels = [annotation.labels for annotation in parse_annotations(subject.sample)]
    if any(one is None for one in labels):
        return [], []
    return _one_each(subject) if subject.one_class_each else _several(subject, [set(one or ()) for one in labels])


def _one_each(subject: Subject) -> Found:
    rows = subject.sample
    groups_of = rows.groupby("label")["group"].nunique()
    known_N = rows["label"].map(groups_of >= FOLDS).to_numpy()
    rare = [label for label in sorted_labels(rows) if groups_of[label] < FOLDS]
    unknown = [f"{_listed('class', rare)} too few groups to tell wrong labels."] if rare else []
    rows, features_NF = rows[known_N], subject.features[known_N]
    if rows["label"].nunique() < 2:
        return [], [*unknown, "Fewer than two classes are left in which wrong labels can be told."]
    order = subject.grades if set(rows["label"]) <= set(subject.grades) else sorted_labels(rows)
    names = [name for name in order if name in set(rows["label"])]
    codes_N = rows["label"].map({name: code for code, name in enumerate(names)}).to_numpy()
    _, p_NK = probabilities(features_NF, codes_N, rows["group"].to_numpy())
    told = doubt(p_NK, codes_N, ordered=bool(subject.grades))
    name = "label_errors/grades" if subject.grades else "label_errors/classes"
    if told.skill < SKILLED:
        return [], [*unknown, _too_weak("the label", told)]
    paths = list(rows["path"])
    surest = told.surest()
    captions = {paths[i]: f"{names[codes_N[i]]} \N{RIGHTWARDS ARROW} {names[told.better_N[i]]}?" for i in surest}
    evidence = {
        "images": len(rows),
        "skill": told.skill,
        "share": told.share,
        "at_least": told.at_least,
        "surest": [f"{path} ({captions[path]} {told.doubt_N[i]:.2f})" for i, path in _at(surest, paths)],
    }
    severity: Severity = "warning" if told.at_least > NOTABLE else "info" if told.count else "passed"
    says = _says(told, len(rows), "labels")
    return [Finding(name, severity, says, evidence, [paths[i] for i in surest], captions)], unknown


def _several(subject: Subject, labels: Sequence[set[str]]) -> Found:
    """Each class against the rest."""
    rows, names = subject.sample, sorted(set().union(*labels))
    has_NK = np.array([[name in one for name in names] for one in labels])
    groups_K = [rows["group"][has_NK[:, k]].nunique() for k in range(len(names))]
    kept = [k for k in range(len(names)) if groups_K[k] >= FOLDS and not has_NK[:, k].all()]
    score_NK = numbers(subject.features, has_NK[:, kept].astype(float), rows["group"].to_numpy()) if kept else has_NK
    told = {k: _against_rest(score_NK[:, place], has_NK[:, k]) for place, k in enumerate(kept)}
    skilled = {k: one for k, one in told.items() if one.skill >= SKILLED}
    left_out = [names[k] for k in range(len(names)) if k not in skilled]
    unknown = [f"{_listed('class', left_out)} too few images, or look too varied, to tell wrong labels."]
    wrong = {k: one for k, one in skilled.items() if one.count}
    captions: dict[str, str] = {}
    ranked = sorted(((one.doubt_N[i], k, i) for k, one in wrong.items() for i in one.surest()), reverse=True)
    paths = list(rows["path"])
    for _, k, i in ranked:
        captions.setdefault(paths[i], f"{'has' if has_NK[i, k] else 'lacks'} {names[k]}, wrongly?")
    places = [kept.index(k) for k in skilled]
    together = _against_rest(score_NK[:, places].T.ravel(), has_NK[:, list(skilled)].T.ravel()) if skilled else None
    at_least = together.at_least * len(skilled) if together else 0.0  # mistakes an image
    evidence: dict[str, Any] = {"images": len(rows), "at_least": at_least}
    evidence |= {names[k]: {"skill": o.skill, "share": o.share, "at_least": o.at_least} for k, o in told.items()}
    count = sum(one.count for one in wrong.values())
    which = ", ".join(f"{one.count} of `{names[k]}`" for k, one in list(wrong.items())[:10])
    least = min((one.skill for one in skilled.values()), default=0.0)
    skill = f"a plain model foretells {len(skilled)} classes with skill {least:.2f} or more (0 nothing, 1 certain)"
    if not count:
        says = f"No sign of wrong labels in {len(rows)} images, class by class; {skill}."
    elif at_least > NOTABLE:
        says = (
            f"About {count} labels in {len(rows)} images look wrong ({which}), at least {at_least:.1%} an image; "
            f"{skill}. The surest come first: look at them, and correct those that are wrong."
        )
    else:
        says = f"At most about {count} labels in {len(rows)} images look wrong ({which}); {skill}."
    severity: Severity = "warning" if at_least > NOTABLE else "info" if count else "passed"
    found = [Finding("label_errors/classes", severity, says, evidence, list(captions)[:24], captions)]
    return (found if skilled else []), (unknown if left_out else [])


def _against_rest(score_N: np.ndarray, has_N: np.ndarray) -> Doubt:
    p_N = np.clip(score_N, 0, 1)
    return doubt(np.stack([1 - p_N, p_N], axis=1), has_N.astype(int))


def _says(told: Doubt, count: int, what: str) -> str:
    skill = f"a plain model foretells it with skill {told.skill:.2f} (0 nothing, 1 certain) for images not seen before"
    if not told.count:
        return f"No sign of wrong labels in {count} {what}; {skill}."
    share = f"{told.count} of {count} {what} ({told.share:.1%})"
    if told.at_least > NOTABLE:
        return (
            f"About {share} look wrong, at least {told.at_least:.1%}: another class fits them better; {skill}. "
            "The surest come first: look at them, and correct those that are wrong."
        )
    return f"At most about {share} look wrong, no more than classes that overlap make it seem; {skill}."


def _too_weak(what: str, told: Doubt) -> str:
    return (
        f"Wrong labels cannot be told: a plain model foretells {what} with skill {told.skill:.2f} "
        f"(0 nothing, 1 certain) for images not seen before, {SKILLED} is needed. Either what tells the classes is too "
        "fine for it, or many labels are wrong."
    )


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"The {what} {shown} has" if len(names) == 1 else f"{len(names)} {what}es ({shown}) have"


def _at(places: np.ndarray, paths: list[str]) -> list[tuple[int, str]]:
    return [(int(i), paths[i]) for i in places]
