"""One picture in the data more than once: a contradiction when its labels differ, a weight when they agree."""

import pandas as pd

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.near_duplicates.search import named, paths


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """Report images that occur twice: under two labels (blocking), under one label, or edited (warnings)."""
    same, near = subject.copies.same, subject.copies.near
    findings = [
        _conflicts([s for s in same if _contradict(s)]),
        _repeats([s for s in same if not _contradict(s)]),
        _near([s for s in near if s["label"].nunique() == 1], subject.copies.pairs),
        _near_conflicts([s for s in near if s["label"].nunique() > 1]),
    ]
    if subject.copies.not_checked:
        says = f"Of changed copies not all can be told: {subject.copies.not_checked}."
        findings.append(Finding("duplicates/not-checked", "info", says))
    return findings


def _contradict(same: pd.DataFrame) -> bool:
    """Two classes; or, where the pixels are equal and nothing was resized, two annotations, masks or paired images."""
    if same["label"].nunique() > 1:
        return True
    told = same["annotation"] + same["target_pixels"]
    return bool((told.groupby(same["pixels"]).nunique() > 1).any())


def _conflicts(found: list[pd.DataFrame]) -> Finding:
    if not found:
        return Finding("duplicates/conflicting-labels", "passed", "No picture stands under two labels.")
    says = f"{_pictures(len(found))} under two labels or more: {_listed(found)}"
    evidence = {"sets": named(found), "count": len(found)}
    return Finding("duplicates/conflicting-labels", "blocking", says, evidence, paths(found))


def _repeats(found: list[pd.DataFrame]) -> Finding:
    if not found:
        return Finding("duplicates/same-label", "passed", "No picture stands twice under one label.")
    extra = sum(len(same) - 1 for same in found)
    across = [same for same in found if same["group"].nunique() > 1]
    says = (
        f"{_pictures(len(found))} more than once under one label; {extra} images add nothing but weight. "
        f"{_in_groups(len(found) - len(across), across)}"
    )
    evidence = {"sets": named(found), "count": len(found), "across_groups": len(across)}
    return Finding("duplicates/same-label", "warning", says, evidence, paths([*across, *_others(found, across)]))


def _near(found: list[pd.DataFrame], pairs: pd.DataFrame) -> Finding:
    if not found:
        says = "No picture stands there a second time, mirrored, cropped or lit otherwise, as far as can be told."
        return Finding("duplicates/near-duplicates", "passed", says)
    across = [near for near in found if near["group"].nunique() > 1]
    changed = pairs[~pairs["same"] & pairs["first"].isin({path for near in found for path in near["path"]})]
    kinds = f"{int(changed['mirrored'].sum())} pairs mirrored, {int(changed['cropped'].sum())} cropped"
    says = (
        f"{len(found)} sets of {sum(map(len, found))} pictures are nearer to each other than distinct pictures of "
        f"these data are ({kinds}): changed copies, or moments of one scene. "
        f"{_in_groups(len(found) - len(across), across)}"
    )
    evidence = {"sets": named(found), "count": len(found), "across_groups": len(across), "pairs": _rows(changed)}
    shown = paths([*across, *_others(found, across)])
    return Finding("duplicates/near-duplicates", "warning" if across else "info", says, evidence, shown)


def _near_conflicts(found: list[pd.DataFrame]) -> Finding:
    if not found:
        return Finding(
            "duplicates/near-duplicate-conflicts", "passed", "No changed copy of a picture stands under another label."
        )
    says = (
        f"{len(found)} sets of pictures that are nearer to each other than distinct pictures of these data are stand "
        f"under two labels or more: {_listed(found)} Look whether they show one thing."
    )
    evidence = {"sets": named(found), "count": len(found)}
    return Finding("duplicates/near-duplicate-conflicts", "warning", says, evidence, paths(found))


def _in_groups(inside: int, across: list[pd.DataFrame]) -> str:
    """What to do about copies, by whether their groups keep them in one split."""
    if not across:
        return "All lie inside one group each, and so in one split."
    joined = "; ".join(" = ".join(f"`{group}`" for group in near["group"].unique()[:4]) for near in across[:3])
    kept = f"{inside} lie inside one group each, and so in one split. " if inside else ""
    more = "; ..." if len(across) > 3 else ""
    return f"{kept}{len(across)} go across groups that had better be one: {joined}{more}."


def _others(found: list[pd.DataFrame], without: list[pd.DataFrame]) -> list[pd.DataFrame]:
    taken = {id(one) for one in without}
    return [one for one in found if id(one) not in taken]


def _rows(pairs: pd.DataFrame, most: int = 50) -> list[dict[str, object]]:
    shown = pairs[["first", "second", "correlation", "mirrored", "cropped", "expected"]].head(most)
    return [{str(key): value for key, value in row.items()} for row in shown.to_dict("records")]


def _listed(found: list[pd.DataFrame]) -> str:
    listed = "; ".join(" and ".join(_one(r) for r in same.itertuples()) for same in found[:3])
    return listed + ("; ..." if len(found) > 3 else ". At most one can be right: correct or remove the others.")


def _pictures(count: int) -> str:
    return "1 picture stands" if count == 1 else f"{count} pictures stand"


def _one(row) -> str:  # type: ignore[no-untyped-def]  # pandas names the tuple only at run time
    return f"`{row.path}` ({row.label})"
