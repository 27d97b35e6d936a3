"""Checks of the data set as a whole: each yields problems, and the images to inspect."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator

import pandas as pd

from stages.checks.check_data import CheckData, Sample, kinds_of
from stages.core.plurals import quantity
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import MANIFEST_COLUMNS

Problem = tuple[str, list[str]]
"""Sentence that names the faulty element and its value, and the paths of the images to inspect."""
SPLIT_NAMES = {"train": "training", "val": "validation"}
MAX_LISTED = 4  # images with equal pixels in a message


def column_types(data: CheckData) -> Iterator[Problem]:
    """Yield columns of the wrong type.

    The check replaces one of Great Expectations 1.24, which misreads the text type of pandas 3.
    """
    for name, required in MANIFEST_COLUMNS.items():
        column = data.rows[name]
        right = pd.api.types.is_string_dtype(column) if required == "str" else str(column.dtype) == required
        if not right and not column.isna().all():  # an empty column has no type
            yield f"column `{name}` has type {column.dtype}, but {required} is required", []


def same_labels(data: CheckData) -> Iterator[Problem]:
    """Yield images whose labels differ in kind, or in their names, from those of most images."""
    kinds = [(s.path, _kinds_and_names(s.annotation)) for s in data.samples if s.annotation is not None]
    usual, count = _usual_kind(data)
    others = f"{quantity(count, 'image')} {'has' if count == 1 else 'have'} {usual}"
    for path, found in kinds:
        if found != usual:
            yield f"`{path}`: has {found}, but {others}", [path]


def usual_samples(data: CheckData) -> list[Sample]:
    """Return the images whose labels can be parsed and are of the same kind, with the same names, as most."""
    usual, _ = _usual_kind(data)
    return [s for s in data.samples if s.annotation is not None and _kinds_and_names(s.annotation) == usual]


def _usual_kind(data: CheckData) -> tuple[str, int]:
    """Return the most frequent kind of labels with its names, and the number of images that have it."""
    kinds = Counter(_kinds_and_names(s.annotation) for s in data.samples if s.annotation is not None)
    return kinds.most_common(1)[0] if kinds else ("", 0)


NOUNS = {
    "labels": "class labels",
    "scalars": "numbers",
    "points": "points",
    "shapes": "objects",
    "mask": "a mask",
    "image": "a paired image",
}
"""Description of each kind of labels."""


def _kinds_and_names(annotation: Annotation) -> str:
    names = {kind: ", ".join(map(str, getattr(annotation, kind) or ())) for kind in ("scalars", "points", "mask")}
    kinds = [f"{NOUNS[kind]} ({names[kind]})" if names.get(kind) else NOUNS[kind] for kind in kinds_of(annotation)]
    return " and ".join(kinds) or "no labels"


def image_in_one_split(data: CheckData) -> Iterator[Problem]:
    """Yield images with equal pixels in two splits, the sealed test split included."""
    rows = data.rows
    for _, same in _across_splits(rows, "pixels"):
        ordered = pd.concat([same.drop_duplicates("split"), same[same.duplicated("split")]])[:MAX_LISTED]
        listed = [f"`{r.path}` ({SPLIT_NAMES.get(r.split, r.split)})" for r in ordered.itertuples()]
        images = (" and " if len(same) == 2 else ", ").join(listed)
        more = f" and {len(same) - MAX_LISTED} more" if len(same) > MAX_LISTED else ""
        yield f"{images}{more} have equal pixels", same["path"].astype(str).tolist()
    for row in rows[rows["pixels"].isin(data.sealed["pixels"])].itertuples():
        split = SPLIT_NAMES.get(row.split, row.split)
        yield f"`{row.path}`: is in the {split} split and in the sealed test split", [str(row.path)]


def group_in_one_split(data: CheckData) -> Iterator[Problem]:
    """Yield groups in two splits, the sealed test split included, except copies of one image (`image_in_one_split`)."""
    rows, sealed = data.rows, data.sealed
    for group, same in _across_splits(rows, "group"):
        if same["pixels"].eq(group).all():
            continue
        counts = same["split"].value_counts()
        parts = " and ".join(quantity(int(n), f"{SPLIT_NAMES.get(split, split)} image") for split, n in counts.items())
        yield f"group `{group}` has {parts}", same.drop_duplicates("split")["path"].astype(str).tolist()
    single_picture = rows["group"].eq(rows["pixels"]) & rows["pixels"].isin(sealed["pixels"])
    for group, same in rows[rows["group"].isin(sealed["group"]) & ~single_picture].groupby("group"):
        count = quantity(len(same), "training or validation image")
        yield f"group `{group}` has {count} and others in the sealed test split", list(same["path"])


def _across_splits(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    splits = rows.groupby(column)["split"].nunique()
    yield from rows[rows[column].isin(splits[splits > 1].index)].groupby(column)


def max_group_share(data: CheckData, *, share: float) -> Iterator[Problem]:
    """Yield groups that contain more than a fraction of the images."""
    shares = data.rows["group"].value_counts(normalize=True)
    for group, found in shares[shares > share].items():
        paths = data.rows.loc[data.rows["group"] == group, "path"].astype(str).tolist()
        yield f"group `{group}` has {quantity(len(paths), 'image')}, {found:.1%} of all", paths


def class_names(data: CheckData) -> Iterator[Problem]:
    """Yield classes without a name, and spellings that look like one class, such as `Cat` and `cat `."""
    rows = data.classes
    spellings = defaultdict(list)
    for label in sorted({*rows["label"], *data.mask_classes}):
        visible = "".join(sign for sign in unicodedata.normalize("NFKC", label) if unicodedata.category(sign) != "Cf")
        spellings[" ".join(visible.casefold().split())].append(label)
    for name, similar in spellings.items():
        paths = rows[rows["label"].isin(similar)].drop_duplicates("label")["path"].tolist()
        if not name:
            yield f"the name of a class is empty: `{similar[0]}`", paths
        elif len(similar) > 1:
            counts = [f"`{label}` ({quantity(int(rows['label'].eq(label).sum()), 'image')})" for label in similar]
            yield f"{', '.join(counts)} differ only in case, spaces, invisible signs or Unicode encoding", paths


def labels_in_both(data: CheckData) -> Iterator[Problem]:
    """Yield classes that occur only in training or only in validation."""
    for label, rows in data.classes.groupby("label"):
        splits, paths = set(rows["split"]), rows["path"].tolist()
        for split, other in (("train", "val"), ("val", "train")):
            if splits == {split}:
                count = quantity(len(paths), f"{SPLIT_NAMES[split]} image")
                yield f"class `{label}` has {count} but no {SPLIT_NAMES[other]} image", paths


def min_train_per_class(data: CheckData, *, limit: int) -> Iterator[Problem]:
    """Yield classes with fewer training images than a limit, the rarest first."""
    yield from _rare_classes(data, "train", limit)


def min_validation_per_class(data: CheckData, *, limit: int) -> Iterator[Problem]:
    """Yield classes with fewer validation images than a limit, the rarest first."""
    yield from _rare_classes(data, "val", limit)


def _rare_classes(data: CheckData, split: str, limit: int) -> Iterator[Problem]:
    rows = data.classes
    counts = rows["split"].eq(split).groupby(rows["label"]).sum()
    counts = counts.reindex(counts.index.union(data.mask_classes), fill_value=0)
    for label, number in counts[counts < limit].sort_values(kind="stable").items():
        paths = list(rows.loc[rows["label"] == label, "path"])
        yield f"class `{label}` has {quantity(number, f'{SPLIT_NAMES[split]} image')}", paths


def only_classes(data: CheckData, *, classes: list[str]) -> Iterator[Problem]:
    """Yield classes that are not listed, and listed classes without an image."""
    found = data.classes
    for label, rows in found[~found["label"].isin(classes)].groupby("label"):
        yield f"class `{label}` is not listed but has {quantity(len(rows), 'image')}", list(rows["path"])
    for label in sorted(set(classes) - set(found["label"])):
        yield f"class `{label}` is listed but has no image", []


def points_seen(data: CheckData) -> Iterator[Problem]:
    """Yield points that are not visible in any image of a split."""
    for split, name in SPLIT_NAMES.items():
        images = [s.labels.points or {} for s in data.samples if s.annotation is not None and s.split == split]
        for point in dict.fromkeys(point for points in images for point in points):
            if all(points.get(point) is None for points in images):
                yield f"point `{point}` is visible in 0 of {quantity(len(images), f'{name} image')}", []
