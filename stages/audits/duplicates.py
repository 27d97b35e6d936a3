"""One picture in the data more than once: a contradiction when its labels differ, a weight when they agree."""

from stages.audits.subject import SMALLEST_HASHED, Subject, named, paths
from stages.frame import Finding
from stages.frame.sections import Audit


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`duplicates/conflicting-labels` blocks, `duplicates/same-label` warns."""
    found = subject.copies
    conflicting = [same for same in found if same["label"].nunique() > 1]
    agreeing = [same for same in found if same["label"].nunique() == 1]
    findings = [
        Finding(
            "duplicates/conflicting-labels",
            "blocking",
            f"{_pictures(len(conflicting))} under two labels or more: "
            + "; ".join(" and ".join(_one(r) for r in same.itertuples()) for same in conflicting[:3])
            + ("; ..." if len(conflicting) > 3 else ". At most one can be right: correct or remove the others."),
            {"sets": named(conflicting), "count": len(conflicting)},
            paths(conflicting),
        )
        if conflicting
        else Finding("duplicates/conflicting-labels", "passed", "No picture stands under two labels.")
    ]
    if agreeing:
        extra = sum(len(same) - 1 for same in agreeing)
        says = f"{_pictures(len(agreeing))} more than once under one label; {extra} images add nothing but weight."
        evidence = {"sets": named(agreeing), "count": len(agreeing)}
        findings.append(Finding("duplicates/same-label", "warning", says, evidence, paths(agreeing)))
    else:
        findings.append(Finding("duplicates/same-label", "passed", "No picture stands twice under one label."))
    small = int((subject.rows[["width", "height"]].min(axis=1) < SMALLEST_HASHED).sum())
    if small:
        says = (
            f"{small} images are smaller than {SMALLEST_HASHED} pixels: they were compared pixel by pixel, "
            "so that a re-encoded copy among them is not seen."
        )
        findings.append(Finding("duplicates/not-checked", "info", says))
    return findings


def _pictures(count: int) -> str:
    return "1 picture stands" if count == 1 else f"{count} pictures stand"


def _one(row) -> str:  # type: ignore[no-untyped-def]  # pandas names the tuple only at run time
    return f"`{row.path}` ({row.label})"
