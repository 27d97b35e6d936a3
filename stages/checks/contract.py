"""The rules that every manifest must keep: those of the table, and those of the form that its labels have."""

from collections.abc import Iterator

from stages.checks.rule import Rule
from stages.checks.subject import KINDS
from stages.dataset.manifest import COLUMNS
from stages.frame.sections import Checks
from stages.images.decode import READ

SEEN_BY_TRAINING = ("train", "val")
EVERY_KIND = frozenset((*KINDS, "one class"))


# fmt: off
# A rule a paragraph: name and words; expectation; what is wrong, and what it wants.
def contract(checks: Checks, kinds: frozenset[str]) -> Iterator[Rule]:
    """Every rule: first that there is an image at all, since an empty table breaks no other.

    Args:
        checks: the params.
        kinds: of labels that there are, as `Subject.kinds` has them.
    """
    yield Rule("not_empty", "there is at least one image", "ExpectTableRowCountToBeBetween",
               "the manifest has {observed} images, 1 is required", {"min_value": 1})
    yield from _of_the_splits()
    yield from _of_classes(checks, kinds)
    yield from _of_labels(kinds)
    yield from _of_images(checks)
    yield from _of_the_table()


def _of_the_table() -> Iterator[Rule]:
    yield Rule("path_unique", "every path occurs once", "ExpectColumnValuesToBeUnique",
               "share their path with another", {"column": "path"})
    yield Rule("column_types", "every column has its type", "column_types")
    for column in COLUMNS:  # the other rules overlook what is missing
        yield Rule(f"not_null_{column}", f"`{column}` is known of every image", "ExpectColumnValuesToNotBeNull",
                   f"have no `{column}`", {"column": column})


def _of_the_splits() -> Iterator[Rule]:
    yield Rule("split", "the split is train or val: the sealed test is elsewhere", "ExpectColumnValuesToBeInSet",
               "are neither in train nor in val", {"column": "split", "value_set": list(SEEN_BY_TRAINING)}, "splits")
    yield Rule("picture_in_one_split", "no picture is in two splits, the sealed test included", "picture_in_one_split",
               about="splits")
    yield Rule("group_in_one_split", "no group is in two splits, the sealed test included", "group_in_one_split",
               about="splits")


def _of_classes(checks: Checks, kinds: frozenset[str]) -> Iterator[Rule]:
    if "one class" in kinds:
        least = checks.min_classes
        yield Rule("min_classes", f"there are at least {least} classes", "ExpectColumnUniqueValueCountToBeBetween",
                   f"the number of classes is {{observed}}, {least} are required (checks.min_classes)",
                   {"column": "label", "min_value": least}, "labels")
    if kinds & {"labels", "shapes", "mask"}:
        yield Rule("class_names", "every class has a name, and one spelling", "class_names", about="labels")
        yield Rule("labels_in_both", "every class is in training and in validation", "labels_in_both", about="labels")
        for name, split, required in (
            ("min_train_per_class", "training", checks.min_train_per_class),
            ("min_validation_per_class", "validation", checks.min_validation_per_class),
        ):
            yield Rule(name, f"every class has at least {required} {split} images", name,
                       f", {required} are required (checks.{name})", {"limit": required}, "labels")


def _of_labels(kinds: frozenset[str]) -> Iterator[Rule]:
    yield Rule("annotation", "the labels of every image can be read", "annotation", about="labels")
    yield Rule("same_labels", "all images have labels of one kind, under the same names", "same_labels", about="labels")
    rules = {
        "scalars": (("scalars_finite", "every number is finite"),),
        "points": (("points_inside", "every point is inside its image"),
                   ("points_seen", "every point is visible somewhere in training and in validation")),
        "shapes": (("boxes_inside", "every box is inside its image"),
                   ("boxes_area", "every box has an area"),
                   ("outlines_size", "every outline has the size of its image, and is not empty")),
        "mask": (("mask_values", "every value in a mask is a class, or unknown"),
                 ("mask_known", "every mask knows the truth somewhere")),
    }
    for kind, those in rules.items():
        for name, words in those if kind in kinds else ():
            yield Rule(name, words, name, about="labels")
    if kinds & {"mask", "image"}:
        what = "mask" if "mask" in kinds else "paired image"
        yield Rule("target_readable", f"every {what} can be read", "target_readable", about="labels")
        yield Rule("target_size", f"every {what} has the size of its image", "target_size", about="labels")


def _of_images(checks: Checks) -> Iterator[Rule]:
    for side in ("width", "height"):
        yield Rule(side, f"the {side} is at least 1 pixel", "ExpectColumnValuesToBeBetween",
                   f"have a {side} below 1 pixel", {"column": side, "min_value": 1}, "images")
    yield Rule("format", f"the format is one of {', '.join(READ)}", "ExpectColumnValuesToBeInSet",
               "are of another format", {"column": "format", "value_set": list(READ)}, "images")
    yield Rule("min_side", f"the shorter side is at least {checks.min_side} pixels", "ExpectColumnValuesToBeBetween",
               f"have a shorter side below {checks.min_side} pixels (checks.min_side)",
               {"column": "shorter_side", "min_value": checks.min_side}, "images")
    yield Rule("max_aspect", f"the longer side is at most {checks.max_aspect:g} times the shorter",
               "ExpectColumnValuesToBeBetween",
               f"have a longer side more than {checks.max_aspect:g} times the shorter (checks.max_aspect)",
               {"column": "aspect", "max_value": checks.max_aspect}, "images")
    blank = checks.max_blank
    yield Rule("max_blank", f"at most {blank:.1%} of the images are a single grey level", "ExpectColumnValuesToBeInSet",
               f"are a single grey level, at most {blank:.1%} may be (checks.max_blank)",
               {"column": "blank", "value_set": [False], "mostly": 1 - blank}, "images")
# fmt: on
