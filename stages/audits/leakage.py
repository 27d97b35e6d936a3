"""Validation or test images that training has seen: the score then measures memory."""

import pandas as pd

from stages.audits.audit_data import Subject
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.near_duplicates.perceptual_hash import near_any, numbers
from stages.near_duplicates.search import named, paths

HASHES = ("phash", "phash_mirrored")


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`leakage/same-image` blocks, `leakage/near-duplicates` and `leakage/test-near-duplicates` warn.

    Equal pixels and groups in two splits are the contract's: `stages.checks`.
    """
    return [_pictures(subject), _near(subject), *_test_look_alikes(subject)]


def _pictures(subject: Subject) -> Finding:
    """Pictures in two splits that were encoded anew or resized, so that their pixels differ."""
    across = [same for same in subject.copies.same if _changed_across(same)]
    if not across:
        says = "No picture stands in train and, encoded or taken anew, in val."
        return Finding("leakage/same-image", "passed", says)
    says = (
        f"{len(across)} pictures stand in both train and val, encoded or taken anew: "
        + "; ".join(" = ".join(f"`{path}`" for path in same["path"]) for same in across[:8])
        + ("; ..." if len(across) > 8 else "")
        + ". Scores on them measure memory: remove them from one split, or give each one group."
    )
    evidence = {"sets": named(across), "count": len(across)}
    return Finding("leakage/same-image", "blocking", says, evidence, paths(across)[:24])


def _changed_across(same: pd.DataFrame) -> bool:
    """Whether two of these rows differ in their split and in their pixels."""
    return same["split"].nunique() > 1 and same["pixels"].nunique() > 1


def _near(subject: Subject) -> Finding:
    """Changed copies, which help to guess but are no proof that the very picture was seen."""
    across = [near for near in subject.copies.near if near["split"].nunique() > 1]
    if not across:
        says = "No changed copy of a picture (mirrored, cropped, lit otherwise) stands in another split."
        return Finding("leakage/near-duplicates", "passed", says)
    listed = "; ".join(" ~ ".join(f"`{path}`" for path in near["path"][:4]) for near in across[:5])
    more = "; ..." if len(across) > 5 else ""
    says = (
        f"{len(across)} sets of pictures that are nearer to each other than distinct pictures of these data are stand "
        f"in both train and val: {listed}{more}. If they show one thing, give them one group."
    )
    evidence = {"sets": named(across), "count": len(across)}
    return Finding("leakage/near-duplicates", "warning", says, evidence, paths(across))


def _test_look_alikes(subject: Subject) -> list[Finding]:
    """Changed copies in the test can only be suspected: to compare the pictures would be to open the seal."""
    bits = subject.copies.hash_bits
    if bits < 0:
        says = (
            "Whether the sealed test holds changed copies was not looked at: different pictures of these data share "
            "their perceptual hashes, and more than these must not be known of the test."
        )
        return [Finding("leakage/not-checked", "info", says)]
    rows = subject.rows[~subject.rows["blank"] & ~subject.rows["pixels"].isin(subject.sealed["pixels"])]
    near = [near_any(numbers(rows[name]), numbers(subject.sealed["phash"]), bits) for name in HASHES]
    suspects = rows[near[0] | near[1]]
    if suspects.empty:
        return []
    says = (
        f"{len(suspects)} images of train or val have a perceptual hash within {bits} bits of a sealed test image, as "
        f"different pictures of these data seldom have, and may be changed copies of it: {_list(suspects)}. Look at "
        "the source's test images by hand."
    )
    evidence = {"images": suspects["path"].tolist()[:50], "count": len(suspects), "bits": bits}
    return [Finding("leakage/test-near-duplicates", "warning", says, evidence, suspects["path"].tolist()[:24])]


def _list(rows: pd.DataFrame, most: int = 5) -> str:
    return ", ".join(f"`{path}`" for path in rows["path"][:most]) + (", ..." if len(rows) > most else "")
