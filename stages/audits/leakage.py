"""Validation or test images that training has seen: the score then measures memory."""

import pandas as pd

from stages.audits.copies import named, paths
from stages.audits.hashes import near_any, numbers
from stages.audits.subject import Subject
from stages.frame import Finding
from stages.frame.sections import Audit

HASHES = ("phash", "phash_mirrored")


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`leakage/same-picture` and `leakage/same-group`, into the sealed test too, block; `leakage/near-copies` warns."""
    return [*_pictures(subject), *_groups(subject), _near(subject), *_test_look_alikes(subject)]


def _pictures(subject: Subject) -> list[Finding]:
    across = [same for same in subject.copies.same if same["split"].nunique() > 1]
    into_test = _in_test(subject, "pixels")
    if not across and into_test.empty:
        return [Finding("leakage/same-picture", "passed", "No picture stands in two splits.")]
    parts = []
    if across:
        parts.append(
            f"{len(across)} pictures stand in both train and val: "
            + "; ".join(" = ".join(f"`{path}`" for path in same["path"]) for same in across[:8])
            + ("; ..." if len(across) > 8 else "")
        )
    if len(into_test):
        parts.append(f"{len(into_test)} images of train or val are in the sealed test too: {_list(into_test)}")
    says = ". ".join(parts) + ". Scores on them measure memory: remove them from one split, or split by groups."
    evidence = {
        "train_and_val": named(across),
        "train_and_val_count": len(across),
        "also_in_test": into_test["path"].tolist()[:50],
        "also_in_test_count": len(into_test),
    }
    return [
        Finding("leakage/same-picture", "blocking", says, evidence, (paths(across) + into_test["path"].tolist())[:24])
    ]


def _groups(subject: Subject) -> list[Finding]:
    splits = subject.rows.groupby("group")["split"].nunique()
    across = subject.rows[subject.rows["group"].isin(splits[splits > 1].index)]
    across = across[across["group"] != across["pixels"]]  # a picture that is its own group is leakage/same-picture
    into_test = _in_test(subject, "group")
    into_test = into_test[into_test["group"] != into_test["pixels"]]
    names = sorted({*across["group"], *into_test["group"]})
    if not names:
        return [Finding("leakage/same-group", "passed", "No group stands in two splits.")]
    says = (
        f"{len(names)} groups stand in more than one split, as {', '.join(f'`{n}`' for n in names[:5])}. What a group "
        "shares (patient, scene) can be recognized: use split.by: hash, which keeps groups whole."
    )
    images = [*across["path"], *into_test["path"]][:24]
    return [Finding("leakage/same-group", "blocking", says, {"groups": names[:200], "count": len(names)}, images)]


def _near(subject: Subject) -> Finding:
    """Changed copies, which help to guess but are no proof that the very picture was seen."""
    across = [near for near in subject.copies.near if near["split"].nunique() > 1]
    if not across:
        says = "No changed copy of a picture (mirrored, cropped, lit otherwise) stands in another split."
        return Finding("leakage/near-copies", "passed", says)
    listed = "; ".join(" ~ ".join(f"`{path}`" for path in near["path"][:4]) for near in across[:5])
    more = "; ..." if len(across) > 5 else ""
    says = (
        f"{len(across)} sets of pictures that are nearer to each other than distinct pictures of these data are stand "
        f"in both train and val: {listed}{more}. If they show one thing, give them one group."
    )
    evidence = {"sets": named(across), "count": len(across)}
    return Finding("leakage/near-copies", "warning", says, evidence, paths(across))


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
    return [Finding("leakage/test-look-alikes", "warning", says, evidence, suspects["path"].tolist()[:24])]


def _in_test(subject: Subject, column: str) -> pd.DataFrame:
    return subject.rows[subject.rows[column].isin(subject.sealed[column])]


def _list(rows: pd.DataFrame, most: int = 5) -> str:
    return ", ".join(f"`{path}`" for path in rows["path"][:most]) + (", ..." if len(rows) > most else "")
