"""Common rule of the checks of single labels: a check that disagrees with many labels does not understand the data."""

from dataclasses import replace

from stages.core.findings import Finding

MOST_WRONG = 0.05
"""Share of reported labels, from which a check calls none of them wrong. In published data sets, 3 % of the labels are
wrong on average, and at most 10 % (Northcutt, Athalye and Mueller 2021)."""


def unless_too_many(finding: Finding, reported: int, total: int, what: str) -> Finding:
    """Return the finding; if it reports more than `MOST_WRONG` of the labels, with a message that calls none wrong.

    Args:
        finding: finding about single labels.
        reported: number of labels that it reports.
        total: number of labels that were checked.
        what: the labels in the plural, such as `masks`.
    """
    if reported <= MOST_WRONG * total:
        return finding
    share = reported / total
    message = (
        f"The check does not understand these data: it disagrees with {reported:,} of {total:,} {what} ({share:.0%}), "
        f"and more than {MOST_WRONG:.0%} of the labels are rarely wrong. Therefore no single label is called wrong. "
        "Look at the examples: if they are correct, ignore this finding; if they are wrong, look for a common cause, "
        "such as exchanged names or shifted positions."
    )
    return replace(finding, message=message, evidence=finding.evidence | {"understood": False, "reported": share})
