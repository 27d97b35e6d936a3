"""Whether validation looks as training does, and new data as the old: else a score says little of what will be met."""

import pandas as pd

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.probes.two_sample_test import CLEAR, Difference, difference, shares_differ, too_few

SHARES = 0.1  # of the images that would have to change their class


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`representativeness/validation`, `.../new-data` and `.../classes` warn."""
    rows = subject.rows[~subject.rows["blank"]]
    latest = rows["arrival"].max()
    train, val = rows[rows["split"] == "train"], rows[rows["split"] == "val"]
    new, old = rows[rows["arrival"] == latest], rows[rows["arrival"] < latest]
    findings, unsaid = [], []
    for name, ones, others, one, other in (
        ("validation", "validation", "training", val, train),
        ("new-data", "new", "older", new, old),
    ):
        unable = too_few(one, other)
        if name == "new-data" and old.empty:
            says = "All images came with the first ingest: there are no new ones to compare."
            findings.append(Finding("representativeness/new-data", "passed", says))
        elif unable:
            unsaid.append(f"whether the {ones} images look as the {others} ones do, of {unable}")
        else:
            found = difference(one, other, subject.folder, audit.permutations, audit.max_p)
            findings.append(_looks(name, ones, others, found, audit))
    if (rows["label"] == "").all():
        unsaid.append("whether classes stand in the same shares, as the images have no class of their own")
    else:
        findings.append(_classes(val, train, new, old, audit))
    if unsaid:
        findings.append(Finding("representativeness/not-checked", "info", f"It cannot be told {'; '.join(unsaid)}."))
    return findings


def _looks(name: str, ones: str, others: str, found: Difference, audit: Audit) -> Finding:
    told = f"a probe tells them apart at AUC {found.auc:.2f} (.5 is chance, 1 certain; p = {found.p:.3f})"
    if found.p > audit.max_p or found.auc < CLEAR:
        nearly = "nearly " if found.p <= audit.max_p else ""
        says = f"The {ones} images look {nearly}as the {others} ones do: {told}."
        return Finding(f"representativeness/{name}", "passed", says, found.evidence())
    advice = (
        "A score on validation images then says little of images like the training ones, and the reverse: mix them."
        if name == "validation"
        else "A model of the older ones may fail on them: have some of the new ones in validation, and train on some."
    )
    says = (
        f"The {ones} images look other than the {others} ones, class by class: {told}. The {ones} ones are "
        f"{found.in_words()}. Shown are the most typical {ones} ones, then the most typical {others} ones. {advice}"
    )
    return Finding(f"representativeness/{name}", "warning", says, found.evidence(), found.typical)


def _classes(val: pd.DataFrame, train: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame, audit: Audit) -> Finding:
    """Class shares, of any labels that name classes."""
    evidence, parts, compared = {}, [], []
    for ones, others, one, other in (("validation", "training", val, train), ("new", "older", new, old)):
        if one.empty or other.empty:
            continue
        both = pd.concat([one, other])
        distance, p, said = shares_differ(both, both.index.isin(one.index), audit.permutations)
        evidence[ones] = {"distance": distance, "p": p}
        compared.append(f"{ones} and {others} images ({distance:.1%} apart)")
        if p <= audit.max_p and distance >= SHARES:
            parts.append(
                f"{distance:.0%} of the {ones} images would need another class to stand in the shares of the {others} "
                f"ones (p = {p:.3f}): {', '.join(said)}"
            )
    if parts:
        says = f"{'. '.join(parts)}. Scores that weigh images, not classes, then shift with the shares alone."
        return Finding("representativeness/classes", "warning", says, evidence)
    says = f"Classes stand in about the same shares: {', '.join(compared)}."
    return Finding("representativeness/classes", "passed", says, evidence)
