"""Audits: what is wrong with the data, each one a function from the data to findings."""

from stages.audits import (
    confounder,
    domain_gap,
    duplicates,
    labels,
    leakage,
    learning_curve,
    levels,
    neighbours,
    oddities,
    representativeness,
)
from stages.audits.subject import Find

AUDITS: dict[str, Find] = {
    "levels": levels.find,
    "oddities": oddities.find,
    "duplicates": duplicates.find,
    "leakage": leakage.find,
    "neighbours": neighbours.find,
    "representativeness": representativeness.find,
    "domain_gap": domain_gap.find,
    "confounder": confounder.find,
    "learning_curve": learning_curve.find,
    "labels": labels.find,
}
"""Every audit runs on every data set; add one here and in a file of its own."""
