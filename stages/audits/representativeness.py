"""Representativeness audit: do validation images resemble training images, and do new images resemble older images?"""

import numpy as np
import pandas as pd

from stages.audits.audit_data import AuditData
from stages.audits.power import Power, merge_unchecked, require_power
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.probes.two_sample_test import (
    PLANTED_SHARE,
    Difference,
    ShareDifference,
    compare_rows,
    shares_differ,
    too_few,
)

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
            unchecked.append("new images, because all images were added by the same ingest")
        elif unable:
            unchecked.append(f"whether {ones} images resemble {others} images ({unable})")
        else:
            result = compare_rows(one, other, data.folder, audit.permutations, audit.max_p)
            findings += _compare_sets(name, ones, others, result, audit)
    if (rows["label"] == "").all():
        unchecked.append("the class shares, because the images have no class")
    elif (val.empty or train.empty) and old.empty:
        unchecked.append("the class shares, because the training or the validation split has only blank images")
    else:
        findings += _classes(val, train, new, old, audit)
    if unchecked:
        findings.append(Finding("representativeness/not-checked", "info", f"Not checked: {'; '.join(unchecked)}."))
    return merge_unchecked(findings)


def power_of(difference: Difference, what: str) -> Power:
    """Return the power to find another camera, whose images differ in one property by a standard deviation.

    Args:
        difference: result of the comparison of two sets that do not differ.
        what: the first set, such as `validation images that are`.
    """
    found = [name for name, is_found in difference.cameras.items() if is_found]
    names = ", ".join(found or difference.cameras)
    alarms, permutations = difference.alarms
    return Power(
        f"{what} {names} by a standard deviation of all images",
        len(found),
        len(difference.cameras),
        "More images, in more groups of each set, are required.",
        f"false alarms in at most {alarms} of {permutations} permutations",
    )


def _compare_sets(name: str, ones: str, others: str, result: Difference, audit: Audit) -> list[Finding]:
    auc = f"a probe distinguishes them with AUC {result.auc:.2f} (0.5: chance, 1: perfect; p = {result.p:.3f})"
    if result.p > audit.max_p or not result.is_clear:
        nearly = "nearly " if result.p <= audit.max_p else ""
        message = f"The {ones} images look {nearly}like the {others} images: {auc}."
        found = Finding(f"representativeness/{name}", "passed", message, result.evidence())
        return require_power(found, [power_of(result, f"{ones} images that are")])
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
    return [Finding(f"representativeness/{name}", "warning", message, result.evidence(), result.typical)]


def _classes(
    val: pd.DataFrame, train: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame, audit: Audit
) -> list[Finding]:
    """Report differences in the class shares."""
    evidence, parts, compared, powers = {}, [], [], []
    for ones, others, one, other in (("validation", "training", val, train), ("new", "older", new, old)):
        if one.empty or other.empty:
            continue
        both = pd.concat([one, other])
        shares = shares_differ(both, both.index.isin(one.index), audit.permutations)
        figures = f"(p = {shares.p:.3f})"
        evidence[ones] = {"distance": shares.distance, "p": shares.p}
        compared.append(f"by {shares.distance:.1%} between {ones} and {others} images {figures}")
        powers.append(_share_power(shares, ones, audit))
        if shares.p <= audit.max_p and shares.distance >= MIN_SHARE_DISTANCE:
            parts.append(
                f"The class shares of {ones} and {others} images differ by {shares.distance:.0%} of the images "
                f"{figures}. The largest differences, {ones} minus {others}, are {', '.join(shares.classes)}"
            )
    if parts:
        message = f"{'. '.join(parts)}. Scores that average over images, not classes, depend on these shares."
        return [Finding("representativeness/classes", "warning", message, evidence)]
    message = (
        f"The class shares differ {' and '.join(compared)}, which is not significant or less than "
        f"{MIN_SHARE_DISTANCE:.0%}."
    )
    return require_power(Finding("representativeness/classes", "passed", message, evidence), powers)


def _share_power(shares: ShareDifference, ones: str, audit: Audit) -> Power:
    """Return how often another share of one class is found, if some images of the first set are replaced."""
    highest = float(np.quantile(shares.null_J, 1 - audit.max_p, method="higher"))
    limit = max(highest, MIN_SHARE_DISTANCE)
    return Power(
        f"{PLANTED_SHARE:.0%} of the {ones} images replaced by one class",
        int((shares.planted_K > limit).sum()),
        len(shares.planted_K),
        "More images, in more groups of each set, are required.",
        f"false alarms in {int((shares.null_J > limit).sum())} of {len(shares.null_J)} permutations",
    )
