"""Questions that the checks and audits of a run leave open, derived from what they examined."""

from collections.abc import Iterable, Sequence

import pandas as pd

from stages.core.findings import Finding
from stages.core.plurals import quantity


def open_questions(findings: Iterable[Finding], manifest: pd.DataFrame, task: str, labels: Sequence[str]) -> list[str]:
    """Return sentences on what was not checked: first what audits report, then what they do not examine.

    Args:
        findings: findings of the checks and audits.
        manifest: training and validation images.
        task: name of the task.
        labels: classes that the model predicts; empty if it predicts none.
    """
    findings = list(findings)
    reported = [finding.message for finding in findings if finding.id.endswith("/not-checked")]
    examined = {finding.id.partition("/")[0] for finding in findings if not finding.id.endswith("/not-checked")}
    return [*reported, *_of_copies(examined), *_of_labels(examined), *_of_groups(manifest), *_always(task, labels)]


def _of_copies(examined: set[str]) -> Iterable[str]:
    if not examined & {"duplicates", "leakage"}:
        yield "Near-duplicates: no audit searched for copies of one image in training and validation data."
    else:
        yield (
            "Near-duplicates: strongly cropped or strongly changed copies of one image, which the audit cannot "
            "recognize, may be in both training and validation data."
        )
    if "sequence_leakage" not in examined:
        yield (
            "Sequences: no audit compared images with consecutive names, so that neighbouring images of one scene may "
            "be in both training and validation data."
        )


def _of_labels(examined: set[str]) -> Iterable[str]:
    if "label_errors" in examined:
        yield ("Label errors that a simple model cannot detect: they count as the truth; look at the worst errors.")
    else:
        yield "Label errors: no audit examined the labels. Wrong labels count as the truth; look at the worst errors."


def _of_groups(manifest: pd.DataFrame) -> Iterable[str]:
    """Yield what is unknown about groups; without a rule, the group of an image is the digest of its pixels."""
    if (manifest["group"] == manifest["pixels"]).all():
        yield (
            "Groups that were not specified: without `ingest.group_regex`, `ingest.sequence_block` or a group column, "
            "images of one patient, animal or scene may be in several splits."
        )
    else:
        groups = quantity(manifest["group"].nunique(), "group")
        yield (
            f"Completeness of the groups: the split keeps {groups} of images together, but images of one patient, "
            "animal or scene whose groups differ may be in several splits."
        )


def _always(task: str, labels: Sequence[str]) -> Iterable[str]:
    yield (
        "New images: whether they come from the same cameras, places, people and times. The scores hold only for "
        "images like these."
    )
    if labels and task in ("classification", "ordinal"):
        yield f"Images of an unknown class: the model predicts one of its {len(labels)} classes for any image."
    else:
        yield "Images of another kind: the model returns a prediction for any image."
    yield "Adversarial images, and fairness between groups of people."
