"""Domain-gap audit: how images of different origins (sites, cameras, real and simulated) differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict

from stages.audits.audit_data import AuditData
from stages.audits.power import merge_unchecked, require_power
from stages.audits.representativeness import power_of
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.probes.appearance import measure_appearance
from stages.probes.linear_probe import FOLDS, stratified_group_folds
from stages.probes.two_sample_test import Difference, compare_features, sample, shares_differ, too_few

MAX_ORIGINS = 5  # maximum number of origins that are compared with the largest one
PENALTY = 10.0  # ridge penalty of the label probe, on standardized pixels
MIN_SHARE_DISTANCE = 0.3  # total variation distance of the class shares, from which the origin predicts the class
MIN_SKILL = 0.1  # minimum skill of the label probe within an origin; below it, transfer is not reported

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Gap:
    """Difference between the images of one origin and those of the largest origin."""

    origin: str
    other: str
    difference: Difference
    own: float | None
    """Out-of-fold skill of a label probe on `origin` (0: chance, 1: perfect); None if it cannot be measured."""
    carried: float | None
    """Skill on `origin` of the probe that was trained on `other`; None if `own` is None."""


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report origins whose images can be distinguished from those of the largest origin (warning).

    At most `MAX_ORIGINS` other origins are compared; those with too few groups are listed in `domain_gap/not-checked`.
    """
    rows = data.rows[~data.rows["blank"] & (data.rows["origin"] != "")]
    origins = rows["origin"].value_counts()
    if len(origins) < 2:
        message = (
            "Origins were not compared: fewer than two are specified. If the images are from several sites, cameras or "
            "scanners, specify ingest.origin_regex or ingest.columns.origin."
        )
        return [Finding("domain_gap/not-checked", "info", message)]
    largest, *others = (str(name) for name in origins.index[: MAX_ORIGINS + 1])
    unable = {o: too_few(rows[rows["origin"] == o], rows[rows["origin"] == largest]) for o in others}
    findings = []
    gaps = [_gap(rows, o, largest, data, audit) for o in others if not unable[o]]
    if gaps:
        findings += _findings(gaps, rows, audit)
    if any(unable.values()):
        reasons = ", ".join(f"`{o}` with `{largest}` ({why})" for o, why in unable.items() if why)
        findings.append(Finding("domain_gap/not-checked", "info", f"Origins that were not compared: {reasons}."))
    return merge_unchecked(findings)


def _findings(gaps: list[Gap], rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    clear = [gap for gap in gaps if gap.difference.p <= audit.max_p and gap.difference.is_clear]
    evidence = {
        f"{gap.origin} against {gap.other}": gap.difference.evidence()
        | {"own_skill": gap.own, "carried_skill": gap.carried}
        for gap in gaps
    }
    if not clear:
        values = ", ".join(f"{gap.difference.auc:.2f} for `{gap.origin}` (p = {gap.difference.p:.3f})" for gap in gaps)
        message = (
            f"No compared origin differs clearly from `{gaps[0].other}`, class by class: a probe distinguishes the "
            f"images with AUC {values}, where 0.5 is chance and 1 is perfect."
        )
        found = Finding("domain_gap/origins", "passed", message, evidence)
        return require_power(found, [power_of(gap.difference, f"an origin `{gap.origin}` that is") for gap in gaps])
    message = " ".join(_describe(gap, rows, audit) for gap in clear)
    return [Finding("domain_gap/origins", "warning", message, evidence, clear[0].difference.typical)]


def _describe(gap: Gap, rows: pd.DataFrame, audit: Audit) -> str:
    message = (
        f"A probe distinguishes images of origin `{gap.origin}` from those of `{gap.other}`, class by class, with AUC "
        f"{gap.difference.auc:.2f} (0.5: chance, 1: perfect; p = {gap.difference.p:.3f}). Those of `{gap.origin}` are "
        f"{gap.difference.describe()}."
    )
    if gap.own is not None and gap.carried is not None and gap.own >= MIN_SKILL:
        message += (
            f" A simple label probe has a skill of {gap.own:.2f} (0: chance, 1: perfect) on `{gap.origin}` if it is "
            f"trained there, and {gap.carried:.2f} if it is trained on `{gap.other}`: "
            f"{max(0.0, min(1.0, gap.carried / gap.own)):.0%} of the skill transfers."
        )
    both = rows[rows["origin"].isin([gap.origin, gap.other])]
    shares = shares_differ(both, (both["origin"] == gap.origin).to_numpy(), audit.permutations)
    if shares.p <= audit.max_p and shares.distance >= MIN_SHARE_DISTANCE:
        message += (
            f" The class shares of the two origins also differ (`{gap.origin}` minus `{gap.other}`: "
            f"{', '.join(shares.classes)}), so that the origin predicts the class."
        )
    return message


def _gap(rows: pd.DataFrame, origin: str, largest: str, data: AuditData, audit: Audit) -> Gap:
    chosen = pd.concat([sample(rows[rows["origin"] == name]) for name in (origin, largest)])
    of_one = (chosen["origin"] == origin).to_numpy()
    features = measure_appearance(chosen, data.folder)
    result = compare_features(chosen, of_one, features, audit.permutations, audit.max_p)
    own, carried = _skills(chosen, of_one, features.small) if data.one_class_each else (None, None)
    return Gap(origin, largest, result, own, carried)


def _skills(rows: pd.DataFrame, of_one: Array, small: Array) -> tuple[float | None, float | None]:
    """Return the skill on one origin of a pixel probe trained there (out of fold) and of one trained on the other.

    Both are None if fewer than two classes have enough groups in both origins.
    """
    per_class = rows.groupby(["label", of_one])["group"].nunique().unstack(fill_value=0)
    common = rows["label"].isin(per_class.index[(per_class >= FOLDS).all(axis=1)]).to_numpy()
    labels, groups = rows["label"].to_numpy(), rows["group"].to_numpy()
    if len(set(labels[common])) < 2:
        return None, None
    own_N, other_N = common & of_one, common & ~of_one
    x_own, x_other = _standardize(small[own_N], small[other_N]), _standardize(small[other_N], small[other_N])
    probe = RidgeClassifier(PENALTY, class_weight="balanced")
    fold_N = stratified_group_folds(pd.factorize(labels[own_N])[0], groups[own_N])
    parts = [(np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)) for fold in np.unique(fold_N)]
    own = cross_val_predict(probe, x_own, labels[own_N], cv=parts)
    carried = probe.fit(x_other, labels[other_N]).predict(x_own)
    skills = [float(balanced_accuracy_score(labels[own_N], predicted, adjusted=True)) for predicted in (own, carried)]
    return skills[0], skills[1]


def _standardize(pixels: Array, like: Array) -> Array:
    return (pixels - like.mean(axis=0)) / (like.std(axis=0) + 0.05)
