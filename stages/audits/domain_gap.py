"""Images of two origins (sites, cameras, real and simulated): how far apart they are, why, and what carries over."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.probes.appearance import appearance
from stages.probes.linear_probe import FOLDS, folds
from stages.probes.two_sample_test import CLEAR, Difference, compared, sample, shares_differ, too_few

MOST_ORIGINS = 5  # that are compared with the largest
PENALTY = 10.0  # of the probe of the label, on standardized pixels
SHARES = 0.3  # of the images that would need another class, from which the origin tells the class
WEAK = 0.1  # skill of the probe within an origin below which nothing can be said of what carries over

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Gap:
    """Between the images of one origin and those of the largest one."""

    origin: str
    other: str
    looks: Difference
    own: float | None
    """Skill of a probe of the label on `origin`, out of fold: 0 is chance, 1 certain. None: no common classes."""
    carried: float | None
    """Skill on `origin` of the probe that has learned on `other`."""


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`domain_gap/origins` warns where images of two origins can be told apart."""
    rows = subject.rows[~subject.rows["blank"] & (subject.rows["origin"] != "")]
    origins = rows["origin"].value_counts()
    if len(origins) < 2:
        says = "No two origins of images are known (ingest.origin_regex, ingest.columns.origin): nothing to compare."
        return [Finding("domain_gap/origins", "passed", says)]
    largest, *others = (str(name) for name in origins.index[: MOST_ORIGINS + 1])
    unable = {o: too_few(rows[rows["origin"] == o], rows[rows["origin"] == largest]) for o in others}
    findings = []
    gaps = [_gap(rows, o, largest, subject, audit) for o in others if not unable[o]]
    if gaps:
        findings.append(_finding(gaps, rows, audit))
    if any(unable.values()):
        said = "; ".join(f"`{o}` and `{largest}`: {why}" for o, why in unable.items() if why)
        findings.append(Finding("domain_gap/not-checked", "info", f"Some origins cannot be compared: {said}."))
    return findings


def _finding(gaps: list[Gap], rows: pd.DataFrame, audit: Audit) -> Finding:
    clear = [gap for gap in gaps if gap.looks.p <= audit.max_p and gap.looks.auc >= CLEAR]
    evidence = {
        f"{gap.origin} against {gap.other}": gap.looks.evidence() | {"own_skill": gap.own, "carried_skill": gap.carried}
        for gap in gaps
    }
    if not clear:
        told = ", ".join(f"{gap.looks.auc:.2f} (p = {gap.looks.p:.3f})" for gap in gaps)
        says = f"Images of different origin look alike, class by class: AUC of telling them apart {told}; .5 is chance."
        return Finding("domain_gap/origins", "passed", says, evidence)
    says = " ".join(_says(gap, rows, audit) for gap in clear)
    return Finding("domain_gap/origins", "warning", says, evidence, clear[0].looks.typical)


def _says(gap: Gap, rows: pd.DataFrame, audit: Audit) -> str:
    says = (
        f"Images of origin `{gap.origin}` can be told from those of `{gap.other}`, class by class, at AUC "
        f"{gap.looks.auc:.2f} (.5 is chance, 1 certain; p = {gap.looks.p:.3f}). Those of `{gap.origin}` are "
        f"{gap.looks.in_words()}."
    )
    if gap.own is not None and gap.carried is not None and gap.own >= WEAK:
        says += (
            f" A plain probe of the label reaches skill {gap.own:.2f} (0 chance, 1 certain) on `{gap.origin}` when it "
            f"has learned there, {gap.carried:.2f} when it has learned on `{gap.other}`: "
            f"{max(0.0, min(1.0, gap.carried / gap.own)):.0%} carries over."
        )
    both = rows[rows["origin"].isin([gap.origin, gap.other])]
    distance, p, said = shares_differ(both, (both["origin"] == gap.origin).to_numpy(), audit.permutations)
    if p <= audit.max_p and distance >= SHARES:
        says += f" Their classes stand in other shares, too ({', '.join(said)}): the origin tells the class."
    return says


def _gap(rows: pd.DataFrame, origin: str, largest: str, subject: Subject, audit: Audit) -> Gap:
    chosen = pd.concat([sample(rows[rows["origin"] == name]) for name in (origin, largest)])
    of_one = (chosen["origin"] == origin).to_numpy()
    looks = appearance(chosen, subject.folder)
    found = compared(chosen, of_one, looks, audit.permutations, audit.max_p)
    own, carried = _skills(chosen, of_one, looks.small) if subject.one_class_each else (None, None)
    return Gap(origin, largest, found, own, carried)


def _skills(rows: pd.DataFrame, of_one: Array, small: Array) -> tuple[float | None, float | None]:
    """Skill on the one origin of ridge regression on pixels at 16x16: learned there, out of fold, and on the other."""
    per_class = rows.groupby(["label", of_one])["group"].nunique().unstack(fill_value=0)
    common = rows["label"].isin(per_class.index[(per_class >= FOLDS).all(axis=1)]).to_numpy()
    labels, groups = rows["label"].to_numpy(), rows["group"].to_numpy()
    if len(set(labels[common])) < 2:
        return None, None
    here, there = common & of_one, common & ~of_one
    x_here, x_there = _standard(small[here], small[there]), _standard(small[there], small[there])
    probe = RidgeClassifier(PENALTY, class_weight="balanced")
    fold_N = folds(pd.factorize(labels[here])[0], groups[here])
    parts = [(np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)) for fold in np.unique(fold_N)]
    own = cross_val_predict(probe, x_here, labels[here], cv=parts)
    carried = probe.fit(x_there, labels[there]).predict(x_here)
    skills = [float(balanced_accuracy_score(labels[here], answer, adjusted=True)) for answer in (own, carried)]
    return skills[0], skills[1]


def _standard(pixels: Array, like: Array) -> Array:
    return (pixels - like.mean(axis=0)) / (like.std(axis=0) + 0.05)
