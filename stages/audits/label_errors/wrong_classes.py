"""Wrong classes and grades, found by confident learning (`stages.probes.confident_learning`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.power import TRIALS, Power, choose_planted, require_power
from stages.core.findings import Finding, Severity
from stages.core.plurals import quantity
from stages.core.shapes import Array, Bool, Float, Integer
from stages.dataset.manifest import parse_annotations, sorted_labels
from stages.probes.confident_learning import LabelErrors, find_label_errors
from stages.probes.cross_validation import FOLDS, out_of_fold_numbers, out_of_fold_probabilities

MIN_SKILL = 0.65  # below this skill, clean data caused false alarms; see docs/reference/findings.md
HALF = 0.5  # share of planted label errors that must be listed
MAINLY = 0.5  # share of the pretrained features from which they are the main kind
NOTABLE = 0.01  # lower bound of the share of wrong labels, from which the finding is a warning
NOTABLE_OF_PHOTOS = 0.02  # the same if pretrained features predict the labels; docs/results/audits.md
Found = tuple[list[Finding], list[str]]
"""Findings, and sentences about what could not be checked."""


def find(data: AuditData) -> Found:
    """Report wrong classes, or wrong grades if the classes are ordered; multiple labels are checked class by class.

    Both lists are empty if the annotations of an image are not classes.
    """
    labels = [annotation.labels for annotation in parse_annotations(data.sample)]
    if any(names is None for names in labels):
        return [], []
    return _single_label(data) if data.one_class_each else _multi_label(data, [set(names or ()) for names in labels])


def _single_label(data: AuditData) -> Found:
    rows = data.sample
    groups_of = rows.groupby("label")["group"].nunique()
    known_N = rows["label"].map(groups_of >= FOLDS).to_numpy()
    rare = [label for label in sorted_labels(rows) if groups_of[label] < FOLDS]
    unchecked = [f"{_unchecked(rare)}: at least {FOLDS} groups per class are required."] if rare else []
    rows = rows[known_N]
    if rows["label"].nunique() < 2:
        return [], [*unchecked, f"No labels were checked: fewer than two classes have {FOLDS} or more groups."]
    order = data.grades if set(rows["label"]) <= set(data.grades) else sorted_labels(rows)
    names = [name for name in order if name in set(rows["label"])]
    codes_N = rows["label"].map({name: code for code, name in enumerate(names)}).to_numpy()
    used = data.probe_features(known_N, np.eye(len(names))[codes_N])
    _, p_NK = out_of_fold_probabilities(used.features_NF, codes_N, rows["group"].to_numpy(), used.standardized)
    errors = find_label_errors(p_NK, codes_N, ordered=bool(data.grades))
    name = "label_errors/grades" if data.grades else "label_errors/classes"
    if errors.skill < MIN_SKILL:
        return [], [*unchecked, _low_skill("the label", errors, used.name)]
    paths = list(rows["path"])
    certain = errors.most_certain()
    captions = {paths[i]: f"{names[codes_N[i]]} \N{RIGHTWARDS ARROW} {names[errors.better_N[i]]}?" for i in certain}
    evidence = {
        "images": len(rows),
        "features": used.name,
        "skill": errors.skill,
        "share": errors.share,
        "at_least": errors.at_least,
        "most_certain": [
            f"{path} ({captions[path]} {errors.score_N[i]:.2f})" for i, path in _with_paths(certain, paths)
        ],
    }
    # Classes of photos overlap: without label errors, the lower bound is up to .012 in CIFAR-10.
    notable = NOTABLE_OF_PHOTOS if used.share >= MAINLY else NOTABLE
    severity: Severity = "warning" if errors.at_least > notable else "info" if errors.count else "passed"
    message = _describe(errors, len(rows), used.name, notable)
    found = Finding(name, severity, message, evidence, [paths[i] for i in certain], captions)
    findings = require_power(
        unless_too_many(found, errors.count, len(rows), "labels"), [_power(p_NK, codes_N, bool(data.grades))]
    )
    return findings, unchecked


def _power(p_NK: Float[Array, "N K"], codes_N: Integer[Array, " N"], ordered: bool) -> Power:
    """Return how often the audit lists at least half of the labels that are replaced by a random other one.

    The baseline is not trained again: in 510 digits, one that is trained on the planted labels finds 25 of 26, the
    given one 23.

    Args:
        p_NK: out-of-fold probabilities.
        codes_N: given class of each image.
        ordered: whether the classes are grades.
    """
    trials = []
    for seed in range(TRIALS):
        planted = choose_planted(len(codes_N), seed=seed)
        other = np.random.default_rng(seed).integers(1, p_NK.shape[1], len(planted))
        changed_N = codes_N.copy()
        changed_N[planted] = (codes_N[planted] + other) % p_NK.shape[1]
        listed: Integer[Array, " M"] = np.empty(0, int)
        if len(set(changed_N)) == p_NK.shape[1]:  # otherwise a class is lost, so that it cannot be checked
            errors = find_label_errors(p_NK, changed_N, ordered)
            listed = errors.most_certain(errors.count)
        trials.append((len(np.intersect1d(planted, listed)), len(planted), len(listed)))
    return _summarize(trials)


def _summarize(trials: list[tuple[int, int, int]]) -> Power:
    """Return the power from the number of planted labels found, of planted labels, and of listed labels by trial."""
    found, planted, listed = np.array(trials).sum(axis=0)
    missing = "More images per class, or classes that the baseline distinguishes better, are required."
    wrong = f"false alarms in {listed - found} of {listed} listed labels" if listed else ""
    return Power(
        f"sets of {planted // len(trials)} replaced labels, with {found / planted:.0%} of the replaced labels listed",
        sum(of_trial >= HALF * in_trial for of_trial, in_trial, _ in trials),
        len(trials),
        missing,
        wrong,
    )


def _multi_label(data: AuditData, labels: Sequence[set[str]]) -> Found:
    """Report wrong labels of images with any number of classes; each class is compared with the rest."""
    rows, names = data.sample, sorted(set().union(*labels))
    has_NK = np.array([[name in of_image for name in names] for of_image in labels])
    groups_K = [rows["group"][has_NK[:, k]].nunique() for k in range(len(names))]
    kept = [k for k in range(len(names)) if groups_K[k] >= FOLDS and not has_NK[:, k].all()]
    score_NK = (
        out_of_fold_numbers(data.features, has_NK[:, kept].astype(float), rows["group"].to_numpy()) if kept else has_NK
    )
    errors_of = {k: _one_against_rest(score_NK[:, place], has_NK[:, k]) for place, k in enumerate(kept)}
    skilled = {k: errors for k, errors in errors_of.items() if errors.skill >= MIN_SKILL}
    left_out = [names[k] for k in range(len(names)) if k not in skilled]
    unchecked = [
        f"{_unchecked(left_out)}: images with the class in at least {FOLDS} groups, an image without it, and a skill "
        f"of the baseline of at least {MIN_SKILL} are required."
    ]
    wrong = {k: errors for k, errors in skilled.items() if errors.count}
    captions: dict[str, str] = {}
    ranked = sorted(
        ((errors.score_N[i], k, i) for k, errors in wrong.items() for i in errors.most_certain()), reverse=True
    )
    paths = list(rows["path"])
    for _, k, i in ranked:
        captions.setdefault(paths[i], f"{'labelled' if has_NK[i, k] else 'not labelled'} {names[k]}?")
    places = [kept.index(k) for k in skilled]
    together = _one_against_rest(score_NK[:, places].T.ravel(), has_NK[:, list(skilled)].T.ravel()) if skilled else None
    at_least = together.at_least * len(skilled) if together else 0.0  # errors per image
    evidence: dict[str, Any] = {"images": len(rows), "at_least": at_least}
    evidence |= {names[k]: {"skill": e.skill, "share": e.share, "at_least": e.at_least} for k, e in errors_of.items()}
    count = sum(errors.count for errors in wrong.values())
    which = ", ".join(f"{errors.count} of `{names[k]}`" for k, errors in list(wrong.items())[:10])
    which += ", ..." if len(wrong) > 10 else ""
    least = min((errors.skill for errors in skilled.values()), default=0.0)
    classes = quantity(len(skilled), "class", "classes")
    skill = f"the baseline predicts {classes} with a skill of at least {least:.2f} (0: chance, 1: perfect)"
    if not count:
        message = f"No label errors were detected in {quantity(len(rows), 'image')}, class by class; {skill}."
    elif at_least > NOTABLE:
        message = (
            f"About {quantity(count, 'label')} in {quantity(len(rows), 'image')} {_look(count)} wrong ({which}), at "
            f"least {100 * at_least:.1f} per 100 images; {skill}. The most certain ones are shown first: check them, "
            "and correct wrong labels."
        )
    else:
        message = (
            f"At most about {quantity(count, 'label')} in {quantity(len(rows), 'image')} {_look(count)} wrong "
            f"({which}); {skill}."
        )
    severity: Severity = "warning" if at_least > NOTABLE else "info" if count else "passed"
    found = Finding("label_errors/classes", severity, message, evidence, list(captions)[:24], captions)
    found = unless_too_many(found, count, len(rows) * max(1, len(skilled)), "labels")
    if not skilled:
        return [], unchecked
    power = _power_of_several(score_NK[:, places], has_NK[:, list(skilled)])
    return require_power(found, [power]), (unchecked if left_out else [])


def _power_of_several(score_NK: Float[Array, "N K"], has_NK: Bool[Array, "N K"]) -> Power:
    """Return how often the audit lists at least half of the labels that are added or removed, one per image.

    Args:
        score_NK: out-of-fold scores of the classes that are checked.
        has_NK: True for the labels of each image.
    """
    trials = []
    for seed in range(TRIALS):
        planted = choose_planted(len(has_NK), seed=seed)
        k_M = np.random.default_rng(seed).integers(0, has_NK.shape[1], len(planted))
        changed_NK = has_NK.copy()
        changed_NK[planted, k_M] ^= True
        listed: set[tuple[int, int]] = set()
        for k in range(has_NK.shape[1]):
            if len(set(changed_NK[:, k])) > 1:
                errors = _one_against_rest(score_NK[:, k], changed_NK[:, k])
                listed |= {(int(i), k) for i in errors.most_certain(errors.count)}
        found = listed & set(zip(planted.tolist(), k_M.tolist(), strict=True))
        trials.append((len(found), len(planted), len(listed)))
    return _summarize(trials)


def _one_against_rest(score_N: np.ndarray, has_N: np.ndarray) -> LabelErrors:
    p_N = np.clip(score_N, 0, 1)
    return find_label_errors(np.stack([1 - p_N, p_N], axis=1), has_N.astype(int))


def _describe(errors: LabelErrors, count: int, features: str, notable: float) -> str:
    """Return a sentence on the number of wrong labels.

    Args:
        errors: possible label errors.
        count: number of labels.
        features: kinds of features of the baseline.
        notable: lower bound of the share of wrong labels from which they are not explained by overlapping classes.
    """
    skill = (
        f"the baseline, on features of {features}, predicts the label with skill {errors.skill:.2f} (0: chance, 1: "
        "perfect)"
    )
    if not errors.count:
        return f"No label errors were detected in {count} labels; {skill}."
    share = f"{errors.count} of {count} labels ({errors.share:.1%})"
    if errors.at_least > notable:
        return (
            f"About {share} {_look(errors.count)} wrong, at least {errors.at_least:.1%}: another class fits better; "
            f"{skill}. "
            "The most certain ones are shown first: check them, and correct wrong labels."
        )
    return f"At most about {share} {_look(errors.count)} wrong, which overlapping classes can explain; {skill}."


def _look(count: int) -> str:
    return "looks" if count == 1 else "look"


def _low_skill(what: str, errors: LabelErrors, features: str) -> str:
    return (
        f"Label errors were not checked: the baseline, on features of {features}, predicts {what} with skill "
        f"{errors.skill:.2f} (0: chance, 1: perfect), but at least {MIN_SKILL} is required. The differences between "
        "the classes may be too fine for it, the images too few, or many labels wrong."
    )


def _unchecked(names: list[str]) -> str:
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    classes = f"class {shown}" if len(names) == 1 else f"{len(names)} classes ({shown})"
    return f"Labels were not checked for {classes}"


def _with_paths(places: np.ndarray, paths: list[str]) -> list[tuple[int, str]]:
    return [(int(i), paths[i]) for i in places]
