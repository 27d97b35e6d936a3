"""Audits of the ingested data: each is a function that returns findings."""

from stages.audits import (
    confounder,
    domain_gap,
    duplicates,
    dynamic_range,
    group_split,
    label_errors,
    leakage,
    learning_curve,
    outliers,
    representativeness,
    sequence_leakage,
)
from stages.audits.audit_data import Find

AUDITS: dict[str, Find] = {
    "dynamic_range": dynamic_range.find,
    "outliers": outliers.find,
    "duplicates": duplicates.find,
    "leakage": leakage.find,
    "sequence_leakage": sequence_leakage.find,
    "representativeness": representativeness.find,
    "domain_gap": domain_gap.find,
    "confounder": confounder.find,
    "group_split": group_split.find,
    "learning_curve": learning_curve.find,
    "label_errors": label_errors.find,
}
"""Audits by name, in the order in which they run. Every audit runs on every data set."""
