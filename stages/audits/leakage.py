"""Leakage audit: images that occur in more than one split."""

import pandas as pd

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.near_duplicates.clusters import Clusters, explain_most, list_pairs
from stages.near_duplicates.perceptual_hash import near_any, parse_hashes
from stages.near_duplicates.planted_copies import describe_detection
from stages.near_duplicates.search import label_sets, paths_of

HASHES = ("phash", "phash_mirrored")


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report re-encoded copies (blocking) and near-duplicates (warning) in two splits.

    Equal pixels and groups in two splits are checked by the contract (`stages.checks`).
    """
    return [*_same_images(data), *_near(data), *_test_near_duplicates(data), *_not_checked(data)]


def _same_images(data: AuditData) -> list[Finding]:
    """Report images in two splits that were re-encoded or resized; nothing if the search would not find such copies."""
    across = [same for same in data.copies.same if _changed_across(same)]
    if not across:
        reliable = describe_detection(data.copies.planted_same, reliable=True)
        message = f"No copy of a training image was found in the validation split that is {reliable}."
        return [Finding("leakage/same-image", "passed", message)] if reliable else []
    message = (
        f"{quantity(len(across), 'image')} {'is' if len(across) == 1 else 'are'} in both the training and the "
        "validation split, re-encoded or resized: "
        + "; ".join(" = ".join(_first_paths(same)) for same in across[:8])
        + ("; ..." if len(across) > 8 else "")
        + ". Scores on them measure memorization: remove them from one split, or give all copies of an "
        "image the same group."
    )
    evidence = {"sets": label_sets(across), "count": len(across)}
    return [Finding("leakage/same-image", "blocking", message, evidence, paths_of(across)[:24])]


def _first_paths(rows: pd.DataFrame, most: int = 4) -> list[str]:
    """Return the first paths of a set in backquotes, beginning with one of each split, and `...` if there are more."""
    ordered = pd.concat([rows.drop_duplicates("split"), rows[rows.duplicated("split")]])
    return [f"`{path}`" for path in ordered["path"][:most]] + (["..."] if len(rows) > most else [])


def _changed_across(same: pd.DataFrame) -> bool:
    """Return True if the rows are in several splits and differ in their pixels."""
    return same["split"].nunique() > 1 and same["pixels"].nunique() > 1


def _near(data: AuditData) -> list[Finding]:
    """Report near-duplicates in two splits; nothing if there are none and the search would not find copies."""
    across = [near for near in data.copies.near if near["split"].nunique() > 1]
    clusters = data.copies.clusters
    similar = clusters.across_splits() if clusters else []
    if clusters and not explain_most([*data.copies.same, *across], similar):
        return [_clusters(clusters, similar)]
    if not across:
        found = describe_detection(data.copies.planted, reliable=True)
        message = f"No copy of a training image was found in the validation split that is {found}."
        return [Finding("leakage/near-duplicates", "passed", message)] if found and clusters else []
    listed = "; ".join(" ~ ".join(_first_paths(near)) for near in across[:5])
    more = "; ..." if len(across) > 5 else ""
    message = (
        f"{quantity(len(across), 'set')} of near-duplicates {'is' if len(across) == 1 else 'are'} in both the training "
        f"and the validation split: {listed}{more}. If the images of a set show the same object, give them the same "
        "group."
    )
    evidence = {"sets": label_sets(across), "count": len(across)}
    return [Finding("leakage/near-duplicates", "warning", message, evidence, paths_of(across))]


def _clusters(clusters: Clusters, similar: list[tuple[str, str]]) -> Finding:
    """Report validation images that are in a cluster of similar images with training images."""
    compared = int((clusters.sample["split"] == "val").sum())
    message = (
        f"{len(similar)} of {quantity(compared, 'validation image')} {'has' if len(similar) == 1 else 'have'} a "
        f"training image that is far nearer than distinct images are: {list_pairs(similar, 5)}. "
        f"{clusters.share:.0%} of the images are in such clusters, as if each object had several images. "
        "Scores on them measure memorization: give the images of an object the same group, "
        "by a column of the table, by ingest.group_regex, or by a table of similar images, which `macula configure` "
        "writes (ingest.group_table)."
    )
    evidence = clusters.evidence(similar, compared)
    return Finding("leakage/near-duplicates", "warning", message, evidence, [p for pair in similar[:12] for p in pair])


def _test_near_duplicates(data: AuditData) -> list[Finding]:
    """Report images whose hashes are near those of sealed test images; empty if none, or if hashes are not reliable."""
    bits = data.copies.hash_bits
    if bits < 0:
        return []
    rows = data.rows[~data.rows["blank"] & ~data.rows["pixels"].isin(data.sealed["pixels"])]
    near = [near_any(parse_hashes(rows[name]), parse_hashes(data.sealed["phash"]), bits) for name in HASHES]
    suspects = rows[near[0] | near[1]]
    if suspects.empty:
        return []
    kind = "a near-duplicate of a sealed test image" if len(suspects) == 1 else "near-duplicates of sealed test images"
    hashes = f"differ in at most {quantity(bits, 'bit')}" if bits else "are equal"
    message = (
        f"{quantity(len(suspects), 'training or validation image')} may be {kind}: {_list(suspects)}. The perceptual "
        f"hashes {hashes}, which is rare for different images of this data set. Compare with the original test images."
    )
    evidence = {"images": suspects["path"].tolist()[:50], "count": len(suspects), "bits": bits}
    return [Finding("leakage/test-near-duplicates", "warning", message, evidence, suspects["path"].tolist()[:24])]


def _not_checked(data: AuditData) -> list[Finding]:
    """Report which near-duplicates in two splits the search would not find; empty if there are none."""
    sentences = []
    if data.copies.not_checked:
        sentences.append(
            f"Near-duplicates in the training and the validation split may be missing: {data.copies.not_checked}. If "
            "several images show one object, specify groups, for example by ingest.group_regex."
        )
    if data.copies.hash_bits < 0:
        sentences.append(
            "The sealed test split was not checked for near-duplicates: only perceptual hashes of its images are "
            "available for this, and it is not certain that these distinguish different images of this data set."
        )
    return [Finding("leakage/not-checked", "info", " ".join(sentences))] if sentences else []


def _list(rows: pd.DataFrame, most: int = 5) -> str:
    return ", ".join(f"`{path}`" for path in rows["path"][:most]) + (", ..." if len(rows) > most else "")
