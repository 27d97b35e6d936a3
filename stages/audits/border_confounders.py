"""Border audit: can the border, or a spot of the border, alone predict the label?

A network can use the background, a frame or a tag in a corner instead of the object (Lapuschkin et al. 2019, "Unmasking
Clever Hans predictors and assessing what machines really learn").
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.audits.power import Power, require_power
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.images.image_statistics import THUMBNAIL_SIZE, unpack_thumbnails
from stages.probes.linear_probe import Skill, probe
from stages.probes.univariate import single_feature_separation

Array = np.ndarray[Any, Any]
SUSPICIOUS_SHARE = 0.8  # skill of the border, as a share of the skill of a whole thumbnail
MAX_REST_AUC = 0.8  # AUC of the rest of the border, up to which a spot with a higher AUC is a tag
MAX_OFFSET = 0.5  # offset of a spot from the border in the other classes, as a share of its difference between classes
BORDER_TRIALS = 5  # planted faults; half as many as elsewhere, because a trial costs more
BRIGHT = 128  # median grey level of a spot from which a planted stamp is black
SPOTS = [(row, column) for row in range(THUMBNAIL_SIZE) for column in range(THUMBNAIL_SIZE)
         if {row, column} & {0, THUMBNAIL_SIZE - 1}]  # fmt: skip
"""Rows and columns of the cells at the border of a thumbnail."""


def find(rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    """Report whether the border (warning) or a spot of the border (blocking) predicts the label."""
    cells = unpack_thumbnails(rows["thumbnail"])
    border = cell_columns(cells[:, [row for row, _ in SPOTS], [column for _, column in SPOTS]])
    whole = probe(cell_columns(cells), rows["label"], rows["group"], permutations=0).skill
    return [*_border(border, whole, rows, audit), *_spot(cells, rows, audit)]


def cell_columns(cells: Array) -> pd.DataFrame:
    """Return cells [N, ..., 3] as the columns of a table, without constant ones; one channel if all images are grey."""
    grey = bool((cells == cells[..., :1]).all())
    flat = (cells[..., :1] if grey else cells).reshape(len(cells), -1).astype(float)
    return pd.DataFrame(flat).loc[:, lambda table: table.nunique() > 1]


def _border(border: pd.DataFrame, whole: float, rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    if border.empty:  # not a test: any difference would be seen
        return [Finding("confounder/border", "passed", "The border of all images is the same.", {"whole": whole})]
    result = probe(border, rows["label"], rows["group"], audit.permutations, audit.min_skill)
    evidence = {"skill": result.skill, "p": result.p, "whole": whole, "images": len(rows)}
    message = (
        f"The border alone (an eighth at each side) predicts the label with skill {result.skill:.2f} "
        f"(0: chance, 1: perfect; p = {result.p:.3f}). A thumbnail of the whole image does so with skill {whole:.2f}."
    )
    if result.p <= audit.max_p and result.skill >= audit.min_skill and result.skill >= SUSPICIOUS_SHARE * whole:
        message += (
            f" The skill of the border is at least {SUSPICIOUS_SHARE:.0%} of that of the thumbnail: the classes may "
            "differ in background or frame, which a network may learn. Crop closer, or record all classes with the "
            "same backgrounds."
        )
        return [Finding("confounder/border", "warning", message, evidence)]
    message += (
        f" This is reported if the skill is at least {audit.min_skill:g} and {SUSPICIOUS_SHARE:.0%} of that of the "
        f"thumbnail, with p of at most {audit.max_p:g}."
    )
    found = Finding("confounder/border", "passed", message, evidence)
    return require_power(found, [_border_power(border, whole, result, rows, audit)])


def _border_power(border: pd.DataFrame, whole: float, clean: Skill, rows: pd.DataFrame, audit: Audit) -> Power:
    """Return how often the audit finds that each class has its own background, two standard deviations from the next.

    The skill of the thumbnail is not measured again: it is at least the higher one of `whole` and that of the border.
    """
    step = max(1.0, 2 * float(border.mean(axis=1).std()))
    codes, names = pd.factorize(rows["label"])
    found = 0
    for trial in range(BORDER_TRIALS):
        level_K = np.random.default_rng(trial).permutation(len(names)) * step
        result = probe(border.add(level_K[codes], axis=0), rows["label"], rows["group"], permutations=0)
        found += (
            clean.p_of(result.margin) <= audit.max_p
            and result.skill >= audit.min_skill
            and result.skill >= SUSPICIOUS_SHARE * whole
        )
    alarms, permutations = clean.false_alarms(audit.max_p, max(audit.min_skill, SUSPICIOUS_SHARE * whole))
    return Power(
        f"backgrounds of the classes that are {step:.0f} levels apart",
        found,
        BORDER_TRIALS,
        "More images, in more groups per class, are required; if the thumbnail predicts the label well, a border "
        "stands out only if it predicts it nearly as well.",
        f"false alarms in {alarms} of {permutations} permutations",
    )


def _spot(cells: Array, rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    """Report a spot of the border that separates a class although the rest of the border does not, such as a tag."""
    levels = pd.DataFrame({spot: cells[:, spot[0], spot[1]].mean(axis=1) for spot in SPOTS}, index=rows.index)
    tags = _tags(levels, rows["label"], rows["group"], audit)
    if not tags:
        message = "No spot of the border separates a class that the rest of the border does not separate."
        found = Finding("confounder/border-spot", "passed", message)
        return require_power(found, [_stamp_power(levels, rows, audit)])
    spots = "; ".join(
        f"the {_position(*tag['feature'])} alone separates class `{tag['label']}` with balanced accuracy "
        f"{tag['accuracy']:.2f} (AUC {tag['auc']:.2f}, grey level {tag['direction']})"
        for tag in tags[:5]
    ) + ("; ..." if len(tags) > 5 else "")
    message = (
        f"{spots[0].upper()}{spots[1:]}. The rest of the border does not. Look there for a tag, a stamp or a date, "
        "which a network would learn, and crop it off in all images."
    )
    images = [path for tag in tags[:4] for path in rows.loc[rows["label"] == tag["label"], "path"].head(6)]
    evidence = {"tags": [tag | {"feature": _position(*tag["feature"])} for tag in tags[:20]]}
    return [Finding("confounder/border-spot", "blocking", message, evidence, list(dict.fromkeys(images)))]


def _tags(levels: pd.DataFrame, labels: pd.Series, groups: pd.Series, audit: Audit) -> list[dict[str, Any]]:
    """Return the strongest spot of each class that is a tag.

    Args:
        levels: grey level of each spot of the border.
        labels: class of each image.
        groups: group of each image.
        audit: thresholds.
    """
    by_class: dict[str, list[dict[str, Any]]] = {}
    for tell in single_feature_separation(levels, labels, groups, most=len(SPOTS) * labels.nunique()):
        by_class.setdefault(tell["label"], []).append(tell)
    return [
        tells[0]
        for tells in by_class.values()
        if tells[0]["auc"] >= audit.blocking_auc and tells[0]["p"] <= audit.max_p and _is_added(tells)
    ]


def _stamp_power(levels: pd.DataFrame, rows: pd.DataFrame, audit: Audit) -> Power:
    """Return how often a white or black stamp on a random spot of the border of one class is found."""
    names = sorted(rows["label"].unique())
    rng, found = np.random.default_rng(0), 0
    for _ in range(BORDER_TRIALS):
        label, spot = names[rng.integers(len(names))], SPOTS[rng.integers(len(SPOTS))]
        stamped_N = rows["label"] == label
        colour = 255.0 if levels[spot].median() < BRIGHT else 0.0
        planted = levels.copy()
        planted[spot] = levels[spot].where(~stamped_N, colour)
        others = stamped_N.map({True: label, False: "others"})
        found += any(tag["label"] == label for tag in _tags(planted, others, rows["group"], audit))
    missing = "More groups per class, or images whose border shows less of the content, are required."
    alarms = "false alarms in 0 of 150 data sets of the audit benchmark"
    return Power("a stamp at the border of one class", found, BORDER_TRIALS, missing, alarms)


def _is_added(tells: list[dict[str, Any]]) -> bool:
    """Return True if the first spot differs from the rest of the border in this class only.

    In addition, the rest of the border must not separate the class. If the objects of the other classes reach the
    border, as digits do, the spot also differs from the rest of the border in these classes.
    """
    spot = tells[0]
    usual = float(np.median([tell["outside"] for tell in tells]))
    also_in_others = abs(spot["outside"] - usual) > MAX_OFFSET * abs(spot["inside"] - spot["outside"])
    return not also_in_others and float(np.median([tell["auc"] for tell in tells])) <= MAX_REST_AUC


def _position(row: int, column: int) -> str:
    """Return the position of a cell in words.

    >>> _position(0, 7), _position(4, 0), _position(7, 3)
    ('upper right corner', 'left edge, 5/8 down', 'lower edge, 4/8 across')
    """
    last = THUMBNAIL_SIZE - 1
    upper, side = {0: "upper", last: "lower"}.get(row), {0: "left", last: "right"}.get(column)
    if upper and side:
        return f"{upper} {side} corner"
    if upper:
        return f"{upper} edge, {column + 1}/{THUMBNAIL_SIZE} across"
    return f"{side} edge, {row + 1}/{THUMBNAIL_SIZE} down"
