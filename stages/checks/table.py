"""Finders of what is wrong with the table as such: types, labels that cannot be read, images in two splits."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from stages.checks.finder import Offence, count, each
from stages.checks.subject import KINDS, Subject
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import MANIFEST_COLUMNS

WORDS = {"train": "training", "val": "validation"}


def column_types(subject: Subject) -> Iterator[Offence]:
    """Columns of another type than `COLUMNS` has; asked of pandas, since Great Expectations mistakes its text."""
    for name, wanted in MANIFEST_COLUMNS.items():
        column = subject.rows[name]
        right = pd.api.types.is_string_dtype(column) if wanted == "str" else str(column.dtype) == wanted
        if not right and not column.isna().all():  # of nothing at all no type is known
            yield f"column `{name}` holds {column.dtype}, {wanted} is required", []


def annotation(subject: Subject) -> Iterator[Offence]:
    """Labels that cannot be read at all."""
    texts = zip(subject.rows["annotation"], subject.annotations, strict=True)
    yield from each(
        subject, ("" if a or pd.isna(text) else f"its labels cannot be read: {text:.60}" for text, a in texts)
    )


def same_labels(subject: Subject) -> Iterator[Offence]:
    """Images whose labels are of another kind, or under other names, than those of most."""
    forms = [_form(a) for a in subject.annotations]
    known = Counter(form for form in forms if form is not None)
    usual = known.most_common(1)[0][0] if known else ""
    yield from each(subject, (f"has {form}; most have {usual}" if form not in (None, usual) else "" for form in forms))


def _form(annotation: Annotation | None) -> str | None:
    if annotation is None:
        return None
    held: dict[str, Any] = {kind: getattr(annotation, kind) for kind in KINDS}
    named = {kind: list(held[kind] or ()) for kind in ("scalars", "points", "mask")}
    told = [kind for kind in KINDS if held[kind] not in (None, False)]
    return ", ".join(f"{k} {', '.join(map(str, named[k]))}".strip() if k in named else k for k in told) or "no labels"


def picture_in_one_split(subject: Subject) -> Iterator[Offence]:
    """Pictures, pixel for pixel, that stand in both splits, or in one of them and in the sealed test."""
    rows = subject.rows
    for _, same in _across(rows, "pixels"):
        told = " = ".join(f"`{r.path}` ({WORDS.get(r.split, r.split)})" for r in same.itertuples())
        yield f"{told} are one picture", same["path"].astype(str).tolist()
    for row in rows[rows["pixels"].isin(subject.sealed["pixels"])].itertuples():
        yield f"`{row.path}`: a picture of {WORDS.get(row.split, row.split)} and of the sealed test", [str(row.path)]


def group_in_one_split(subject: Subject) -> Iterator[Offence]:
    """Groups that stand in both splits, or in one of them and in the sealed test; of one picture only are none."""
    rows, sealed = subject.rows, subject.sealed
    for group, same in _across(rows, "group"):
        if same["pixels"].eq(group).all():
            continue
        parts = same["split"].value_counts()
        told = " and ".join(count(int(n), f"{WORDS.get(split, split)} image") for split, n in parts.items())
        yield f"group `{group}` has {told}", same.drop_duplicates("split")["path"].astype(str).tolist()
    one_picture = rows["group"].eq(rows["pixels"]) & rows["pixels"].isin(sealed["pixels"])
    for group, same in rows[rows["group"].isin(sealed["group"]) & ~one_picture].groupby("group"):
        yield f"group `{group}` has {count(len(same), 'image')} here and others in the sealed test", list(same["path"])


def _across(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """What shares a value in a column and does not share its split."""
    splits = rows.groupby(column)["split"].nunique()
    yield from rows[rows[column].isin(splits[splits > 1].index)].groupby(column)
