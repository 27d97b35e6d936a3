"""Labels that are likely wrong, ranked: what a plain model, out of fold, would rather have said.

Each kind of label is looked at by a module of its own; a kind that could not be looked at is said to be so.
"""

from stages.audits.audit_data import Subject
from stages.audits.label_errors import wrong_classes, wrong_masks, wrong_numbers, wrong_objects, wrong_points
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.dataset.manifest import parse_annotations

FEWEST_IMAGES = 50  # with fewer, one wrong label is 2 % of them: the smallest share that is told apart from none
FEWEST_GROUPS = 5


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """Report labels that look wrong, as `label_errors/KIND` by the kind of label.

    None blocks: a model that disagrees is a reason to look, not a proof. What could not be told, and why, is
    `label_errors/not-checked`.
    """
    rows = subject.sample
    groups = rows["group"].nunique()
    if len(rows) < FEWEST_IMAGES and not _of_pixels(subject):
        return _together([f"{len(rows)} images are too few to tell wrong labels; {FEWEST_IMAGES} are needed."], [])
    if groups < FEWEST_GROUPS:
        return _together([f"{groups} groups are too few to tell wrong labels; {FEWEST_GROUPS} are needed."], [])
    findings: list[Finding] = []
    unknown: list[str] = []
    for kind in (wrong_classes, wrong_numbers, wrong_points, wrong_masks, wrong_objects):
        found, reasons = kind.find(subject)
        findings += found
        unknown += reasons
    if not findings and not unknown:
        unknown = ["Whether paired images belong to each other was not looked at."]
    return _together(unknown, findings)


def _of_pixels(subject: Subject) -> bool:
    """Whether an image holds many labels, so that fewer images will do."""
    first = parse_annotations(subject.sample.head(1))[0]
    return first.mask is not None or first.shapes is not None


def _together(unknown: list[str], findings: list[Finding]) -> list[Finding]:
    return findings + ([Finding("label_errors/not-checked", "info", " ".join(unknown))] if unknown else [])
