"""The contract of the manifest: rules by the form of its labels, each one an expectation of Great Expectations."""

from stages.checks import classes, labels, table, targets
from stages.checks.finder import Finder

FINDERS: dict[str, Finder] = {
    "column_types": table.column_types,
    "annotation": table.annotation,
    "same_labels": table.same_labels,
    "picture_in_one_split": table.picture_in_one_split,
    "group_in_one_split": table.group_in_one_split,
    "class_names": classes.class_names,
    "labels_in_both": classes.labels_in_both,
    "min_train_per_class": classes.too_few("train", "training"),
    "min_validation_per_class": classes.too_few("val", "validation"),
    "only_classes": classes.only_classes,
    "max_group_share": classes.max_group_share,
    "scalars_finite": labels.scalars_finite,
    "points_inside": labels.points_inside,
    "points_seen": labels.points_seen,
    "boxes_inside": labels.boxes_inside,
    "boxes_area": labels.boxes_area,
    "outlines_size": labels.outlines_size,
    "target_readable": targets.target_readable,
    "target_size": targets.target_size,
    "mask_values": targets.mask_values,
    "mask_known": targets.mask_known,
}
"""What Great Expectations has no expectation for; add one here and to the contract."""
