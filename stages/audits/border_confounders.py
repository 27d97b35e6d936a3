"""Where in an image the label is told: by its border alone, by a spot at the border, by a thumbnail.

What stands around a thing, a tag in a corner (Lapuschkin et al. 2019, "Unmasking Clever Hans predictors"), a frame or
another background, is as good for a network as the thing itself.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.images.image_statistics import THUMBNAIL_SIZE, unpack_thumbnails
from stages.probes.linear_probe import probe
from stages.probes.univariate import single_tells

Array = np.ndarray[Any, Any]
AS_MUCH = 0.8  # of what a whole thumbnail foretells: so much of the border alone is suspicious
ELSEWHERE = 0.8  # AUC up to which the rest of the border says little, so that a spot that says more stands out
AS_USUAL = 0.5  # of the difference that a tag makes: so far a spot may be from the rest of the border without it
SPOTS = [(row, column) for row in range(THUMBNAIL_SIZE) for column in range(THUMBNAIL_SIZE)
         if {row, column} & {0, THUMBNAIL_SIZE - 1}]  # fmt: skip
"""Of a thumbnail, those at the border."""


def find(rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    """`confounder/thumbnail` informs, `confounder/border` warns, `confounder/border-spot` blocks."""
    cells = unpack_thumbnails(rows["thumbnail"])
    border = _frame(cells[:, [row for row, _ in SPOTS], [column for _, column in SPOTS]])
    whole = probe(_frame(cells), rows["label"], rows["group"], permutations=0).skill
    return [_thumbnail(whole), _border(border, whole, rows, audit), _spot(cells, rows, audit)]


def _frame(cells: Array) -> pd.DataFrame:
    """[N, ..., 3] as columns; one of three where all is grey."""
    grey = bool((cells == cells[..., :1]).all())
    flat = (cells[..., :1] if grey else cells).reshape(len(cells), -1).astype(float)
    return pd.DataFrame(flat).loc[:, lambda frame: frame.nunique() > 1]


def _thumbnail(skill: float) -> Finding:
    says = (
        f"A thumbnail of {THUMBNAIL_SIZE}x{THUMBNAIL_SIZE} pixels, looked at by a linear model, foretells the label with skill "
        f"{skill:.2f} (0 chance, 1 certain): a network that does no better has not looked closer."
    )
    return Finding("confounder/thumbnail", "info", says, {"skill": skill})


def _border(border: pd.DataFrame, whole: float, rows: pd.DataFrame, audit: Audit) -> Finding:
    if border.empty:
        return Finding("confounder/border", "passed", "The border of all images is the same.", {"whole": whole})
    found = probe(border, rows["label"], rows["group"], audit.permutations, audit.min_skill)
    evidence = {"skill": found.skill, "p": found.p, "whole": whole, "images": len(rows)}
    says = (
        f"The border alone, an eighth at each side, foretells the label with skill {found.skill:.2f} "
        f"(p = {found.p:.3f}); a thumbnail of the whole image with {whole:.2f}."
    )
    if found.p <= audit.max_p and found.skill >= audit.min_skill and found.skill >= AS_MUCH * whole:
        says += (
            " What is around the things tells as much as the things: other backgrounds, frames or stages. A network "
            "may learn that: crop closer, or show each class before the same backgrounds."
        )
        return Finding("confounder/border", "warning", says, evidence)
    return Finding("confounder/border", "passed", says, evidence)


def _spot(cells: Array, rows: pd.DataFrame, audit: Audit) -> Finding:
    """One spot of the border that tells a class where the rest of the border does not: a tag, a stamp, a date."""
    levels = pd.DataFrame({spot: cells[:, spot[0], spot[1]].mean(axis=1) for spot in SPOTS}, index=rows.index)
    by_class: dict[str, list[dict[str, Any]]] = {}
    for tell in single_tells(levels, rows["label"], rows["group"], most=len(SPOTS) * rows["label"].nunique()):
        by_class.setdefault(tell["label"], []).append(tell)
    tags = [
        tells[0]
        for tells in by_class.values()
        if tells[0]["auc"] >= audit.blocking_auc and tells[0]["p"] <= audit.max_p and _is_added(tells)
    ]
    if not tags:
        return Finding(
            "confounder/border-spot", "passed", "No spot at the border tells a class where the rest does not."
        )
    told = "; ".join(
        f"the {_where(*tag['feature'])} alone tells class `{tag['label']}` at {tag['accuracy']:.2f} balanced accuracy "
        f"(AUC {tag['auc']:.2f}, grey level {tag['direction']})"
        for tag in tags[:5]
    )
    says = (
        f"{told[0].upper()}{told[1:]}, and the rest of the border does not: look there for a tag, a stamp or a date, "
        "which a network would learn. Cut it away in all images."
    )
    images = [path for tag in tags[:4] for path in rows.loc[rows["label"] == tag["label"], "path"].head(6)]
    evidence = {"tags": [tag | {"feature": _where(*tag["feature"])} for tag in tags[:20]]}
    return Finding("confounder/border-spot", "blocking", says, evidence, list(dict.fromkeys(images)))


def _is_added(tells: list[dict[str, Any]]) -> bool:
    """Whether the strongest spot stands out in the class, and in the other classes looks as the rest of the border.

    Where the things themselves reach the border of the other classes, as digits do, it is they that the class lacks.
    """
    spot = tells[0]
    usual = float(np.median([tell["outside"] for tell in tells]))
    others_too = abs(spot["outside"] - usual) > AS_USUAL * abs(spot["inside"] - spot["outside"])
    return not others_too and float(np.median([tell["auc"] for tell in tells])) <= ELSEWHERE


def _where(row: int, column: int) -> str:
    """The place of a cell in words.

    >>> _where(0, 7), _where(4, 0), _where(7, 3)
    ('upper right corner', 'left edge, 5/8 down', 'lower edge, 4/8 across')
    """
    last = THUMBNAIL_SIZE - 1
    upper, side = {0: "upper", last: "lower"}.get(row), {0: "left", last: "right"}.get(column)
    if upper and side:
        return f"{upper} {side} corner"
    if upper:
        return f"{upper} edge, {column + 1}/{THUMBNAIL_SIZE} across"
    return f"{side} edge, {row + 1}/{THUMBNAIL_SIZE} down"
