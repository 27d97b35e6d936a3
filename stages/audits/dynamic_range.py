"""Dynamic-range audit: images that use a small part of their grey levels, such as 12 bits stored in 16."""

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding

MIN_REACHED = 0.25  # brightest level of the images, as a share of the range
SHARE = 0.95  # of the images that must be dark; a few bright images do not hide the others


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report images that are nearly black after division by the largest level of their type (warning)."""
    for depth, rows in data.rows.groupby("depth"):
        reached = (float(rows["highest"].quantile(SHARE, "lower")) + 1) / 256
        if reached < MIN_REACHED:
            most = 2 ** int(depth)
            shown = rows[rows["highest"] < 256 * reached].nlargest(12, "highest")["path"].tolist()
            message = (
                f"{SHARE:.0%} of the {len(rows)} images with {depth} bits have levels up to about {reached * most:.0f} "
                f"of {most}. They are nearly black for the network, whose input is divided by {most - 1}. They may "
                "have been recorded with fewer bits, or be label images: scale them to the whole range."
            )
            return [
                Finding("dynamic_range/unused", "warning", message, {"depth": int(depth), "reached": reached}, shown)
            ]
    return [Finding("dynamic_range/unused", "passed", "The images use the range of their grey levels.")]
