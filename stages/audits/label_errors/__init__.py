"""Label-error audit: labels that disagree with out-of-fold predictions of a baseline model, most certain first.

Each kind of label is checked by its own module. What could not be checked is reported.
"""

from stages.audits.audit_data import AuditData
from stages.audits.label_errors import wrong_classes, wrong_masks, wrong_numbers, wrong_objects, wrong_points
from stages.audits.power import merge_unchecked
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.dataset.manifest import parse_annotations

MIN_IMAGES = 50  # so that one wrong label is at most 2 % of the labels
MIN_GROUPS = 5


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report labels that look wrong, as `label_errors/KIND` for each kind of label.

    No finding blocks, because disagreement with a model is not proof. `label_errors/not-checked` lists what could not
    be checked, and why.
    """
    rows = data.sample
    groups = rows["group"].nunique()
    if len(rows) < MIN_IMAGES and not _has_many_labels(data):
        return _with_unchecked(
            [f"Label errors were not checked: {quantity(len(rows), 'image')}; at least {MIN_IMAGES} are required."], []
        )
    if groups < MIN_GROUPS:
        return _with_unchecked(
            [f"Label errors were not checked: {quantity(groups, 'group')}; at least {MIN_GROUPS} are required."], []
        )
    findings: list[Finding] = []
    unchecked: list[str] = []
    for kind in (wrong_classes, wrong_numbers, wrong_points, wrong_masks, wrong_objects):
        found, reasons = kind.find(data)
        findings += found
        unchecked += reasons
    if not findings and not unchecked:
        unchecked = ["Paired images were not checked for label errors."]
    return _with_unchecked(unchecked, findings)


def _has_many_labels(data: AuditData) -> bool:
    """Return whether the first image has many labels (a mask or objects), so that fewer images suffice."""
    first = parse_annotations(data.sample.head(1))[0]
    return first.mask is not None or first.shapes is not None


def _with_unchecked(unchecked: list[str], findings: list[Finding]) -> list[Finding]:
    sentences = [Finding("label_errors/not-checked", "info", " ".join(unchecked))] if unchecked else []
    return merge_unchecked([*sentences, *findings])
