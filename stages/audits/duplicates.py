"""Duplicate audit: duplicates with different labels (blocking) or the same label, and near-duplicates."""

import numpy as np
import pandas as pd

from stages.audits.annotator_agreement import Agreement, agreement_of
from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.dataset.manifest import parse_annotations
from stages.near_duplicates.clusters import Clusters, explain_most, list_pairs
from stages.near_duplicates.differing_part import MAX_PAIRS, find_differing_parts
from stages.near_duplicates.exhaustive_search import CHANGES
from stages.near_duplicates.planted_copies import describe_detection
from stages.near_duplicates.search import Copies, label_sets, paths_of, readable_label


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report duplicates with different labels (blocking) or the same label (warning), and near-duplicates.

    Annotations of equal images may differ up to a tolerance (`duplicates/annotator-agreement`).
    Near-duplicates are a warning if they have different labels or are in several groups, else information.
    """
    same, near = data.copies.same, data.copies.near
    judged = [(s, _agreement(s, data)) for s in same]
    conflicting = [s for s, agreement in judged if agreement is None]
    findings = [
        _conflicts(conflicting, data.copies),
        *_agreements([(s, agreement) for s, agreement in judged if agreement is not None and agreement != Agreement()]),
        _repeats([s for s, agreement in judged if agreement is not None], data.copies),
        *_near([s for s in near if s["label"].nunique() == 1], data, len(near)),
        *_near_conflicts([s for s in near if s["label"].nunique() > 1], data.copies),
    ]
    if data.copies.not_checked:
        message = f"The search for near-duplicates was incomplete: {data.copies.not_checked}."
        findings.append(Finding("duplicates/not-checked", "info", message))
    return findings


def _agreement(same: pd.DataFrame, data: AuditData) -> Agreement | None:
    """Return the agreement of duplicates, empty if their labels are equal; None if their labels contradict each other.

    They contradict each other if they have different classes, or equal pixels with annotations that do not agree.
    """
    if same["label"].nunique() > 1:
        return None
    targets = same["annotation"] + same["target_pixels"]
    if (targets.groupby(same["pixels"]).nunique() > 1).any():
        return agreement_of(same, data.folder)
    return Agreement()


def _conflicts(found: list[pd.DataFrame], copies: Copies) -> Finding:
    if not found:
        message = f"No image was found with two different labels. {_compared(copies)}"
        return Finding("duplicates/conflicting-labels", "passed", message)
    message = (
        f"{_images(len(found))} more than once with different labels: {_listed(found)}. At most one label of each "
        "image can be correct: correct or remove the others."
    )
    evidence = {"sets": label_sets(found), "count": len(found)}
    paths = paths_of(found)
    return Finding("duplicates/conflicting-labels", "blocking", message, evidence, paths, *_shown(found, paths))


def _agreements(found: list[tuple[pd.DataFrame, Agreement]]) -> list[Finding]:
    if not found:
        return []
    sets = [same for same, _ in found]
    iou = [value for _, agreement in found for value in agreement.iou]
    distance = [value for _, agreement in found for value in agreement.distance]
    figures = [f"mean IoU {np.mean(iou):.2f}, lowest {min(iou):.2f}"] if iou else []
    figures += [f"mean distance {np.mean(distance):.1%} of the diagonal"] if distance else []
    message = (
        f"{_images(len(found))} more than once with annotations that agree up to small differences "
        f"({'; '.join(figures)}): {_listed(sets)}. This measures how well annotators agree; a model can hardly agree "
        "with either of them better. Keep one annotation of each image."
    )
    evidence = {"sets": label_sets(sets), "count": len(found), "iou": iou[:50], "distance": distance[:50]}
    paths = paths_of(sets)
    return [Finding("duplicates/annotator-agreement", "info", message, evidence, paths, *_shown(sets, paths))]


def _shown(
    found: list[pd.DataFrame], paths: list[str]
) -> tuple[dict[str, str], dict[str, list[tuple[float, float, float, float]]]]:
    """Return the caption of each image, its label in words, and the boxes of its objects."""
    rows = pd.concat(found).set_index("path", drop=False).loc[paths]
    captions = {row.path: readable_label(row) for row in rows.itertuples()}
    annotations = zip(paths, parse_annotations(rows), strict=True)
    return captions, {path: [shape.box for shape in one.shapes] for path, one in annotations if one.shapes}


def _compared(copies: Copies) -> str:
    """Return which copies were searched: those with equal pixels, and those that the search finds reliably."""
    reliable = describe_detection(copies.planted_same, reliable=True)
    return f"Copies with equal pixels were searched{f', and copies that are {reliable}' if reliable else ' only'}."


def _repeats(found: list[pd.DataFrame], copies: Copies) -> Finding:
    if not found:
        message = f"No image was found more than once with the same label. {_compared(copies)}"
        return Finding("duplicates/same-label", "passed", message)
    extra = sum(len(same) - 1 for same in found)
    across = [same for same in found if same["group"].nunique() > 1]
    message = (
        f"{_images(len(found))} more than once with the same label; {quantity(extra, 'image')} "
        f"{'is' if extra == 1 else 'are'} redundant. "
        f"{_in_groups(found, across, 'set of copies', 'sets of copies')}"
    )
    evidence = {"sets": label_sets(found), "count": len(found), "across_groups": len(across)}
    return Finding("duplicates/same-label", "warning", message, evidence, paths_of([*across, *_without(found, across)]))


def _near(found: list[pd.DataFrame], data: AuditData, total: int) -> list[Finding]:
    """Report near-duplicates with one label; nothing if there are none and the search would not find copies.

    Args:
        found: sets of near-duplicates with one label.
        data: input of the audits.
        total: number of all sets of near-duplicates.
    """
    copies = data.copies
    similar = copies.clusters.across_groups() if copies.clusters else []
    if copies.clusters and not explain_most([*copies.same, *copies.near], similar):
        return [_clusters(copies.clusters, similar)]
    if not found:
        label = " with the same label" if total else ""
        kinds = describe_detection(copies.planted, reliable=True)
        message = f"No copies{label} were found that are {kinds}."
        return [Finding("duplicates/near-duplicates", "passed", message)] if kinds and copies.clusters else []
    across = [near for near in found if near["group"].nunique() > 1]
    pairs = copies.pairs
    changed = pairs[~pairs["same"] & pairs["first"].isin({path for near in found for path in near["path"]})]
    pairs_by_change = {kind: int(changed[kind].sum()) for kind in CHANGES}
    counts = ", ".join(quantity(count, f"{kind} pair") for kind, count in pairs_by_change.items() if count)
    message = (
        f"{quantity(sum(map(len, found)), 'image')} in {quantity(len(found), 'set')} are more similar to one another "
        f"than distinct images of this data set are{f' ({counts})' if counts else ''}. They may be edited copies, or "
        "frames of one scene. "
        f"{_in_groups(found, across, 'set', 'sets', ' if their images show the same object or scene')}"
    )
    differing = find_differing_parts(changed, data.rows, data.folder)
    if differing:
        compared = quantity(min(len(changed), MAX_PAIRS), "compared pair")
        message += (
            f" In {len(differing)} of {compared}, one part of the image differs and the rest does not: "
            f"{list_pairs(differing, 3)}. Do these pairs show different objects on one background? If so, do not merge "
            "their groups."
        )
    evidence = {
        "sets": label_sets(found),
        "count": len(found),
        "across_groups": len(across),
        "pairs": _evidence_rows(changed),
        "differ_in_one_part": differing[:50],
    }
    shown = paths_of([*across, *_without(found, across)])
    return [Finding("duplicates/near-duplicates", "warning" if across else "info", message, evidence, shown)]


def _clusters(clusters: Clusters, similar: list[tuple[str, str]]) -> Finding:
    """Report images of different groups in one cluster of similar images."""
    compared = len(clusters.sample)
    message = (
        f"{len(similar)} of {quantity(compared, 'image')} {'has' if len(similar) == 1 else 'have'} an image of another "
        f"group that is far nearer than distinct images are: {list_pairs(similar, 3)}. They may be "
        "exposures, views or frames of one object: if so, give the images of an object the same group, "
        "by a column of the table, by ingest.group_regex, or by a table of similar images, which `macula configure` "
        "writes (ingest.group_table). Single edited copies cannot be recognized among them."
    )
    evidence = clusters.evidence(similar, compared)
    return Finding(
        "duplicates/near-duplicates", "warning", message, evidence, [path for pair in similar[:12] for path in pair]
    )


def _near_conflicts(found: list[pd.DataFrame], copies: Copies) -> list[Finding]:
    if not found:
        kinds = describe_detection(copies.planted, reliable=True)
        message = f"No copies with different labels were found that are {kinds}."
        is_known = kinds and copies.clusters
        return [Finding("duplicates/near-duplicate-conflicts", "passed", message)] if is_known else []
    message = (
        f"{quantity(len(found), 'set')} of near-duplicates {'has' if len(found) == 1 else 'have'} different labels: "
        f"{_listed(found)}. Check whether they show the same object; if so, correct the wrong labels."
    )
    evidence = {"sets": label_sets(found), "count": len(found)}
    return [Finding("duplicates/near-duplicate-conflicts", "warning", message, evidence, paths_of(found))]


def _in_groups(found: list[pd.DataFrame], across: list[pd.DataFrame], noun: str, plural: str, when: str = "") -> str:
    """Return sentences about the groups of duplicates: only duplicates in one group are certain to be in one split.

    Args:
        found: sets of duplicates.
        across: those sets that are in several groups.
        noun: name of a set.
        plural: name of several sets.
        when: condition on which the groups of a set should be merged.
    """
    if not across:
        return f"Each {noun} is in one group."
    inside = len(found) - len(across)
    joined = "; ".join(_groups(near) for near in across[:3]) + ("; ..." if len(across) > 3 else "")
    kept = f"{quantity(inside, noun, plural)} {'is' if inside == 1 else 'are'} in one group" if inside else ""
    kept = f"{kept}{'' if inside == 1 else ' each'}. " if kept else ""
    span = "spans" if len(across) == 1 else "span"
    return (
        f"{kept}{quantity(len(across), noun, plural)} {span} several groups: {joined}. Merge the groups of "
        f"{'this' if len(across) == 1 else 'each'} set{when}."
    )


def _groups(near: pd.DataFrame, most: int = 4) -> str:
    groups = near["group"].unique()
    return " = ".join(f"`{group}`" for group in groups[:most]) + (" = ..." if len(groups) > most else "")


def _without(found: list[pd.DataFrame], without: list[pd.DataFrame]) -> list[pd.DataFrame]:
    excluded = {id(rows) for rows in without}
    return [rows for rows in found if id(rows) not in excluded]


def _evidence_rows(pairs: pd.DataFrame, most: int = 50) -> list[dict[str, object]]:
    shown = pairs[["first", "second", "correlation", *CHANGES, "expected"]].head(most)
    return [{str(key): value for key, value in row.items()} for row in shown.to_dict("records")]


def _listed(found: list[pd.DataFrame]) -> str:
    return "; ".join(_one_listed(same) for same in found[:3]) + ("; ..." if len(found) > 3 else "")


def _one_listed(same: pd.DataFrame, most: int = 4) -> str:
    """Return the first images of a set with their labels, each label once before the others."""
    ordered = pd.concat([same.drop_duplicates("label"), same[same.duplicated("label")]])[:most]
    more = f" and {len(same) - most:,} more" if len(same) > most else ""
    return (" and " if len(same) == 2 else ", ").join(_path_and_label(row) for row in ordered.itertuples()) + more


def _images(count: int) -> str:
    return f"{quantity(count, 'image')} {'occurs' if count == 1 else 'occur'}"


def _path_and_label(row) -> str:  # type: ignore[no-untyped-def]  # pandas names the tuple only at run time
    label = readable_label(row)
    return f"`{row.path}` ({label})" if label else f"`{row.path}`"
