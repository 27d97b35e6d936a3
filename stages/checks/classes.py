"""Finders of what is wrong with classes: of images, of the things in them, or of the pixels of masks."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

import pandas as pd

from stages.checks.finder import Finder, Offence, count
from stages.checks.subject import Subject


def labels_in_both(subject: Subject) -> Iterator[Offence]:
    """Classes that only training or only validation has; nothing can be learnt or measured of them."""
    for label, rows in subject.classes.groupby("label"):
        seen, paths = set(rows["split"]), rows["path"].tolist()
        if seen == {"train"}:
            yield f"class `{label}` has {count(len(paths), 'training image')} but none for validation", paths
        elif seen == {"val"}:
            yield f"class `{label}` has {count(len(paths), 'validation image')} but none for training", paths


def too_few(split: str, words: str) -> Finder:
    """A finder of the classes that have fewer images in a split than required, the poorest first."""

    def find(subject: Subject, *, limit: int) -> Iterator[Offence]:
        found = subject.classes
        counts = found["split"].eq(split).groupby(found["label"]).sum()
        counts = counts.reindex(counts.index.union(subject.mask_classes), fill_value=0)
        for label, number in counts[counts < limit].sort_values(kind="stable").items():
            says = f"class `{label}` has {count(number, f'{words} image')}"
            yield says, list(found.loc[found["label"] == label, "path"])

    return find


def class_names(subject: Subject) -> Iterator[Offence]:
    """Classes without a name, and spellings that a person takes for one class, as `Cat` and `cat `."""
    rows = subject.classes
    spellings = defaultdict(list)
    for label in sorted({*rows["label"], *subject.mask_classes}):
        spellings[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    for name, alike in spellings.items():
        those = rows[rows["label"].isin(alike)].drop_duplicates("label")["path"].tolist()
        if not name:
            yield f"a class has no name: `{alike[0]}`", those
        elif len(alike) > 1:
            told = ", ".join(f"`{label}` ({count(int((rows['label'] == label).sum()), 'image')})" for label in alike)
            yield f"{told} differ only in case, blanks or the encoding of their letters", those


def only_classes(subject: Subject, *, classes: list[str]) -> Iterator[Offence]:
    """Classes other than those named; and those named of which there is no image."""
    found = subject.classes
    for label, rows in found[~found["label"].isin(classes)].groupby("label"):
        yield f"class `{label}` has {count(len(rows), 'image')}", list(rows["path"])
    for label in sorted(set(classes) - set(found["label"])):
        yield f"class `{label}` has no image", []


def max_group_share(subject: Subject, *, share: float) -> Iterator[Offence]:
    """Groups that hold more than a share of the images: what is learnt is then about them."""
    rows: pd.DataFrame = subject.rows
    shares = rows["group"].value_counts(normalize=True)
    for group, held in shares[shares > share].items():
        those = rows.loc[rows["group"] == group, "path"].astype(str).tolist()
        yield f"group `{group}` has {count(len(those), 'image')}, {held:.1%} of all", those
