"""Dynamic-range audit: images that use only a small part of their grey levels, such as 12 bits stored in 16."""

import pandas as pd

from stages.audits.audit_data import AuditData
from stages.audits.power import Power, require_power
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity

MIN_REACHED = 0.25  # brightest level of the images, as a share of the range
DROPPED = 4  # bits by which the planted images are darker, such as 12 bits stored in 16
SHARE = 0.95  # share of the images that must be dark; a few bright images do not hide the others


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report whether nearly all images of a bit depth stay below a quarter of its levels (warning)."""
    powers = []
    for depth, rows in data.rows.groupby("depth"):
        reached = _reached(rows["highest"])
        missing = f"Images of {depth} bits with higher levels are required."
        found = int(_reached(rows["highest"] // 2**DROPPED) < MIN_REACHED)
        powers.append(Power(f"{depth}-bit images that use {DROPPED} bits less", found, 1, missing))
        if reached < MIN_REACHED:
            most = 2 ** int(depth)
            shown = rows[rows["highest"] < 256 * reached].nlargest(12, "highest")["path"].tolist()
            dark = int((rows["highest"] < 256 * reached).sum())
            message = (
                f"{dark:,} of {quantity(len(rows), f'{depth}-bit image')} {'has' if dark == 1 else 'have'} no level "
                f"above about {reached * most:.0f} (the maximum is {most - 1}). The network divides its input by "
                f"{most - 1} and receives dark images. If the images were recorded with fewer bits, scale them to the "
                "whole range. If they are label images, remove them."
            )
            return [
                Finding("dynamic_range/unused", "warning", message, {"depth": int(depth), "reached": reached}, shown)
            ]
    message = "The brightest images of each bit depth reach at least a quarter of their grey levels."
    return require_power(Finding("dynamic_range/unused", "passed", message), powers)


def _reached(highest: pd.Series) -> float:
    """Return the level, as a share of the range, that nearly all images do not exceed."""
    return (float(highest.quantile(SHARE, "lower")) + 1) / 256
