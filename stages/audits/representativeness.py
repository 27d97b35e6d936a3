"""Representativeness audit: do validation images resemble training images, and do new images resemble older images?"""

import pandas as pd

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.probes.two_sample_test import CLEAR, Difference, compare_rows, shares_differ, too_few

MIN_SHARE_DISTANCE = 0.1  # total variation distance of the class shares, from which it is reported


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report differences between validation and training images, and between new and older images (warnings).

    The appearance of the images and the class shares are compared; blank images are left out.
    """
    rows = data.rows[~data.rows["blank"]]
    latest = rows["arrival"].max()
    train, val = rows[rows["split"] == "train"], rows[rows["split"] == "val"]
    new, old = rows[rows["arrival"] == latest], rows[rows["arrival"] < latest]
    findings, unchecked = [], []
    for name, ones, others, one, other in (
        ("validation", "validation", "training", val, train),
        ("new-data", "new", "older", new, old),
    ):
        unable = too_few(one, other)
        if name == "new-data" and old.empty:
            message = "All images were added by the same ingest, so there are no new images to compare."
            findings.append(Finding("representativeness/new-data", "passed", message))
        elif unable:
            unchecked.append(f"whether {ones} images resemble {others} images ({unable})")
        else:
            result = compare_rows(one, other, data.folder, audit.permutations, audit.max_p)
            findings.append(_compare_sets(name, ones, others, result, audit))
    if (rows["label"] == "").all():
        unchecked.append("the class shares, because the images have no class")
    elif (val.empty or train.empty) and old.empty:
        unchecked.append("the class shares, because the training or the validation split has only blank images")
    else:
        findings.append(_classes(val, train, new, old, audit))
    if unchecked:
        findings.append(Finding("representativeness/not-checked", "info", f"Not checked: {'; '.join(unchecked)}."))
    return findings


def _compare_sets(name: str, ones: str, others: str, result: Difference, audit: Audit) -> Finding:
    auc = f"a probe distinguishes them with AUC {result.auc:.2f} (0.5: chance, 1: perfect; p = {result.p:.3f})"
    if result.p > audit.max_p or result.auc < CLEAR:
        nearly = "nearly " if result.p <= audit.max_p else ""
        message = f"The {ones} images look {nearly}like the {others} images: {auc}."
        return Finding(f"representativeness/{name}", "passed", message, result.evidence())
    advice = (
        "The validation score may not hold for images like the training images: draw both splits at random "
        "from the same images."
        if name == "validation"
        else "A model trained on older images may fail on new ones: add some of the new images to the training split "
        "and to the validation split."
    )
    message = (
        f"The {ones} images look different from the {others} images, class by class: {auc}. The {ones} images are "
        f"{result.describe()}. Shown are the most typical {ones} images, then the most typical {others} images. "
        f"{advice}"
    )
    return Finding(f"representativeness/{name}", "warning", message, result.evidence(), result.typical)


def _classes(val: pd.DataFrame, train: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame, audit: Audit) -> Finding:
    """Report differences in the class shares."""
    evidence, parts, compared = {}, [], []
    for ones, others, one, other in (("validation", "training", val, train), ("new", "older", new, old)):
        if one.empty or other.empty:
            continue
        both = pd.concat([one, other])
        distance, p, classes = shares_differ(both, both.index.isin(one.index), audit.permutations)
        evidence[ones] = {"distance": distance, "p": p}
        compared.append(f"by {distance:.1%} between {ones} and {others} images (p = {p:.3f})")
        if p <= audit.max_p and distance >= MIN_SHARE_DISTANCE:
            parts.append(
                f"The class shares of {ones} and {others} images differ by {distance:.0%} of the images (p = {p:.3f}). "
                f"The largest differences, {ones} minus {others}, are {', '.join(classes)}"
            )
    if parts:
        message = f"{'. '.join(parts)}. Scores that average over images, not classes, depend on these shares."
        return Finding("representativeness/classes", "warning", message, evidence)
    message = (
        f"The class shares differ {' and '.join(compared)}, which is not significant or less than "
        f"{MIN_SHARE_DISTANCE:.0%}."
    )
    return Finding("representativeness/classes", "passed", message, evidence)
