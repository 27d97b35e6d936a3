"""Audits: what is wrong with the data, each one a function from the data to findings."""

from stages.audits import confounder, duplicates, leakage, levels
from stages.audits.subject import Find

AUDITS: dict[str, Find] = {
    "levels": levels.find,
    "duplicates": duplicates.find,
    "leakage": leakage.find,
    "confounder": confounder.find,
}
"""Every audit runs on every data set; add one here and in a file of its own."""
