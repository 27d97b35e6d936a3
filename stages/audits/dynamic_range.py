"""Images of which nobody uses the range of levels: 12 bits in 16, labels taken for images, all too dark to see."""

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding

LEAST = 0.25  # of the range, that the brightest pixel of an image reaches
MOST = 0.95  # of the images, of which that is looked at: a few that are stored otherwise do not hide the others


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`dynamic_range/unused` warns: a network divides by the largest level of the type, and would see all but black."""
    for depth, rows in subject.rows.groupby("depth"):
        reached = (float(rows["highest"].quantile(MOST, "lower")) + 1) / 256
        if reached < LEAST:
            most = 2 ** int(depth)
            shown = rows[rows["highest"] < 256 * reached].nlargest(12, "highest")["path"].tolist()
            says = (
                f"The levels of {MOST:.0%} of the {len(rows)} images of {depth} bits reach at most some "
                f"{reached * most:.0f} of {most}: they are nearly black to a network, which divides by {most - 1}. "
                "Were they recorded with fewer bits, or are they labels? Store them scaled to the whole range."
            )
            return [Finding("dynamic_range/unused", "warning", says, {"depth": int(depth), "reached": reached}, shown)]
    return [Finding("dynamic_range/unused", "passed", "The images use the range of their levels.")]
